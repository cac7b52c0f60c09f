// Command deploy takes a verified image to a Kubernetes cluster, and tells, resumes, aborts and rolls back what it did there.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/deploy"
	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

// overrides are flags that stand before slipway.yaml.
type overrides struct {
	strategy, deadline, settle string
	replicas                   int
}

func stage() result.Stage {
	var in deploy.Inputs
	var access deploy.Access
	var over overrides
	var do, planFile, digest, values, webhook string
	return result.Stage{
		Name:  "deploy",
		Usage: "takes a verified image to a Kubernetes cluster, and tells, resumes, aborts and rolls back what it did there",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&do, "do", "deploy", "`what`: deploy, export, status, history, recorded, rollback, resume, abort")
			fs.StringVar(&in.Reference, "ref", "", "the verified `image`, by digest")
			fs.StringVar(&digest, "digest", "", "the recorded `digest` to go back to; by default the one before")
			fs.StringVar(&in.App, "app", "", "the application's `name`; by default the plan's")
			fs.StringVar(&planFile, "plan", "", "the plan stage's plan.json `file`")
			fs.StringVar(&in.Manifests, "manifests", "", "`directory` with manifests, a kustomization or a Helm chart; without it they are made")
			fs.StringVar(&values, "values", "", "a Helm chart's values `files`, separated by commas")
			fs.StringVar(&access.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the cluster")
			fs.StringVar(&access.Context, "context", "", "`name` of the kubeconfig's context, if not its current one")
			fs.StringVar(&access.Namespace, "namespace", "", "`namespace` of what names none; by default the context's")
			fs.StringVar(&access.Endpoint, "endpoint", "", "connect to `ADDR` instead of the API server's own address")
			fs.StringVar(&over.strategy, "strategy", "", "rolling, blue-green or canary, instead of slipway.yaml's")
			fs.IntVar(&over.replicas, "replicas", 0, "`number` of pods in manifests that are made, instead of slipway.yaml's")
			fs.StringVar(&over.deadline, "deadline", "", "how long the workloads may take to be ready, instead of slipway.yaml's")
			fs.StringVar(&over.settle, "settle", "", "how long they must have been ready, without a restart, to count, instead of slipway.yaml's")
			fs.BoolVar(&in.DryRun, "dry-run", false, "show what would change, and change nothing")
			fs.StringVar(&in.HandTo, "hand-to", "", "export for a `controller`: argo-rollouts or flagger")
			fs.StringVar(&in.By, "by", "", "who deploys, for the record")
			fs.StringVar(&webhook, "webhook", "", "`file` with the URL to tell how it ended")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			p, err := plan.Read(planFile)
			if err != nil {
				return nil, err
			}
			if in.Settings, err = over.apply(p.Config.Deploy); err != nil {
				return nil, err
			}
			if values != "" {
				in.Values = strings.Split(values, ",")
			}
			in.App, in.Smoke, in.Now = cmp.Or(in.App, p.Name), p.Config.Smoke, p.Source.Time
			in.Defaults = deploy.Defaults{Port: port(p), Health: p.Config.Smoke.Health, Replicas: int32(in.Settings.Replicas), //nolint:gosec // 1000 at most
				MaxReplicas: int32(in.Settings.Autoscale.Max), CPUPercent: int32(in.Settings.Autoscale.CPU), //nolint:gosec // 1000 at most
				Requests: in.Settings.Requests, Limits: in.Settings.Limits}
			in.Out, in.Say = out, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, err
			}
			if do == "export" {
				in.Cluster = &deploy.Cluster{Namespace: access.Namespace}
				return deploy.Export(ctx, in)
			}
			if in.Cluster, err = deploy.Connect(access); err != nil {
				return nil, err
			}
			return told(ctx, webhook, do, in, func() (*result.Result, error) { return run(ctx, do, digest, in) })
		},
	}
}

func run(ctx context.Context, do, digest string, in deploy.Inputs) (*result.Result, error) {
	switch do {
	case "deploy":
		return deploy.Run(ctx, in)
	case "status":
		return deploy.ReadStatus(ctx, in.Cluster, in.App, in.Out)
	case "history":
		return deploy.ReadHistory(ctx, in.Cluster, in.App, in.Out)
	case "recorded":
		return deploy.Recorded(ctx, in.Cluster, in.App, digest)
	case "rollback":
		return deploy.Rollback(ctx, in, digest)
	case "resume":
		return deploy.Resume(ctx, in)
	case "abort":
		return deploy.Abort(ctx, in)
	}
	return nil, result.Inputf("flag -do: unknown %q: deploy, export, status, history, recorded, rollback, resume or abort", do)
}

// told runs something, and tells a webhook how it ended. That it could not be told is said, and changes nothing about how it ended.
func told(ctx context.Context, file, do string, in deploy.Inputs, run func() (*result.Result, error)) (*result.Result, error) {
	if file == "" {
		return run()
	}
	webhook, err := deploy.ReadWebhook(file)
	if err != nil {
		return nil, err
	}
	r, err := run()
	m := deploy.Message{App: in.App, Namespace: in.Cluster.Namespace, Action: do, By: in.By, Verdict: result.Inconclusive, Time: time.Now().UTC().Format(time.RFC3339)}
	if r != nil {
		m.Verdict, m.Summary, m.Digest = r.Verdict, r.Summary, r.Outputs["digest"]
	}
	if err != nil {
		m.Verdict, m.Summary = result.Inconclusive, err.Error()
	}
	if notified := deploy.Notify(context.WithoutCancel(ctx), webhook, m); notified != nil {
		in.Say("%s: %v", in.App, notified)
		if r != nil {
			r.Findings = append(r.Findings, result.Finding{ID: "webhook", Severity: result.Low, Message: notified.Error(), Status: "excepted"})
		}
	}
	return r, err
}

// apply puts the flags before slipway.yaml's settings, with its rules.
func (o overrides) apply(d config.Deploy) (config.Deploy, error) {
	d.Strategy = cmp.Or(o.strategy, d.Strategy)
	d.Replicas = cmp.Or(o.replicas, d.Replicas)
	for _, f := range []struct {
		name, text string
		into       *config.Duration
	}{{"deadline", o.deadline, &d.Deadline}, {"settle", o.settle, &d.Settle}} {
		if f.text == "" {
			continue
		}
		v, err := config.ParseDuration(f.text)
		if err != nil {
			return d, result.Inputf("flag -%s: %w", f.name, err)
		}
		*f.into = v
	}
	switch d.Strategy {
	case config.Rolling, config.BlueGreen, config.Canary:
	default:
		return d, result.Inputf("flag -strategy: unknown value %q: rolling, blue-green or canary", d.Strategy)
	}
	const most = 1000
	switch {
	case d.Deadline <= d.Settle:
		return d, result.Inputf("flag -deadline must be longer than -settle: %s is not longer than %s", time.Duration(d.Deadline), time.Duration(d.Settle))
	case d.Replicas < 1 || d.Replicas > most:
		return d, result.Inputf("flag -replicas must be between 1 and %d", most)
	}
	return d, nil
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
