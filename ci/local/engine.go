package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	goarch = runtime.GOARCH
	// engineVersion is the newest whose CLI and engine build from the Go module proxy.
	engineVersion = "v0.19.10"
	// neededBytes is what a first up writes, with room for the engine's own cache.
	neededBytes = 8 << 30
	// keptCache is what the engine may keep of its cache, and leftFree what it leaves free on the disk if it can. It would take three quarters
	// of a disk that may not be its own: both in the form of its configuration.
	keptCache, leftFree = "24GB", "10GB"
)

// fewerCollections lets the compiler's short-lived processes collect garbage less often: a sixth less processor time.
const fewerCollections = "GOGC=400"

// debianPackages are the programs that the engine runs, and those that make the images.
var debianPackages = map[string]string{ // package: a file that it brings
	"runc":                        "/usr/sbin/runc",
	"dnsmasq-base":                "/usr/sbin/dnsmasq",
	"iptables":                    "/usr/sbin/iptables",
	"containernetworking-plugins": "/usr/lib/cni/bridge",
	"git":                         "/usr/bin/git",
	"ripgrep":                     "/usr/bin/rg",
	"mmdebstrap":                  "/usr/bin/mmdebstrap",
}

// ensureEngine builds what the engine needs and starts it.
func (m *machine) ensureEngine(ctx context.Context, registry string) error {
	inputs, err := m.inputs(ctx, registry)
	if err != nil {
		return err
	}
	socket := strings.TrimPrefix(m.socket(), "unix://")
	listener, err := m.listener()
	if err != nil {
		return err
	}
	if p, err := m.readProcess("engine"); err == nil && p.alive() && p.Inputs == inputs && p.Listener == listener && answers("unix", socket) {
		return nil
	}
	if os.Geteuid() != 0 {
		return usagef("building and running an engine needs root: run it as root, or install dagger and Docker (https://docs.dagger.io)")
	}
	if err := m.build(ctx, registry, inputs); err != nil {
		return err
	}
	if err := m.stopEngine(ctx); err != nil {
		return fmt.Errorf("stopping the old engine: %w", err)
	}
	return m.log.step("starting the engine", func() error { return m.startEngine(ctx, registry, socket, inputs, listener) })
}

// build makes the programs and images at the same time: compilers wait for the network now and then, and so does apt.
func (m *machine) build(ctx context.Context, registry, inputs string) error {
	if mark, err := os.ReadFile(m.path("run", "built")); err == nil && string(mark) == inputs {
		return nil
	}
	if err := m.enoughSpace(neededBytes); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() {
		errs[0] = m.log.step("building the engine "+engineVersion+" from its Go modules (some minutes the first time)",
			func() error { return m.buildPrograms(ctx) })
		if errs[0] != nil {
			cancel()
		}
	})
	wg.Go(func() {
		if errs[1] = m.imagesOf(ctx, registry); errs[1] == nil {
			errs[1] = m.log.step("filling the Go SDK's caches", func() error { return m.fillCaches(ctx) })
		}
		if errs[1] != nil {
			cancel()
		}
	})
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := m.log.step("making the Go SDK's image", func() error { return m.makeSDK(ctx) }); err != nil {
		return err
	}
	if err := m.removeOldImages(ctx); err != nil {
		return fmt.Errorf("removing old images: %w", err)
	}
	return writeFile(m.path("run", "built"), []byte(inputs))
}

