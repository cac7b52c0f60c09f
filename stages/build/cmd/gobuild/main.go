// Command gobuild compiles a component's Go programs for every platform. It needs the go command, so it runs inside a Go container.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/build"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var o build.Options
	var planFile string
	return result.Stage{
		Name:  "build",
		Usage: "compiles Go programs, statically and reproducibly, for every platform of the plan",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&o.Source, "source", "", "`directory` of the source tree")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&o.Component, "component", "", "`name` of the component; needed when the plan has several that build programs")
			fs.StringVar(&o.Version, "version", "", "the release's `version`; the default is the plan's")
			fs.StringVar(&o.Go, "go", "go", "the go `command`")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if o.Source == "" || planFile == "" {
				return nil, result.Inputf("flags -source and -plan are needed")
			}
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			o.Plan, o.Out = p, out
			return build.Run(ctx, o)
		},
	}
}
