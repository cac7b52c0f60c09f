// Command vulndb fetches the vulnerability database.
package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/vulndb"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in vulndb.Inputs
	var registry oci.Flags
	var maxAge, now string
	return result.Stage{
		Name:  "vulndb",
		Usage: "fetches Trivy's vulnerability database and checks its age",
		Flags: func(fs *flag.FlagSet) {
			fs.Func("ref", "OCI `reference` of the database; may be repeated, the first that answers is taken", func(s string) error {
				in.References = append(in.References, s)
				return nil
			})
			fs.StringVar(&in.From, "from", "", "`folder` with trivy.db and metadata.json, instead of a registry")
			fs.StringVar(&maxAge, "max-age", "7d", "how old the database may be: 36h, 7d; 0s for any `age`")
			fs.StringVar(&now, "now", "", "the `time` that the age is counted from, RFC 3339")
			registry.Register(fs)
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if (len(in.References) == 0) == (in.From == "") {
				return nil, result.Inputf("give either -ref or -from")
			}
			age, err := config.ParseDuration(maxAge)
			if err != nil {
				return nil, result.Inputf("flag -max-age: %w", err)
			}
			in.MaxAge = time.Duration(age)
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			if in.Client, err = registry.Client(); err != nil {
				return nil, err
			}
			in.Out = out
			return vulndb.Run(ctx, in)
		},
	}
}
