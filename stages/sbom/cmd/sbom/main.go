// Command sbom lists what is inside an image.
package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/sbom"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in sbom.Inputs
	var epoch int64
	return result.Stage{
		Name:  "sbom",
		Usage: "lists what is inside an image, as SPDX and CycloneDX",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Layout, "layout", "", "the image's OCI layout `directory`")
			fs.StringVar(&in.Licenses, "licenses", "", "the build stage's licenses `directory`")
			fs.StringVar(&in.Name, "name", "", "`name` of what is described")
			fs.Int64Var(&epoch, "epoch", 0, "the documents' time in Unix `seconds`")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if in.Layout == "" || in.Name == "" {
				return nil, result.Inputf("flags -layout and -name are needed")
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, err
			}
			in.Created, in.Out = time.Unix(epoch, 0), out
			return sbom.Run(ctx, in)
		},
	}
}
