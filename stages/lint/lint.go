// Package lint checks a Go project without running it.
package lint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// Inputs are the stage's.
type Inputs struct {
	Source string
	Plan   *plan.Plan
	// Component's name; empty means all.
	Component string
	// Go and Golangci are commands.
	Go, Golangci string
	Out          string
}

// checker is one tool: it runs in a component's folder and returns what it found, with locations relative to that folder. An error
// means that it could not decide, which is never a pass.
type checker func(ctx context.Context, in Inputs, dir string) ([]result.Finding, error)

// checkers are the tools of lint.tools in slipway.yaml.
var checkers = map[string]checker{
	"gofmt": gofmt, "vet": vet, "golangci-lint": golangci, "mod-tidy": modTidy, "mod-verify": modVerify,
}

// Run checks every component that is asked for.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	if err := os.MkdirAll(in.Out, 0o755); err != nil {
		return nil, err
	}
	r := &result.Result{Verdict: result.Pass, Files: []result.File{{Path: SARIFName, MediaType: "application/sarif+json"}}}
	components := 0
	for _, c := range in.Plan.Components {
		if c.Language != "go" || (in.Component != "" && c.Name != in.Component) {
			continue
		}
		components++
		findings, err := in.check(ctx, c)
		if err != nil {
			return nil, err
		}
		r.Findings = append(r.Findings, findings...)
	}
	if components == 0 {
		return nil, result.Inputf("there is no Go component %q in the plan", in.Component)
	}
	tools := in.Plan.Config.Lint.Tools
	switch {
	case len(tools) == 0:
		r.Verdict, r.Reason = result.Skipped, "lint.tools is empty"
		r.Summary = r.Reason
	case len(r.Findings) == 0:
		r.Summary = "nothing to complain about: " + strings.Join(tools, ", ")
	default:
		r.Verdict = result.Fail
		r.Summary = fmt.Sprintf("%d findings by %s", len(r.Findings), strings.Join(tools, ", "))
	}
	r.Tools = in.versions(ctx)
	return r, WriteSARIF(filepath.Join(in.Out, SARIFName), r)
}

// check runs the tools of one component at the same time: most wait for the compiler's cache of another.
func (in Inputs) check(ctx context.Context, c plan.Component) ([]result.Finding, error) {
	dir := filepath.Join(in.Source, filepath.FromSlash(c.Path))
	tools := in.Plan.Config.Lint.Tools
	for _, tool := range tools {
		if _, ok := checkers[tool]; !ok {
			return nil, result.Inputf("unknown tool %q in lint.tools", tool)
		}
	}
	found := make([][]result.Finding, len(tools))
	errs := make([]error, len(tools))
	vetted := make(chan struct{})
	done := sync.OnceFunc(func() { close(vetted) })
	if !slices.Contains(tools, "vet") {
		done()
	}
	var wg sync.WaitGroup
	for i, tool := range tools {
		do := checkers[tool]
		wg.Go(func() {
			switch tool {
			case "vet":
				defer done()
			case "golangci-lint": // at the same time, both would compile everything that the component imports
				<-vetted
			}
			found[i], errs[i] = do(ctx, in, dir)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tools[i], err)
		}
	}
	all := slices.Concat(found...)
	for i := range all {
		if all[i].Location != "" && c.Path != "." {
			all[i].Location = c.Path + "/" + all[i].Location
		}
	}
	slices.SortStableFunc(all, func(a, b result.Finding) int { return strings.Compare(a.Location, b.Location) })
	return all, nil
}

func (in Inputs) versions(ctx context.Context) []result.Tool {
	var tools []result.Tool
	if out, _, err := command(ctx, ".", in.Go, "env", "GOVERSION"); err == nil {
		tools = append(tools, result.Tool{Name: "go", Version: strings.TrimSpace(out)})
	}
	if slices.Contains(in.Plan.Config.Lint.Tools, "golangci-lint") {
		if out, _, err := command(ctx, ".", in.Golangci, "version", "--short"); err == nil {
			tools = append(tools, result.Tool{Name: "golangci-lint", Version: strings.TrimSpace(out)})
		}
	}
	return tools
}
