// Command promote copies a verified release with its evidence to another repository.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/promote"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in promote.Inputs
	var registry oci.Flags
	return result.Stage{
		Name:  "promote",
		Usage: "copies a verified release with its evidence to another repository",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.From, "from", "", "the verified `image`, by digest")
			fs.StringVar(&in.To, "to", "", "where it goes: `registry/repository:tag`")
			fs.StringVar(&in.Signed, "signed", "", "the `directory` with the signed promotion records")
			fs.BoolVar(&in.MoveTag, "move-tag", false, "let an existing tag point to this image from now on")
			registry.Register(fs)
		},
		Run: func(ctx context.Context, _ string) (*result.Result, error) {
			var err error
			if in.Client, err = registry.Client(); err != nil {
				return nil, err
			}
			return promote.Run(ctx, in)
		},
	}
}
