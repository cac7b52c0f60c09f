package main

import (
	"embed"
	"errors"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed cluster/config
var clusterConfig embed.FS

// configure writes the components' configuration from the templates in cluster/config.
func (c *cluster) configure() error {
	templates, err := template.ParseFS(clusterConfig, "cluster/config/*")
	if err != nil {
		return err
	}
	values := map[string]string{
		"State": c.state(), "PKI": c.state("pki"), "Kubeconfig": c.nodeKubeconfig(), "Registry": c.registry, "Containerd": c.containerd(),
		"Runc": clusterPackages["runc"], "Pause": c.registry + "/" + pauseImage, "CoreDNS": c.registry + "/" + dnsImage,
		"Node": nodeName, "NodeAddress": nodeAddress, "Pods": podRange, "Bridge": clusterBridge, "DNS": dnsServiceIP, "Cgroup": "/" + c.namespace(),
		"Traefik": c.registry + "/" + traefikImage, "Prometheus": c.registry + "/" + prometheusImage, "GatewayNamespace": gatewayNamespace,
		"GatewayIP": gatewayIP, "GatewayPort": gatewayPort, "PrometheusIP": prometheusIP, "PrometheusPort": prometheusPort,
	}
	for name, file := range map[string]string{
		"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "kube-proxy.yaml": "kube-proxy.yaml", "coredns.yaml": "coredns.yaml",
		"gateway.yaml": "gateway.yaml", "prometheus.yaml": "prometheus.yaml", "shared.yaml": "shared.yaml",
		"resolv.conf": "resolv.conf", "pods.conflist": "cni/10-pods.conflist",
		"hosts.toml": "certs.d/" + c.registry + "/hosts.toml", "mirror.toml": "certs.d/docker.io/hosts.toml",
	} {
		if err := c.render(templates.Lookup(name), c.state(file), values); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) render(t *template.Template, file string, values map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(t.Option("missingkey=error").Execute(f, values), f.Close())
}

// containerd is its socket. A socket's path has to fit into 108 bytes, and containerd adds to the folder's name.
func (c *cluster) containerd() string { return c.path("cluster", "state", "containerd.sock") }
