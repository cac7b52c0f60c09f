// Command generate writes files for a repository: the wrapper that runs Slipway under its CI service.
package main

import (
	"context"
	"flag"
	"os"
	"strings"

	"github.com/slipwayhq/slipway/stages/generate"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var (
		in       generate.Inputs
		planFile string
	)
	return result.Stage{
		Name:  "generate",
		Usage: "writes a CI service's file that runs Slipway, adapted to the plan",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Source, "source", "", "`directory` of the source tree, with .git")
			fs.StringVar(&in.Wrappers, "wrappers", "", "Slipway's `directory` ci, for jenkins and circleci")
			fs.StringVar(&in.Provider, "provider", "", "the CI service's `name`: github, gitlab, jenkins, circleci or azure")
			fs.StringVar(&in.Commit, "commit", "", "the full `commit` of Slipway that runs")
			fs.StringVar(&in.Publish, "publish", "", "`repository` to publish to, without a tag")
			fs.Func("promote", "`repository` to promote to afterwards; repeatable, or several with commas", func(s string) error {
				in.Promote = append(in.Promote, strings.Split(s, ",")...)
				return nil
			})
			fs.StringVar(&in.Environment, "environment", "", "`name` of an environment in slipway.yaml whose requirements hold")
			fs.StringVar(&in.Engine, "engine", "", "the Dagger engine's `address`; empty for the runner's Docker")
		},
		Run: func(_ context.Context, out string) (*result.Result, error) {
			if in.Source == "" {
				return nil, result.Inputf("flag -source is missing: give the directory of the source tree")
			}
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			in.Plan, in.Out = p, out
			return generate.Run(in)
		},
	}
}
