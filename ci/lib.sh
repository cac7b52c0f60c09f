# shellcheck shell=bash
# What ci/demo and ci/test share: a working engine and a registry on this machine, the caller's own if there is one.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A clone that another user owns, or a machine without git, is no reason to fail.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

say() { printf '\n==> %s\n' "$*" >&2; }

# own_engine reports whether the caller has a dagger CLI v0.19 or newer whose engine answers.
own_engine() {
  local version
  command -v dagger >/dev/null || return 1
  version=$(dagger version 2>/dev/null | sed -n 's/^dagger v\([0-9]*\.[0-9]*\).*/\1/p')
  [ -n "$version" ] && [ "$(printf '%s\n0.19\n' "$version" | sort -V | head -1)" = 0.19 ] || return 1
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

# browser makes sure that there is a Chromium to look at the report with.
browser() {
  local name
  for name in chromium chromium-browser google-chrome chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  say "installing Chromium"
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "ci/test: no Chromium on the PATH: install one (on Debian: apt-get install chromium)" >&2
    return 2
  fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
}
