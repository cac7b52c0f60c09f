package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dagger/slipway/internal/dagger"
)

// Deploy the release to a Kubernetes cluster: verify it first, apply server-side with the image by digest, by a rolling update, blue-green or
// as a canary, and go back to what ran before if it does not do well.
//
// Prints what was done; fails unless the release runs.
//
// +cache="never"
func (r *Release) Deploy(
	ctx context.Context,
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
	// Where what names no namespace goes; by default the context's.
	//
	// +optional
	namespace string,
	// Manifests to apply: a folder of YAML files, a kustomization, or a Helm chart. Write "image: slipway" where the image belongs. Without it,
	// good ones are made.
	//
	// +optional
	manifests *dagger.Directory,
	// Values for the Helm chart; of several files, the later ones win.
	//
	// +optional
	values []*dagger.File,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
	// rolling, blue-green or canary; by default slipway.yaml's.
	//
	// +optional
	strategy string,
	// How many pods in manifests that are made; by default slipway.yaml's.
	//
	// +optional
	replicas int,
	// How long the workloads may take to be ready: 5m. By default slipway.yaml's.
	//
	// +optional
	deadline string,
	// How long they must have been ready without a restart to count: 15s. By default slipway.yaml's.
	//
	// +optional
	settle string,
	// Only show what would change.
	//
	// +optional
	dryRun bool,
	// Who deploys, for the record: env var of your CI, or your name.
	//
	// +optional
	// +default="dagger call"
	by string,
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
	// The private key that signs the record of the deployment, which then lies with the image's other evidence: file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// Where to tell how it ended: a webhook's URL, Slack's or any that takes JSON. env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (string, error) {
	rep, err := r.DeployReport(ctx, kubeconfig, cluster, kubeContext, namespace, manifests, values, name, strategy, replicas, deadline, settle, dryRun, by, publicKey, kms, environment, key, password, webhook)
	if err != nil {
		return "", err
	}
	text, err := rep.Gate()
	if err != nil || !dryRun {
		return text, err
	}
	changes, err := rep.Files.File("changes.diff").Contents(ctx)
	if err != nil {
		return "", fmt.Errorf("deploy: %w", err)
	}
	return strings.TrimRight(text+"\n\n"+changes, "\n"), nil
}

// What deploy did, also when it failed: result.json, changes.diff, record.json with every decision, and why.
//
// +cache="never"
func (r *Release) DeployReport(
	ctx context.Context,
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
	// Where what names no namespace goes; by default the context's.
	//
	// +optional
	namespace string,
	// Manifests to apply: a folder of YAML files, a kustomization, or a Helm chart. Write "image: slipway" where the image belongs. Without it,
	// good ones are made.
	//
	// +optional
	manifests *dagger.Directory,
	// Values for the Helm chart; of several files, the later ones win.
	//
	// +optional
	values []*dagger.File,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
	// rolling, blue-green or canary; by default slipway.yaml's.
	//
	// +optional
	strategy string,
	// How many pods in manifests that are made; by default slipway.yaml's.
	//
	// +optional
	replicas int,
	// How long the workloads may take to be ready: 5m. By default slipway.yaml's.
	//
	// +optional
	deadline string,
	// How long they must have been ready without a restart to count: 15s. By default slipway.yaml's.
	//
	// +optional
	settle string,
	// Only show what would change.
	//
	// +optional
	dryRun bool,
	// Who deploys, for the record: env var of your CI, or your name.
	//
	// +optional
	// +default="dagger call"
	by string,
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
	// The private key that signs the record of the deployment, which then lies with the image's other evidence: file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// Where to tell how it ended: a webhook's URL, Slack's or any that takes JSON. env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (*Report, error) {
	reference, err := r.verified(ctx, publicKey, kms, environment)
	if err != nil {
		return nil, fmt.Errorf("deploy: refused: %w", err)
	}
	args := []string{"-by", by}
	for name, value := range map[string]string{"-strategy": strategy, "-deadline": deadline, "-settle": settle} {
		args = flag(args, name, value)
	}
	if replicas != 0 {
		args = append(args, "-replicas", strconv.Itoa(replicas))
	}
	if dryRun {
		args, key, kms = append(args, "-dry-run"), nil, ""
	}
	return r.deploy(ctx, reference, r.Slipway.Deployment(kubeconfig, cluster, kubeContext, namespace, name), &rollout{
		manifests: manifests, values: values, flags: args, key: key, password: password, kms: kms, webhook: webhook})
}

