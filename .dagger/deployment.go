package main

import (
	"context"
	"fmt"

	"dagger/slipway/internal/dagger"
)

// What Slipway deployed to a cluster, and does there.
type Deployment struct {
	// +private
	Slipway *Slipway
	// +private
	Kubeconfig *dagger.Secret
	// +private
	Cluster *dagger.Service
	// +private
	KubeContext string
	// +private
	Namespace string
	// +private
	Name string
}

// An application in a cluster: its status and history, and what to do about a deployment that is under way or was a mistake.
func (s *Slipway) Deployment(
	// How to reach the cluster: file:kubeconfig. It holds its certificates and tokens itself (kubectl config view --flatten --minify).
	kubeconfig *dagger.Secret,
	// A cluster on the caller's own machine (kind, k3d, minikube): tcp://127.0.0.1:6443
	//
	// +optional
	cluster *dagger.Service,
	// The kubeconfig's context, if not its current one.
	//
	// +optional
	kubeContext string,
	// Where the application is; by default the context's namespace.
	//
	// +optional
	namespace string,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
) *Deployment {
	return &Deployment{Slipway: s, Kubeconfig: kubeconfig, Cluster: cluster, KubeContext: kubeContext, Namespace: namespace, Name: name}
}

// What runs, since when and by whom, what is under way, and what has drifted.
//
// +cache="never"
func (d *Deployment) Status(
	ctx context.Context,
	// text or json.
	//
	// +optional
	// +default="text"
	format string,
) (string, error) {
	return d.ask(ctx, "status", "status.json", format)
}

// What was deployed, the latest first: when it ended, by whom, how, and whether it can be gone back to.
//
// +cache="never"
func (d *Deployment) History(
	ctx context.Context,
	// text or json, which has every phase and decision of the latest.
	//
	// +optional
	// +default="text"
	format string,
) (string, error) {
	return d.ask(ctx, "history", "history.json", format)
}

func (d *Deployment) ask(ctx context.Context, what, file, format string) (string, error) {
	if format != "text" && format != "json" {
		return "", fmt.Errorf("%s: unknown format %q: text or json", what, format)
	}
	rep, err := d.run(ctx, d.Slipway.program("deploy"), nil, []string{"-do", what})
	if err != nil {
		return "", err
	}
	if _, err := rep.Gate(); err != nil {
		return "", err
	}
	if format == "json" {
		return rep.Files.File(file).Contents(ctx)
	}
	return rep.output("text")
}

// Go back to the release before, or to any recorded digest, with the manifests that it had.
//
// Its evidence is verified anew: what was withdrawn since is refused.
//
// +cache="never"
func (d *Deployment) Rollback(
	ctx context.Context,
	// The digest to go back to: sha256:... By default the one before the present one.
	//
	// +optional
	digest string,
	// Who rolls back, for the record.
	//
	// +optional
	// +default="dagger call"
	by string,
	// rolling, blue-green or canary; by default slipway.yaml's.
	//
	// +optional
	strategy string,
	// The public key (PEM) that the evidence is verified with: file:cosign.pub
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service instead.
	//
	// +optional
	kms string,
	// An environment of slipway.yaml whose requirements hold.
	//
	// +optional
	environment string,
	// Go back also when the evidence does not hold any more. It is said all the same.
	//
	// +optional
	despiteEvidence bool,
	// Where to tell how it ended: a webhook's URL. env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (string, error) {
	s := d.Slipway
	recorded, err := d.run(ctx, s.program("deploy"), nil, flag([]string{"-do", "recorded"}, "-digest", digest))
	if err != nil {
		return "", err
	}
	if _, err := recorded.Gate(); err != nil {
		return "", err
	}
	reference, err := recorded.output("reference")
	if err != nil {
		return "", err
	}
	warning := ""
	if _, err := s.Release(reference).verified(ctx, publicKey, kms, environment); err != nil {
		if !despiteEvidence {
			return "", fmt.Errorf("rollback: refused: %w\nto go back to it all the same: --despite-evidence", err)
		}
		warning = fmt.Sprintf("rollback: although its evidence does not hold: %v\n", err)
	}
	target, err := recorded.output("digest")
	if err != nil {
		return "", err
	}
	rep, err := d.run(ctx, s.program("deploy"), webhook, flag([]string{"-do", "rollback", "-digest", target, "-by", by}, "-strategy", strategy))
	if err != nil {
		return "", err
	}
	text, err := rep.Gate()
	return warning + text, err
}

