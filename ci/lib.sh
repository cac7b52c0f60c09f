# shellcheck shell=bash
# What ci/demo and ci/test share: a working engine and a registry on this machine, the caller's own if there is one.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A clone that another user owns, or a machine without git, is no reason to fail.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

say() { printf '\n==> %s\n' "$*" >&2; }

# own_engine reports whether the caller has a dagger CLI v0.19.10 or newer whose engine answers.
own_engine() {
  local version
  command -v dagger >/dev/null || return 1
  version=$(dagger version 2>/dev/null | sed -n 's/^[^0-9]*v\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -1)
  [ -n "$version" ] && [ "$(printf '%s\n0.19.10\n' "$version" | sort -V | head -1)" = 0.19.10 ] || return 1
  timeout 120 dagger core version >/dev/null 2>&1
}

# with_engine runs a command with dagger on the PATH, an engine behind it, and SLIPWAY_REGISTRY naming a registry on this machine.
with_engine() {
  if [ -n "${SLIPWAY_ENGINE:-}" ] || ! own_engine; then
    "$root/ci/local/run" exec -- "$@"
  else
    say "using your own dagger: $(dagger version)"
    "$root/ci/local/run" exec --registry-only -- "$@"
  fi
}

# installed makes sure that a program is there that the tests look at the results with: NAME PACKAGE CHECK, where CHECK is a command
# that succeeds if it is.
installed() {
  local name=$1 package=$2
  shift 2
  ! "$@" >/dev/null 2>&1 || return 0
  say "installing $name"
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "ci/test: no $name: install it (on Debian: apt-get install $package)" >&2
    return 2
  fi
  # shellcheck disable=SC2086 # some are two packages
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $package >/dev/null
}

# judges are the programs that are not made from Go modules: a browser for the report, Python for the SBOM formats' validators, curl, and what runs
# the CI wrappers without their services.
judges() {
  installed Chromium chromium sh -c 'command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome'
  installed "Python with venv" "python3 python3-venv" python3 -c 'import venv, ensurepip'
  installed curl curl sh -c 'command -v curl'
  installed "Node.js with npm" "nodejs npm" sh -c 'command -v node && command -v npm'
  installed "Groovy with Java" "groovy default-jre-headless" sh -c 'command -v java && ls /usr/share/groovy/lib/groovy-2*.jar'
  installed socat socat sh -c 'command -v socat'
  installed rsync rsync sh -c 'command -v rsync'
}
