// Command smoke asks a started service a few questions.
package main

import (
	"context"
	"flag"
	"os"
	"slices"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
	"github.com/slipwayhq/slipway/stages/smoke"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in smoke.Inputs
	var planFile string
	var extra []config.Request
	return result.Stage{
		Name:  "smoke",
		Usage: "waits until a service is healthy and sends it requests",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.URL, "url", "", "the service: `http://host:port`")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Health, "health", "", "the health `path`; the default is the plan's")
			fs.DurationVar(&in.Timeout, "timeout", 0, "how long health may take; the default is the plan's")
			fs.Func("path", "another `path` that must answer 2xx; may be repeated", func(s string) error {
				extra = append(extra, config.Request{Path: s})
				return nil
			})
		},
		Run: func(ctx context.Context, _ string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			cfg := p.Config.Smoke
			if in.Health == "" {
				in.Health = cfg.Health
			}
			if in.Timeout == 0 {
				in.Timeout = time.Duration(cfg.Timeout)
			}
			in.Requests = slices.Concat(cfg.Requests, extra)
			return smoke.Run(ctx, in)
		},
	}
}
