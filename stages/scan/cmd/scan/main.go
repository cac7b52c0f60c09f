// Command scan looks for what is known to be wrong in an image and its source.
package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
	"github.com/slipwayhq/slipway/stages/scan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in scan.Inputs
	var planFile, now string
	return result.Stage{
		Name:  "scan",
		Usage: "looks for vulnerabilities and licences in an image's SBOM, and for secrets and misconfiguration in the source",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.SBOM, "sbom", "", "the sbom stage's `directory`")
			fs.StringVar(&in.Database, "db", "", "the vulnerability database's `directory`")
			fs.StringVar(&in.Source, "source", "", "`directory` of the source tree")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`, which holds the policy")
			fs.StringVar(&now, "now", "", "the `time` that ages and expiries are counted from, RFC 3339")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			in.Policy, in.Out = p.Config.Scan, out
			return scan.Run(ctx, in)
		},
	}
}
