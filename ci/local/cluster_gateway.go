package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// traefikVersion and prometheusVersion are the newest whose sources are all at the Go module proxy, and need no newer Go than the node.
	traefikVersion    = "v3.6.7"
	traefikModule     = "github.com/traefik/traefik/v3"
	traefikImage      = "slipway/traefik:" + traefikVersion
	prometheusVersion = "v0.315.0"
	prometheusModule  = "github.com/prometheus/prometheus"
	prometheusImage   = "slipway/prometheus:" + prometheusVersion
	gatewayAPIModule  = "sigs.k8s.io/gateway-api"

	// gatewayNamespace is where Traefik and Prometheus are. Their addresses are from the part of the range that no Service gets by chance.
	gatewayNamespace = "slipway-gateway"
	gatewayIP        = "10.96.0.60"
	gatewayPort      = "80"
	prometheusIP     = "10.96.0.61"
	prometheusPort   = "9090"
)

// buildGateway makes the images of what splits traffic and of what measures it, and keeps the definitions of the Gateway API's objects.
func (c *cluster) buildGateway(ctx context.Context) error {
	source := filepath.Join(c.source, "cluster", "gateway")
	for _, p := range []program{
		{name: "traefik", dir: source, pkg: traefikModule + "/cmd/traefik", image: traefikImage,
			linker: "-X " + traefikModule + "/pkg/version.Version=" + strings.TrimPrefix(traefikVersion, "v")},
		// Of the ways to find targets only that of a cluster: the clouds' would be most of the program.
		{name: "prometheus", dir: filepath.Join(c.source, "cluster", "prometheus"), pkg: prometheusModule + "/cmd/prometheus", image: prometheusImage,
			tags: "remove_all_sd,enable_kubernetes_sd"},
	} {
		if err := c.buildImage(ctx, p); err != nil {
			return err
		}
	}
	if err := c.copyDefinitions(ctx, source); err != nil {
		return fmt.Errorf("copying the definitions of the Gateway API: %w", err)
	}
	return nil
}

// copyDefinitions takes them from the module that Traefik is compiled with: what the cluster accepts is what Traefik knows.
func (c *cluster) copyDefinitions(ctx context.Context, source string) error {
	out, err := exec.CommandContext(ctx, "go", "-C", source, "mod", "download", "-json", gatewayAPIModule).Output()
	if err != nil {
		return fmt.Errorf("go mod download %s: %w: %s", gatewayAPIModule, err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	if err := os.RemoveAll(c.definitions()); err != nil {
		return err
	}
	return os.CopyFS(c.definitions(), os.DirFS(filepath.Join(module.Dir, "config", "crd", "standard")))
}

func (c *cluster) definitions() string { return c.path("cluster", "definitions") }

// populate puts into a new cluster what every one has: a name service, a gateway for all namespaces, and Prometheus.
func (c *cluster) populate(ctx context.Context) error {
	for _, args := range [][]string{
		{"apply", "--server-side", "--filename", c.definitions(), "--filename", c.state("coredns.yaml"), "--filename", c.state("gateway.yaml"),
			"--filename", c.state("prometheus.yaml")},
		{"wait", "--for=condition=Established", "--timeout=60s", "--filename", c.definitions()},
		{"apply", "--server-side", "--filename", c.state("shared.yaml")},
		{"wait", "--for=condition=Available", "--timeout=120s", "--namespace=kube-system", "deployment/coredns"},
		{"wait", "--for=condition=Available", "--timeout=120s", "--namespace=" + gatewayNamespace, "deployment/traefik"},
		{"wait", "--for=condition=Available", "--timeout=120s", "--namespace=" + gatewayNamespace, "deployment/prometheus"},
		{"wait", "--for=condition=Programmed", "--timeout=60s", "--namespace=" + gatewayNamespace, "gateway/shared"},
	} {
		if err := c.kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
