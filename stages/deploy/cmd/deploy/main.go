// Command deploy takes a verified image to a Kubernetes cluster.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/slipwayhq/slipway/stages/deploy"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in deploy.Inputs
	var access deploy.Access
	var planFile, now string
	var replicas uint
	return result.Stage{
		Name:  "deploy",
		Usage: "takes a verified image to a Kubernetes cluster",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Reference, "ref", "", "the verified `image`, by digest")
			fs.StringVar(&in.App, "app", "", "the application's `name`; by default the plan's")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Manifests, "manifests", "", "`directory` with manifests or a kustomization; without it they are made")
			fs.StringVar(&access.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the cluster")
			fs.StringVar(&access.Context, "context", "", "`name` of the kubeconfig's context, if not its current one")
			fs.StringVar(&access.Namespace, "namespace", "", "`namespace` of what names none; by default the context's")
			fs.StringVar(&access.Endpoint, "endpoint", "", "connect to `ADDR` instead of the API server's own address")
			fs.UintVar(&replicas, "replicas", 2, "`number` of pods in manifests that are made")
			fs.DurationVar(&in.Deadline, "deadline", 5*time.Minute, "how long the workloads may take to be ready")
			fs.DurationVar(&in.Settle, "settle", 15*time.Second, "how long they must have been ready, without a restart, to count")
			fs.BoolVar(&in.DryRun, "dry-run", false, "show what would change, and change nothing")
			fs.StringVar(&in.By, "by", "", "who deploys, for the record")
			fs.StringVar(&now, "now", "", "the `time` for the record, RFC 3339")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			if in.Settle < 0 || in.Deadline <= in.Settle {
				return nil, result.Inputf("flag -deadline must be longer than -settle: %s is not longer than %s", in.Deadline, in.Settle)
			}
			const most = 1000
			if replicas == 0 || replicas > most {
				return nil, result.Inputf("flag -replicas must be between 1 and %d", most)
			}
			if in.Cluster, err = deploy.Connect(access); err != nil {
				return nil, err
			}
			in.App = cmp.Or(in.App, p.Name)
			in.Defaults = deploy.Defaults{Port: port(p), Health: p.Config.Smoke.Health, Replicas: int32(replicas)}
			in.Out, in.Say = out, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, err
			}
			return deploy.Run(ctx, in)
		},
	}
}

// port is where the application serves: what the smoke test asks, or the only port that the image exposes.
func port(p *plan.Plan) int {
	if p.Config.Smoke.Port != 0 {
		return p.Config.Smoke.Port
	}
	if ports := p.Config.Build.Ports; len(ports) == 1 {
		return ports[0]
	}
	return 0
}
