// Command bench measures Slipway against baselines of the same run, and prints ratios: times alone say more about the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// bench is one run: where things lie, and what was measured so far.
type bench struct {
	root     string // the repository
	work     string // this run's folder
	tools    string // cosign, crane, syft, trivy and Slipway's own programs
	registry string // host:port on this machine
	runs     int
	log      io.Writer
	rows     []row
}

// The parts of a run, in their order. Each needs nothing of the others.
var parts = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"calls", (*bench).calls},
	{"cold", (*bench).cold},
	{"programs", (*bench).programs},
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "ci/bench:", err)
		if _, ok := errors.AsType[usageError](err); ok {
			os.Exit(2)
		}
		os.Exit(3)
	}
}

// usageError is the caller's mistake.
type usageError struct{ error }

func run(args []string, stdout, stderr io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fs := flag.NewFlagSet("ci/bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	runs := fs.Int("runs", 5, "how often each warm measurement is taken; its median counts")
	only := fs.String("only", "", "`pattern` of the parts to run: calls, cold, programs")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	pattern, err := regexp.Compile(*only)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("flag -only: %w", err)}
	case *runs < 1:
		return usageError{errors.New("flag -runs: at least 1")}
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	b := &bench{root: root, tools: filepath.Join(root, "dist", "bench", "tools"), registry: os.Getenv("SLIPWAY_REGISTRY"), runs: *runs, log: stderr}
	if b.registry == "" {
		return usageError{errors.New("SLIPWAY_REGISTRY is not set: run ci/bench in the repository")}
	}
	// Outside the repository: linters look for their configuration upwards.
	if b.work, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(b.work)) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, p := range parts {
		if !pattern.MatchString(p.name) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	fmt.Fprintf(stdout, "\n%s, %d cores, %s, %s/%s, %s\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return table(stdout, b.rows)
}

// prepare builds the tools and the keys once; a second run finds them.
func (b *bench) prepare(ctx context.Context) error {
	b.say("tools: cosign, crane, syft, trivy (some minutes the first time)")
	build := b.command("go", "build", "-C", "ci/e2e/tools", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", "-s -w", "-o", b.tools+"/", "tool")
	build.env = []string{"CGO_ENABLED=0", "GOGC=400", "GOEXPERIMENT=jsonv2"}
	if _, err := build.run(ctx); err != nil {
		return err
	}
	b.say("Slipway's programs")
	if _, err := b.dagger("toolbox", "rootfs", "directory", "--path", "/usr/local/bin", "export", "--path", b.tools).run(ctx); err != nil {
		return err
	}
	b.say("the vulnerability database and the keys")
	if _, err := b.command("go", "run", "./stages/vulndb/cmd/fixturedb", "-advisories", "testdata/advisories", "-push", b.database(),
		"-out", filepath.Join(b.work, "db")).run(ctx); err != nil {
		return err
	}
	_, err := b.dagger("key-pair", "--password", "env:COSIGN_PASSWORD", "export", "--path", b.path("keys")).run(ctx)
	return err
}

func (b *bench) database() string { return b.registry + "/fixtures/trivy-db:2" }

// path is one inside this run's folder.
func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.work}, elem...)...)
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "ci/bench: "+format+"\n", args...)
}

// memory is the machine's, in GiB.
func memory() string {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return "memory unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
}

// removeAll is os.RemoveAll for a folder that may hold a module cache, whose folders are read-only.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o700) //nolint:gosec // a folder needs its x
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// dagger is a call of Slipway's module.
func (b *bench) dagger(args ...string) *command {
	return b.command("dagger", append([]string{"call", "--silent"}, args...)...)
}

// command is a program, of the tools if it is one of them, in the repository.
func (b *bench) command(name string, args ...string) *command {
	if own := filepath.Join(b.tools, name); strings.IndexByte(name, '/') < 0 {
		if _, err := os.Stat(own); err == nil {
			name = own
		}
	}
	return &command{name: name, args: args, dir: b.root}
}

// command is one program to measure.
type command struct {
	name, dir string
	args, env []string
	finding   bool // exit code 1 is no error: it says that something was found
}

// run starts the program and says how long it took.
func (c *command) run(ctx context.Context) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(append(os.Environ(), "COSIGN_PASSWORD=bench", "DAGGER_NO_NAG=1", "DO_NOT_TRACK=1"), c.env...)
	cmd.WaitDelay = 10 * time.Second
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1 || !c.finding) {
		text := strings.TrimSpace(string(out))
		const tail = 4 << 10
		return took, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text[max(0, len(text)-tail):])
	}
	return took, ctx.Err()
}
