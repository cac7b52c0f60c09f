package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dagger/slipway/internal/dagger"
)

// Deploy the release to a Kubernetes cluster: verify it first, apply server-side with the image by digest, wait until it is ready, and go
// back to what ran before if it does not come up.
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
	// Manifests to apply: a folder of YAML files, or a kustomization. Write "image: slipway" where the image belongs. Without it, good ones
	// are made.
	//
	// +optional
	manifests *dagger.Directory,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
	// How many pods in manifests that are made.
	//
	// +optional
	// +default=2
	replicas int,
	// How long the workloads may take to be ready: 5m
	//
	// +optional
	// +default="5m"
	deadline string,
	// How long they must have been ready without a restart to count: a container that ends after some seconds is ready until then.
	//
	// +optional
	// +default="15s"
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
) (string, error) {
	rep, err := r.DeployReport(ctx, kubeconfig, cluster, kubeContext, namespace, manifests, name, replicas, deadline, settle, dryRun, by, publicKey, kms, environment)
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

// What deploy did, also when it failed: result.json, changes.diff, and why.
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
	// Manifests to apply: a folder of YAML files, or a kustomization. Write "image: slipway" where the image belongs. Without it, good ones
	// are made.
	//
	// +optional
	manifests *dagger.Directory,
	// The application's name; by default the repository's.
	//
	// +optional
	name string,
	// How many pods in manifests that are made.
	//
	// +optional
	// +default=2
	replicas int,
	// How long the workloads may take to be ready: 5m
	//
	// +optional
	// +default="5m"
	deadline string,
	// How long they must have been ready without a restart to count: a container that ends after some seconds is ready until then.
	//
	// +optional
	// +default="15s"
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
) (*Report, error) {
	s := r.Slipway
	verified, err := r.VerifyReport(ctx, publicKey, kms, environment)
	if err != nil {
		return nil, err
	}
	if _, err := verified.Gate(); err != nil {
		return nil, fmt.Errorf("deploy: refused: %w", err)
	}
	reference, err := verified.output("reference")
	if err != nil {
		return nil, err
	}
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	if kubeconfig == nil {
		return nil, errors.New("deploy: no kubeconfig: give --kubeconfig file:kubeconfig")
	}
	args := []string{"deploy", "-ref", reference, "-plan", "/plan/plan.json", "-kubeconfig", "/secrets/kubeconfig", "-deadline", deadline, "-settle", settle,
		"-replicas", fmt.Sprint(replicas), "-by", by, "-now", time.Now().UTC().Format(time.RFC3339)}
	ctr := s.program("deploy").
		WithMountedFile("/plan/plan.json", plan.Files.File("plan.json")).
		WithMountedSecret("/secrets/kubeconfig", kubeconfig)
	for flag, value := range map[string]string{"-context": kubeContext, "-namespace": namespace, "-app": name} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if dryRun {
		args = append(args, "-dry-run")
	}
	if manifests != nil {
		ctr = ctr.WithMountedDirectory("/manifests", manifests)
		args = append(args, "-manifests", "/manifests")
	}
	if cluster != nil {
		endpoint, err := clusterEndpoint(ctx, cluster)
		if err != nil {
			return nil, err
		}
		ctr = ctr.WithServiceBinding(clusterService, cluster)
		args = append(args, "-endpoint", endpoint)
	}
	return once(ctx, "deploy", fresh(ctr), args)
}

// clusterService is the host name under which a container sees the API server on the caller's machine.
const clusterService = "slipway-cluster"

func clusterEndpoint(ctx context.Context, cluster *dagger.Service) (string, error) {
	ports, err := cluster.Ports(ctx)
	if err != nil {
		return "", fmt.Errorf("deploy: --cluster: %w", err)
	}
	if len(ports) == 0 {
		return "", errors.New("deploy: --cluster has no port: write tcp://127.0.0.1:6443")
	}
	port, err := ports[0].Port(ctx)
	if err != nil {
		return "", fmt.Errorf("deploy: --cluster: %w", err)
	}
	return fmt.Sprintf("%s:%d", clusterService, port), nil
}
