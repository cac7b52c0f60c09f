// Command gotest runs a Go project's tests and reports them.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
	"github.com/slipwayhq/slipway/stages/test"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in test.Inputs
	var planFile string
	return result.Stage{
		Name:  "test",
		Usage: "runs the tests of a Go project, with race detector and coverage",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Source, "source", "", "`directory` of the source tree")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Component, "component", "", "`name` of the component; the default is all")
			fs.StringVar(&in.Go, "go", "go", "the go `command`")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			in.Plan, in.Out = p, out
			return test.Run(ctx, in)
		},
	}
}
