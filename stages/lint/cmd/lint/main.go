// Command lint checks a Go project without running it.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/lint"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in lint.Inputs
	var planFile string
	return result.Stage{
		Name:  "lint",
		Usage: "checks a Go project without running it",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Source, "source", "", "`directory` of the source tree")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Component, "component", "", "`name` of the component; the default is all")
			fs.StringVar(&in.Go, "go", "go", "the go `command`")
			fs.StringVar(&in.Golangci, "golangci", "", "the golangci-lint `command`, version 2")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			in.Plan, in.Out = p, out
			return lint.Run(ctx, in)
		},
	}
}
