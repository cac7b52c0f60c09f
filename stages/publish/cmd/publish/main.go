// Command publish pushes an image with its signatures to a registry.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/publish"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in publish.Inputs
	var registry oci.Flags
	return result.Stage{
		Name:  "publish",
		Usage: "pushes an image with its signatures to a registry",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Layout, "layout", "", "the image's OCI layout `directory`")
			fs.StringVar(&in.Signed, "signed", "", "the sign stage's `directory`")
			fs.StringVar(&in.Reference, "ref", "", "where to: `registry/repository:tag`")
			fs.BoolVar(&in.MoveTag, "move-tag", false, "let an existing tag point to this image from now on")
			registry.Register(fs)
		},
		Run: func(ctx context.Context, _ string) (*result.Result, error) {
			var err error
			if in.Client, err = registry.Client(); err != nil {
				return nil, err
			}
			return publish.Run(ctx, in)
		},
	}
}
