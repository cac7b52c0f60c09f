// Command verify decides whether a released image may go on.
package main

import (
	"context"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
	"github.com/slipwayhq/slipway/stages/promote"
	"github.com/slipwayhq/slipway/stages/verify"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in verify.Inputs
	var registry oci.Flags
	var planFile, environment, now, to string
	return result.Stage{
		Name:  "verify",
		Usage: "checks an image's signature and each required piece of evidence",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Reference, "ref", "", "the `image`, by tag or digest")
			fs.StringVar(&in.PublicKey, "pub", "", "public key: PEM `file`, or a key management service's URI")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`, which holds the policy")
			fs.StringVar(&environment, "environment", "", "`name` of an environment in slipway.yaml whose requirements hold")
			fs.StringVar(&now, "now", "", "the `time` that ages are counted from, RFC 3339")
			fs.StringVar(&to, "to", "", "also write the unsigned statements of a promotion to `registry/repository:tag`, if the image may go on")
			registry.Register(fs)
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if in.PublicKey == "" {
				return nil, result.Inputf("flag -pub is missing")
			}
			var err error
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			if in.Policy, err = policy(p, environment); err != nil {
				return nil, err
			}
			if in.Client, err = registry.Client(); err != nil {
				return nil, err
			}
			in.Out = out
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, err
			}
			r, err := verify.Run(ctx, in)
			if err != nil || r.Verdict != result.Pass || to == "" {
				return r, err
			}
			v, err := verify.Read(out)
			if err != nil {
				return nil, err
			}
			return r, promote.Record(v, to, in.Now, out)
		},
	}
}

// policy is the environment's, or the configuration's where the environment says nothing.
func policy(p *plan.Plan, environment string) (verify.Policy, error) {
	out := verify.Policy{Require: p.Config.Verify.Require, MaxAge: time.Duration(p.Config.Verify.MaxAge),
		MaxDatabaseAge: time.Duration(p.Config.Scan.MaxDatabaseAge)}
	if environment == "" {
		return out, nil
	}
	env, ok := p.Config.Environments[environment]
	if !ok {
		known := slices.Sorted(maps.Keys(p.Config.Environments))
		return out, result.Inputf("unknown environment %q: slipway.yaml has %s", environment, strings.Join(known, ", "))
	}
	if len(env.Require) > 0 {
		out.Require = env.Require
	}
	if env.MaxAge > 0 {
		out.MaxAge = time.Duration(env.MaxAge)
	}
	return out, nil
}