// Go on with a deployment that was interrupted, from any machine.
//
// +cache="never"
func (d *Deployment) Resume(
	ctx context.Context,
	// Who resumes, for the lease.
	//
	// +optional
	// +default="dagger call"
	by string,
	// Where to tell how it ended: a webhook's URL. env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (string, error) {
	return d.act(ctx, "resume", by, webhook)
}

// End a deployment on the last good version: one that somebody is working on is told to go back, one that was interrupted is taken back here.
//
// +cache="never"
func (d *Deployment) Abort(
	ctx context.Context,
	// Who aborts, for the record.
	//
	// +optional
	// +default="dagger call"
	by string,
	// Where to tell how it ended: a webhook's URL. env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (string, error) {
	return d.act(ctx, "abort", by, webhook)
}

func (d *Deployment) act(ctx context.Context, what, by string, webhook *dagger.Secret) (string, error) {
	rep, err := d.run(ctx, d.Slipway.program("deploy"), webhook, []string{"-do", what, "-by", by})
	if err != nil {
		return "", err
	}
	return rep.Gate()
}

// run is execute with the cluster.
func (d *Deployment) run(ctx context.Context, ctr *dagger.Container, webhook *dagger.Secret, args []string) (*Report, error) {
	if d.Kubeconfig == nil {
		return nil, inputf("deploy: no kubeconfig: give --kubeconfig file:kubeconfig")
	}
	ctr = ctr.WithMountedSecret("/secrets/kubeconfig", d.Kubeconfig)
	args = append(args, "-kubeconfig", "/secrets/kubeconfig")
	args = flag(args, "-context", d.KubeContext)
	if webhook != nil {
		ctr = ctr.WithMountedSecret("/secrets/webhook", webhook)
		args = append(args, "-webhook", "/secrets/webhook")
	}
	if d.Cluster != nil {
		endpoint, err := clusterEndpoint(ctx, d.Cluster)
		if err != nil {
			return nil, err
		}
		ctr = ctr.WithServiceBinding(clusterService, d.Cluster)
		args = append(args, "-endpoint", endpoint)
	}
	return d.execute(ctx, ctr, args)
}

// execute runs the stage's program once: a deployment must not happen a second time by itself.
func (d *Deployment) execute(ctx context.Context, ctr *dagger.Container, args []string) (*Report, error) {
	plan, err := d.Slipway.plan(ctx)
	if err != nil {
		return nil, err
	}
	args = append([]string{"deploy", "-plan", "/plan/plan.json"}, args...)
	args = flag(args, "-namespace", d.Namespace)
	args = flag(args, "-app", d.Name)
	return once(ctx, "deploy", fresh(ctr.WithMountedFile("/plan/plan.json", plan.Files.File("plan.json"))), args)
}

// flag adds one that has a value.
func flag(args []string, name, value string) []string {
	if value == "" {
		return args
	}
	return append(args, name, value)
}

// clusterService is the host name under which a container sees the API server on the caller's machine.
const clusterService = "slipway-cluster"

func clusterEndpoint(ctx context.Context, cluster *dagger.Service) (string, error) {
	ports, err := cluster.Ports(ctx)
	if err != nil {
		return "", fmt.Errorf("deploy: --cluster: %w", err)
	}
	if len(ports) == 0 {
		return "", inputf("deploy: --cluster has no port: write tcp://127.0.0.1:6443")
	}
	port, err := ports[0].Port(ctx)
	if err != nil {
		return "", fmt.Errorf("deploy: --cluster: %w", err)
	}
	return fmt.Sprintf("%s:%d", clusterService, port), nil
}
