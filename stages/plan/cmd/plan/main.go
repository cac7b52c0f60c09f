// Command plan looks at a source tree and writes what Slipway will run: plan.json for the other stages, plan.txt for people.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/lock"
	"github.com/slipwayhq/slipway/stages/plan"
	"github.com/slipwayhq/slipway/stages/plan/source"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

type options struct {
	source, config string
	mains          []string
}

func stage() result.Stage {
	var o options
	return result.Stage{
		Name:  "plan",
		Usage: "looks at a source tree and says what to run",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.source, "source", "", "`directory` of the source tree, with .git")
			fs.StringVar(&o.config, "config", "", "`file` to read instead of slipway.yaml in the source")
			fs.Func("main", "`directory` of a main package to build, instead of build.main; repeatable, or several with commas", func(s string) error {
				o.mains = append(o.mains, strings.Split(s, ",")...)
				return nil
			})
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) { return run(ctx, o, out) },
	}
}

func run(ctx context.Context, o options, out string) (*result.Result, error) {
	if o.source == "" {
		return nil, result.Inputf("flag -source is missing: give the directory of the source tree")
	}
	for _, m := range o.mains {
		if !filepath.IsLocal(filepath.FromSlash(m)) {
			return nil, result.Inputf("flag -main: %q must be a directory inside the component, such as ./cmd/app", m)
		}
	}
	cfg, err := loadConfig(o)
	if err != nil {
		return nil, err
	}
	pins, err := loadLock(o.source)
	if err != nil {
		return nil, err
	}
	src, warnings, err := source.Describe(ctx, o.source)
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, o.source, plan.Options{Config: cfg, Main: o.mains, Source: src, Images: pins.Images, Warnings: warnings})
	if err != nil {
		return nil, err
	}
	if err := write(p, out); err != nil {
		return nil, err
	}
	return report(p), nil
}

func loadConfig(o options) (config.Config, error) {
	if o.config != "" {
		return config.Load(o.config)
	}
	// The messages name the file as people know it, not where it is mounted.
	root, err := os.OpenRoot(o.source)
	if err != nil {
		return config.Config{}, result.Inputf("opening the source: %w", err)
	}
	defer root.Close()
	b, err := plan.NewTree(root).ReadFile(config.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	if err != nil {
		return config.Config{}, result.Inputf("reading %s: %w", config.FileName, err)
	}
	return config.Parse(config.FileName, b)
}

// loadLock reads slipway.lock, if there is one.
func loadLock(dir string) (lock.Lock, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return lock.Lock{}, result.Inputf("opening the source: %w", err)
	}
	defer root.Close()
	b, err := plan.NewTree(root).ReadFile(lock.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return lock.Lock{}, nil
	}
	if err != nil {
		return lock.Lock{}, result.Inputf("reading %s: %w", lock.FileName, err)
	}
	return lock.Parse(b)
}

func write(p *plan.Plan, out string) error {
	b, err := p.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, plan.FileName), b, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, plan.TextFileName), []byte(p.Text()), 0o644)
}

func report(p *plan.Plan) *result.Result {
	r := &result.Result{
		Verdict: result.Pass,
		Summary: summary(p),
		Metrics: map[string]float64{"components": float64(len(p.Components)), "steps": float64(len(p.Steps))},
		Outputs: map[string]string{"name": p.Name, "version": p.Version, "commit": p.Source.Commit},
		Files: []result.File{
			{Path: plan.FileName, MediaType: "application/json"},
			{Path: plan.TextFileName, MediaType: "text/plain"},
		},
	}
	if hex, ok := strings.CutPrefix(p.Source.Digest, "sha256:"); ok {
		r.Inputs = []result.Resource{{Name: "source", URI: p.Source.Remote, Digest: map[string]string{"sha256": hex}}}
	}
	for _, w := range p.Warnings {
		r.Findings = append(r.Findings, result.Finding{ID: "plan-warning", Severity: result.Info, Message: w, Status: "note"})
	}
	return r
}

func summary(p *plan.Plan) string {
	var names []string
	for _, c := range p.Components {
		names = append(names, c.Name+" ("+c.Language+")")
	}
	s := fmt.Sprintf("%s %s: %s", p.Name, p.Version, strings.Join(names, ", "))
	if n := len(p.Warnings); n > 0 {
		s += fmt.Sprintf("; %d warnings in plan.txt", n)
	}
	return s
}