// rollout is what a deployment is made of, beside the release and the place.
type rollout struct {
	manifests *dagger.Directory
	values    []*dagger.File
	flags     []string
	// key and password, or kms, sign the record; without them it is not signed.
	key, password *dagger.Secret
	kms           string
	webhook       *dagger.Secret
}

// deploy takes a reference that was verified to a cluster.
func (r *Release) deploy(ctx context.Context, reference string, d *Deployment, o *rollout) (*Report, error) {
	args := slices.Concat([]string{"-do", "deploy", "-ref", reference}, o.flags, manifestFlags(o.manifests, o.values))
	rep, err := d.run(ctx, mounted(r.Slipway.program("deploy"), o.manifests, o.values), o.webhook, args)
	if err != nil || o.key == nil && o.kms == "" {
		return rep, err
	}
	return rep, r.attachRecord(ctx, rep, reference, o.key, o.password, o.kms)
}

// verified is the release's reference by digest, if its evidence holds.
func (r *Release) verified(ctx context.Context, publicKey *dagger.File, kms, environment string) (string, error) {
	rep, err := r.VerifyReport(ctx, publicKey, kms, environment)
	if err != nil {
		return "", err
	}
	if _, err := rep.Gate(); err != nil {
		return "", err
	}
	return rep.output("reference")
}

// attachRecord signs the statement about a deployment, and puts it beside the image's other evidence.
func (r *Release) attachRecord(ctx context.Context, rep *Report, reference string, key, password *dagger.Secret, kms string) error {
	s := r.Slipway
	digest, err := rep.output("digest")
	if err != nil {
		return err
	}
	signed, err := s.sign(ctx, digest, repository(reference), rep.Files.Directory("statements"), key, password, kms)
	if err != nil {
		return fmt.Errorf("deploy: it ended as %q, and its record could not be signed: %w", rep.Verdict, err)
	}
	ctr := s.program("promote").WithMountedDirectory("/signed", signed.Files.Directory("signed"))
	ctr, flags, err := s.registryAccess(ctr, authenticated, reference)
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	if _, err := run(ctx, "promote", fresh(ctr), append([]string{"promote", "-from", reference, "-to", reference, "-signed", "/signed"}, flags...)); err != nil {
		return fmt.Errorf("deploy: it ended as %q, and its record could not be put beside the image: %w", rep.Verdict, err)
	}
	return nil
}

// The manifests that deploy would apply, with the image by the digest that was verified: to read, to commit, or to hand to other tools.
//
// +cache="never"
func (r *Release) Manifests(
	ctx context.Context,
	// Where what names no namespace goes.
	//
	// +optional
	// +default="default"
	namespace string,
	// Your manifests instead of Slipway's: a folder of YAML files, a kustomization, or a Helm chart.
	//
	// +optional
	manifests *dagger.Directory,
	// Values for the Helm chart; of several files, the later ones win.
	//
	// +optional
	values []*dagger.File,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
	// Write them for a controller that does blue-green or canary by itself, from the same slipway.yaml: argo-rollouts or flagger.
	//
	// +optional
	handTo string,
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
) (*dagger.File, error) {
	reference, err := r.verified(ctx, publicKey, kms, environment)
	if err != nil {
		return nil, fmt.Errorf("manifests: refused: %w", err)
	}
	d := r.Slipway.Deployment(nil, nil, "", namespace, name)
	ctr := mounted(r.Slipway.program("deploy"), manifests, values)
	rep, err := d.execute(ctx, ctr, append(flag([]string{"-do", "export", "-ref", reference}, "-hand-to", handTo), manifestFlags(manifests, values)...))
	if err != nil {
		return nil, err
	}
	if _, err := rep.Gate(); err != nil {
		return nil, err
	}
	return rep.Files.File("manifests.yaml"), nil
}

// mounted puts what is deployed into the stage's container.
func mounted(ctr *dagger.Container, manifests *dagger.Directory, values []*dagger.File) *dagger.Container {
	if manifests != nil {
		ctr = ctr.WithMountedDirectory("/manifests", manifests)
	}
	for i, f := range values {
		ctr = ctr.WithMountedFile(valuesPath(i), f)
	}
	return ctr
}

func valuesPath(i int) string { return fmt.Sprintf("/values/%03d.yaml", i) }

// manifestFlags are the flags for what mounted mounts.
func manifestFlags(manifests *dagger.Directory, values []*dagger.File) []string {
	var args, files []string
	if manifests != nil {
		args = append(args, "-manifests", "/manifests")
	}
	for i := range values {
		files = append(files, valuesPath(i))
	}
	if len(files) > 0 {
		args = append(args, "-values", strings.Join(files, ","))
	}
	return args
}