// removeOldImages deletes what base images were made of with another toolchain or list of packages.
func (m *machine) removeOldImages(ctx context.Context) error {
	for _, b := range baseImages {
		current, err := m.imageDir(ctx, b)
		if err != nil {
			return err
		}
		all, err := filepath.Glob(m.path("images", b.name+"-*"))
		if err != nil {
			return err
		}
		for _, dir := range all {
			if dir == current {
				continue
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *machine) imagesOf(ctx context.Context, registry string) error {
	if err := m.installPackages(ctx, debianPackages); err != nil {
		return err
	}
	for _, b := range baseImages {
		if err := m.log.step("making the base image "+b.name, func() error { return m.makeImage(ctx, b, registry) }); err != nil {
			return err
		}
		if err := writeFile(m.path("images", b.name+".done"), nil); err != nil {
			return err
		}
	}
	return nil
}

// buildPrograms compiles the CLI, the engine and its helpers from the versions in go.sum.
func (m *machine) buildPrograms(ctx context.Context) error {
	const module = "github.com/dagger/dagger"
	tmp := m.path("bin.part")
	args := []string{"build", "-C", m.source,
		// Debug information, which -s -w throws away, and inlining take a third of the compiler's time: more than an engine without them loses.
		"-gcflags=all=-dwarf=false -l",
		"-ldflags", fmt.Sprintf("-s -w -X %[1]s/engine.Version=%[2]s -X %[1]s/engine.Tag=%[2]s", module, engineVersion), "-o", tmp + "/"}
	for _, p := range []string{"codegen", "dagger", "dnsname", "engine", "init"} {
		args = append(args, module+"/cmd/"+p)
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := m.command(ctx, "go", args...); err != nil {
		return err
	}
	for from, to := range map[string]string{"codegen": "bin/codegen", "dagger": "bin/dagger", "engine": "bin/dagger-engine", "init": "bin/dagger-init",
		"dnsname": "cni/dnsname"} {
		if err := os.Rename(filepath.Join(tmp, from), m.path(to)); err != nil {
			return err
		}
	}
	return os.RemoveAll(tmp)
}

func (m *machine) installPackages(ctx context.Context, packages map[string]string) error {
	var missing []string
	for pkg, file := range packages {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return usagef("this machine has no apt-get, and lacks %s: use Debian 12 or newer, or install dagger and Docker (https://docs.dagger.io)",
			strings.Join(missing, ", "))
	}
	slices.Sort(missing)
	return m.log.step("installing Debian packages: "+strings.Join(missing, " "), func() error {
		if err := m.command(ctx, "apt-get", "update", "-qq"); err != nil {
			return err
		}
		return m.command(ctx, "apt-get", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)...)
	})
}

func (m *machine) enoughSpace(needed uint64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(m.root, &fs); err != nil {
		return err
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < needed { //nolint:gosec // a block's size is positive
		return usagef("%s has %.1f GB free, and %.1f GB are needed: free some, or set SLIPWAY_CACHE to a folder elsewhere",
			m.root, float64(free)/1e9, float64(needed)/1e9)
	}
	return nil
}

func (m *machine) stopEngine(ctx context.Context) error {
	return errors.Join(m.stop("engine", patience), m.removeNetwork(ctx))
}

func (m *machine) startEngine(ctx context.Context, registry, socket, inputs string, listener listener) error {
	if err := m.plugins(); err != nil {
		return err
	}
	config := fmt.Sprintf(`root = %q
insecure-entitlements = ["security.insecure"]
[registry."docker.io"]
  mirrors = [%q]
[registry.%q]
  http = true
[worker.oci]
  reservedSpace = "4GB"
  maxUsedSpace = %q
  minFreeSpace = %q
`, m.path("engine"), registry, registry, keptCache, leftFree)
	if err := writeFile(m.path("run", "engine.toml"), []byte(config)); err != nil {
		return err
	}
	digest, err := os.ReadFile(m.path("images", sdkDigest))
	if err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	name, cidr, err := m.network()
	if err != nil {
		return err
	}
	// Written first: whoever finds it looks for rules to take back.
	if err := writeFile(m.path("run", networkMark), []byte(name)); err != nil {
		return err
	}
	if err := openNetwork(ctx, name, cidr); err != nil {
		return fmt.Errorf("opening the engine's network: %w", err)
	}
	cmd := exec.Command(m.path("bin", "dagger-engine"), "--config", m.path("run", "engine.toml"), "--addr", m.socket(),
		"--oci-cni-binary-dir", m.path("cni"), "--network-name", name, "--network-cidr", cidr)
	cmd.Args = append(cmd.Args, listener.flags()...)
	own, err := m.nameService()
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(),
		"PATH="+own+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"SLIPWAY_ENGINE_RUNC="+debianPackages["runc"],
		"SLIPWAY_ENGINE_INIT="+m.path("bin", "dagger-init"),
		"SLIPWAY_ENGINE_STATE="+m.path("engine"),
		"SLIPWAY_ENGINE_CONTENT="+m.path("images", "sdk", "content"),
		"DAGGER_GO_SDK_MANIFEST_DIGEST="+string(digest))
	// The engine mounts its own /etc/resolv.conf: the machine's must not change.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return m.start("engine", process{Address: m.socket(), Inputs: inputs, Listener: listener}, cmd, func() bool { return answers("unix", socket) }, time.Minute)
}

// inputs is a hash of everything that the engine and the images are made from. When it changes, they are made again.
func (m *machine) inputs(ctx context.Context, registry string) (string, error) {
	h := sha256.New()
	version, err := goEnv(ctx, "GOVERSION")
	if err != nil {
		return "", err
	}
	certificates, err := certificatesHash()
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, version, registry, baseImages, certificates)
	for _, f := range []string{"go.mod", "go.sum", "distconsts/distconsts.go", "../../.dagger/go.mod"} {
		sum, err := fileHash(filepath.Join(m.source, f))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, f, sum)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func goEnv(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", name).Output()
	if err != nil {
		return "", fmt.Errorf("go env %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// command runs a program. Its output goes into the build log, and the end of it into the error when it fails.
func (m *machine) command(ctx context.Context, name string, args ...string) error {
	log, err := os.OpenFile(m.path("log", "build.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "%s $ %s %s\n", time.Now().UTC().Format(time.RFC3339), name, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), noCgo, fewerCollections, "DEBIAN_FRONTEND=noninteractive")
	var out strings.Builder
	cmd.Stdout = io.MultiWriter(log, &out)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text := strings.TrimSpace(out.String())
		const tail = 4 << 10
		return fmt.Errorf("%s: %w\n%s", name, err, text[max(0, len(text)-tail):])
	}
	return nil
}

func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".part", data, 0o755); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}
