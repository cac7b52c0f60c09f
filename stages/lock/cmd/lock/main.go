// Command lock writes slipway.lock, which pins base images.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/lock"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var images []string
	return result.Stage{
		Name:  "lock",
		Usage: "writes slipway.lock, which pins base images",
		Flags: func(fs *flag.FlagSet) {
			fs.Func("image", "an image as `NAME:TAG@DIGEST`; may be repeated", func(s string) error {
				images = append(images, s)
				return nil
			})
		},
		Run: func(_ context.Context, out string) (*result.Result, error) { return lock.Write(out, images) },
	}
}
