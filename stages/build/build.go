// Package build compiles a component's programs for every platform: static, trimmed, and with the same bytes wherever and whenever the
// same source is built.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// Schema names the version of the build.json format.
const Schema = "https://slipway.dev/schema/build/v1"

// What the stage leaves in its output directory.
const (
	FileName    = "build.json"
	BinDir      = "bin"
	LicensesDir = "licenses"
)

// Build is build.json: how the binaries came to be and what is in them.
type Build struct {
	Schema    string `json:"schema"`
	Component string `json:"component"`
	Version   string `json:"version"`
	// GoVersion is the toolchain's, such as go1.26.3.
	GoVersion string `json:"goVersion"`
	// Flags are those that every build got, besides the linker's.
	Flags    []string `json:"flags"`
	Binaries []Binary `json:"binaries"`
	// Modules are those linked into any of the binaries, sorted by path.
	Modules []Module `json:"modules,omitempty"`
}

// Binary is one program for one platform.
type Binary struct {
	Name     string `json:"name"`
	Package  string `json:"package"`
	Platform string `json:"platform"`
	// Path is relative to build.json, with slashes.
	Path    string `json:"path"`
	Ldflags string `json:"ldflags"`
	SHA256  string `json:"sha256"`
	// Size is in bytes.
	Size int64 `json:"size"`
}

// Options are the build's inputs.
type Options struct {
	// Source is the directory of the source tree. Nothing is written there.
	Source string
	Plan   *plan.Plan
	// Component's name; empty means the only one.
	Component string
	// Version is stamped into the binaries; empty means the plan's.
	Version string
	// Out receives bin, licenses and build.json.
	Out string
	// Go is the go command; empty means the one in PATH.
	Go string
	// Env is the go command's environment before Slipway's own settings; nil means the process's.
	Env []string
	// Parallel is how many platforms are built at once; 0 means as many as there are CPUs.
	Parallel int
}

var versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

// Run builds. A program that does not compile is a failing result; an error says that the input was wrong or that the world failed.
func Run(ctx context.Context, o Options) (*result.Result, error) {
	c, err := o.Plan.Component(o.Component)
	if err != nil {
		return nil, err
	}
	if c.Language != (plan.Go{}).Language() {
		return nil, result.Inputf("component %s is %s, not go", c.Name, c.Language)
	}
	if c.Undecided != "" {
		return nil, result.Inputf("%s", c.Undecided)
	}
	if len(c.Mains) == 0 {
		return nil, result.Inputf("component %s has no main package: a library leaves nothing to put into an image", c.Name)
	}
	if o.Version == "" {
		o.Version = o.Plan.Version
	}
	if !versionForm.MatchString(o.Version) {
		return nil, result.Inputf("version %q: use letters, digits, '.', '_', '+' and '-'", o.Version)
	}
	b, err := newBuilder(ctx, o, c)
	if err != nil {
		return nil, err
	}
	deps, failed, err := b.dependencies(ctx)
	if failed != nil || err != nil {
		return failed, err
	}
	binaries, failed, err := b.all(ctx)
	if failed != nil || err != nil {
		return failed, err
	}
	rec := &Build{Schema: Schema, Component: c.Name, Version: o.Version, GoVersion: b.goVersion, Flags: b.flags(), Binaries: binaries}
	if rec.Modules, err = linkedModules(o.Out, binaries); err != nil {
		return nil, err
	}
	if err := copyLicenses(filepath.Join(o.Out, LicensesDir), deps, o.Version); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(o.Out, FileName), append(data, '\n'), 0o644); err != nil {
		return nil, err
	}
	return b.report(rec), nil
}

type builder struct {
	o         Options
	component *plan.Component
	dir       string
	platforms []config.Platform
	goVersion string
	// stamps holds, for each main's directory, which of version, commit and date it declares.
	stamps map[string][]string
}

func newBuilder(ctx context.Context, o Options, c *plan.Component) (*builder, error) {
	b := &builder{o: o, component: c, stamps: map[string][]string{}}
	source, err := filepath.Abs(o.Source)
	if err != nil {
		return nil, err
	}
	if b.o.Out, err = filepath.Abs(o.Out); err != nil {
		return nil, err
	}
	b.dir = filepath.Join(source, filepath.FromSlash(c.Path))
	if fi, err := os.Stat(b.dir); err != nil || !fi.IsDir() {
		return nil, result.Inputf("component %s: directory %s is missing in the source", c.Name, c.Path)
	}
	for _, s := range o.Plan.Config.Build.Platforms {
		p, err := config.ParsePlatform(s)
		if err != nil {
			return nil, result.Input(err)
		}
		b.platforms = append(b.platforms, p)
	}
	if len(b.platforms) == 0 {
		return nil, result.Inputf("build.platforms is empty in the plan")
	}
	if b.o.Go == "" {
		b.o.Go = "go"
	}
	if b.o.Env == nil {
		b.o.Env = os.Environ()
	}
	for _, m := range c.Mains {
		b.stamps[m.Dir] = stringVariables(filepath.Join(b.dir, filepath.FromSlash(m.Dir)), "version", "commit", "date")
	}
	out, err := b.goCommand(ctx, b.platforms[0], "env", "GOVERSION")
	if err != nil {
		return nil, fmt.Errorf("running the go command: %w", err)
	}
	b.goVersion = strings.TrimSpace(string(out))
	return b, nil
}

