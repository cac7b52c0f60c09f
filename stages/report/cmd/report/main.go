// Command report turns what the stages of a run left behind into something to read.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/report"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in report.Inputs
	return result.Stage{
		Name:  "report",
		Usage: "summarises a run as text, JSON and HTML",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Run, "run", "", "run.json `file`: what ran, and when")
			fs.StringVar(&in.Results, "results", "", "`directory` with one folder for each stage's results")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			in.Out = out
			return report.Make(ctx, in)
		},
	}
}
