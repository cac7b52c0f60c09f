// Command attest writes in-toto statements about an image.
package main

import (
	"context"
	"flag"
	"os"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/attest"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	in := attest.Inputs{Results: map[string]string{}, Reports: map[string]string{}}
	var planFile, now string
	return result.Stage{
		Name:  "attest",
		Usage: "writes in-toto statements about an image: SBOMs, scan, tests, provenance",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Layout, "layout", "", "the image's OCI layout `directory`")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Version, "version", "", "the release's `version`; the default is the plan's")
			fs.StringVar(&in.SBOM, "sbom", "", "the sbom stage's `directory`")
			fs.StringVar(&now, "now", "", "the `time` of the statements, RFC 3339")
			fs.Func("base", "an image that took part in the build, `NAME@DIGEST`; may be repeated", func(s string) error {
				in.Bases = append(in.Bases, s)
				return nil
			})
			fs.Func("result", "another stage's result, `STAGE=DIR`; may be repeated", pairs(in.Results))
			fs.Func("report", "somebody else's report about the image, `NAME=DIR` with a result.json; may be repeated", pairs(in.Reports))
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			var err error
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			if in.Plan, err = plan.Read(planFile); err != nil {
				return nil, err
			}
			in.Out = out
			return attest.Run(ctx, in)
		},
	}
}

// pairs collects NAME=DIR.
func pairs(into map[string]string) func(string) error {
	return func(s string) error {
		name, dir, ok := strings.Cut(s, "=")
		if !ok {
			return result.Inputf("want NAME=DIR")
		}
		if into[name] != "" {
			return result.Inputf("%s is given twice", name)
		}
		into[name] = dir
		return nil
	}
}