// flags are those of go build that do not depend on the program.
func (b *builder) flags() []string {
	f := []string{"-trimpath", "-buildvcs=false"}
	if tags := b.o.Plan.Config.Build.Tags; len(tags) > 0 {
		f = append(f, "-tags="+strings.Join(tags, ","))
	}
	return f
}

// ldflags are the linker's. The build ID is left out because it only adds bytes; the version is stamped into what the program declares,
// because the linker refuses to set a variable of another type.
func (b *builder) ldflags(m plan.Main) string {
	src := b.o.Plan.Source
	values := map[string]string{"version": b.o.Version, "commit": src.Commit, "date": src.Time.UTC().Format(time.RFC3339)}
	if src.Commit == "" {
		values["commit"] = "unknown"
	}
	parts := []string{"-s", "-w", "-buildid="}
	for _, name := range b.stamps[m.Dir] {
		parts = append(parts, "-X", "main."+name+"="+values[name])
	}
	expand := strings.NewReplacer("{{.Version}}", values["version"], "{{.Commit}}", values["commit"], "{{.Date}}", values["date"])
	for _, f := range b.o.Plan.Config.Build.Ldflags {
		parts = append(parts, expand.Replace(f))
	}
	return strings.Join(parts, " ")
}

// all builds the platforms side by side, and one platform's programs one after the other: they share most of their packages.
func (b *builder) all(ctx context.Context) ([]Binary, *result.Result, error) {
	parallel := b.o.Parallel
	if parallel <= 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	parallel = min(parallel, len(b.platforms))
	jobs := max(1, runtime.GOMAXPROCS(0)/parallel)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, parallel)
		list  = make([][]Binary, len(b.platforms))
		errs  = make([]error, len(b.platforms))
	)
	for i, p := range b.platforms {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			list[i], errs[i] = b.platform(ctx, p, jobs)
		})
	}
	wg.Wait()
	var failures []*commandError
	for i, err := range errs {
		if err == nil {
			continue
		}
		ce, ok := asCommandError(err)
		if !ok {
			return nil, nil, fmt.Errorf("building for %s: %w", b.platforms[i], err)
		}
		failures = append(failures, ce)
	}
	if len(failures) > 0 {
		r, err := b.judge(failures)
		return nil, r, err
	}
	return slices.Concat(list...), nil, nil
}

func (b *builder) platform(ctx context.Context, p config.Platform, jobs int) ([]Binary, error) {
	var list []Binary
	for _, m := range b.component.Mains {
		rel := filepath.Join(BinDir, p.Dir(), m.Binary)
		target := filepath.Join(b.o.Out, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return nil, err
		}
		ldflags := b.ldflags(m)
		args := append([]string{"build"}, b.flags()...)
		args = append(args, fmt.Sprintf("-p=%d", jobs), "-ldflags="+ldflags, "-o", target, m.Dir)
		if _, err := b.goCommand(ctx, p, args...); err != nil {
			return nil, err
		}
		// The umask of the machine must not show in what is carried on.
		if err := os.Chmod(target, 0o755); err != nil {
			return nil, err
		}
		sum, size, err := hashFile(target)
		if err != nil {
			return nil, err
		}
		list = append(list, Binary{Name: m.Binary, Package: m.Package, Platform: p.String(), Path: filepath.ToSlash(rel), Ldflags: ldflags,
			SHA256: sum, Size: size})
	}
	return list, nil
}

func hashFile(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func (b *builder) report(rec *Build) *result.Result {
	r := &result.Result{
		Verdict: result.Pass,
		Metrics: map[string]float64{"binaries": float64(len(rec.Binaries)), "modules": float64(len(rec.Modules))},
		Tools:   []result.Tool{{Name: "go", Version: rec.GoVersion}},
		Outputs: map[string]string{"version": rec.Version, "component": rec.Component},
		Files:   []result.File{{Path: FileName, MediaType: "application/json"}},
	}
	if hex, ok := strings.CutPrefix(b.o.Plan.Source.Digest, "sha256:"); ok {
		r.Inputs = []result.Resource{{Name: "source", URI: b.o.Plan.Source.Remote, Digest: map[string]string{"sha256": hex}}}
	}
	var names []string
	for _, m := range b.component.Mains {
		names = append(names, m.Binary)
	}
	var platforms []string
	for _, p := range b.platforms {
		platforms = append(platforms, p.String())
	}
	for _, bin := range rec.Binaries {
		r.Files = append(r.Files, result.File{Path: bin.Path, MediaType: "application/octet-stream"})
	}
	r.Summary = fmt.Sprintf("%s %s for %s with %s", strings.Join(names, ", "), rec.Version, strings.Join(platforms, ", "), rec.GoVersion)
	return r
}
