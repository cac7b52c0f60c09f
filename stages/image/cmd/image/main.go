// Command image assembles built binaries into an OCI layout with one image index.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/image"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in image.Inputs
	var planFile string
	return result.Stage{
		Name:  "image",
		Usage: "assembles static binaries into an OCI layout with the same digest every time",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Bin, "bin", "", "the build stage's bin `directory`")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Component, "component", "", "`name` of the component; needed when the plan has several that build programs")
			fs.StringVar(&in.Version, "version", "", "the release's `version`; the default is the plan's")
			fs.StringVar(&in.Zoneinfo, "zoneinfo", "", "Go's zoneinfo.zip `file`; without it the image has no time zones")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if in.Bin == "" || planFile == "" {
				return nil, result.Inputf("flags -bin and -plan are needed")
			}
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			in.Plan, in.Out = p, out
			return image.Run(ctx, in)
		},
	}
}
