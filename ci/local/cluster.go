package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	kubernetesVersion = "v1.36.3"

	// The node's own addresses: nobody else is in its network namespace, so that they are the same on every machine.
	nodeAddress    = "10.245.0.1"
	podRange       = "10.244.0.0/16"
	serviceRange   = "10.96.0.0/16"
	apiServiceIP   = "10.96.0.1"
	dnsServiceIP   = "10.96.0.10"
	clusterBridge  = "cni0"
	apiPort        = "6443"
	nodeName       = "node0"
	etcdAddress    = "127.0.0.1:2379"
	kubeletPort    = "10248"
	controllerPort = "10257"
	schedulerPort  = "10259"
	proxyPort      = "10256"
)

// clusterPatience is how long a part of the node may take to end. The API server would wait a minute for its watchers, and nothing that it
// could still write outlives it.
const clusterPatience = time.Second

// clusterPackages are what the node takes from Debian.
var clusterPackages = map[string]string{
	"containerd":                  "/usr/bin/containerd",
	"containernetworking-plugins": "/usr/lib/cni/portmap",
	"iptables":                    "/usr/sbin/iptables",
	"runc":                        "/usr/sbin/runc",
	"conntrack":                   "/usr/sbin/conntrack",
}

// cluster is a Kubernetes node in a network namespace of its own: what it does to the network it does there.
type cluster struct {
	*machine
	registry string // the local registry's host:port, the same inside and outside
}

func (m *machine) cluster(registry string) *cluster { return &cluster{machine: m, registry: registry} }

// state is a path of what the cluster writes as it runs; down removes all of it.
func (c *cluster) state(elem ...string) string {
	return c.path(append([]string{"cluster", "state"}, elem...)...)
}

func (c *cluster) bin(name string) string { return c.path("cluster", "bin", name) }

// tools is a folder with kubectl and nothing else, for a PATH: the node's own programs have names that others use.
func (c *cluster) tools() (string, error) {
	dir := c.path("cluster", "tools")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.Symlink(c.bin("kubectl"), filepath.Join(dir, "kubectl")); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
}

func (c *cluster) kubeconfig() string { return c.path("cluster", "kubeconfig") }

// component is a program of the node, in the order in which they start.
type component struct {
	name string
	args []string
	// ready is asked until it says yes.
	ready func(context.Context) bool
}

func (c *cluster) components() []component {
	own, pki := c.nodeKubeconfig(), c.pki
	return []component{
		{"etcd", []string{"--data-dir", c.state("etcd"), "--listen-client-urls", "http://" + etcdAddress, "--advertise-client-urls", "http://" + etcdAddress,
			"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
			// What is in it lives no longer than the cluster: a machine that loses power loses both.
			"--initial-cluster", "default=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn"},
			c.answers("http://" + etcdAddress + "/health")},
		{"containerd", []string{"--config", c.state("containerd.toml")},
			func(context.Context) bool { return answers("unix", c.containerd()) }},
		{"kube-apiserver", []string{"--etcd-servers=http://" + etcdAddress, "--advertise-address=" + nodeAddress, "--bind-address=0.0.0.0",
			"--secure-port=" + apiPort, "--service-cluster-ip-range=" + serviceRange, "--authorization-mode=Node,RBAC", "--allow-privileged=true",
			"--endpoint-reconciler-type=lease", "--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"),
			"--tls-private-key-file=" + pki("apiserver.key"), "--kubelet-client-certificate=" + pki("admin.crt"), "--kubelet-client-key=" + pki("admin.key"),
			"--kubelet-preferred-address-types=InternalIP", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key")},
			c.answers("https://127.0.0.1:" + apiPort + "/readyz")},
		{"kube-controller-manager", []string{"--kubeconfig=" + own, "--leader-elect=false", "--bind-address=127.0.0.1",
			"--use-service-account-credentials", "--service-account-private-key-file=" + pki("sa.key"), "--root-ca-file=" + pki("ca.crt"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key")},
			c.answers("https://127.0.0.1:" + controllerPort + "/healthz")},
		{"kube-scheduler", []string{"--kubeconfig=" + own, "--leader-elect=false", "--bind-address=127.0.0.1"},
			c.answers("https://127.0.0.1:" + schedulerPort + "/healthz")},
		{"kubelet", []string{"--config=" + c.state("kubelet.yaml"), "--kubeconfig=" + own, "--hostname-override=" + nodeName,
			"--node-ip=" + nodeAddress, "--root-dir=" + c.state("kubelet")},
			c.answers("http://127.0.0.1:" + kubeletPort + "/healthz")},
		{"kube-proxy", []string{"--config=" + c.state("kube-proxy.yaml")},
			c.answers("http://127.0.0.1:" + proxyPort + "/healthz")},
	}
}

// up makes what is missing and starts what does not run.
func (c *cluster) up(ctx context.Context) error {
	in, err := c.inputs(ctx)
	if err != nil {
		return err
	}
	if c.running(in.all) {
		return nil
	}
	if os.Geteuid() != 0 {
		return usagef("a Kubernetes node needs root: run it as root, or use a cluster that you have (kind, k3d, minikube)")
	}
	if err := c.build(ctx, in); err != nil {
		return err
	}
	if dead := c.dead(in.all); len(dead) > 0 {
		return c.log.step("starting again "+strings.Join(dead, ", "), func() error { return c.startComponents(ctx, in.all, dead) })
	}
	if err := c.down(ctx); err != nil {
		return fmt.Errorf("stopping what is left of the old cluster: %w", err)
	}
	return c.log.step("starting Kubernetes "+kubernetesVersion, func() error {
		if err := c.startAll(ctx, in.all); err != nil {
			return errors.Join(err, c.down(context.WithoutCancel(ctx)))
		}
		return nil
	})
}

// running reports whether every part of a cluster made from these inputs is there.
func (c *cluster) running(inputs string) bool {
	for _, name := range append(c.names(), forwarder) {
		p, err := c.readProcess(name)
		if err != nil || !p.alive() || p.Inputs != inputs {
			return false
		}
	}
	return true
}

// dead names the parts to start again where what holds the state, etcd, containerd and the network, still runs; none where all of it has to be new.
func (c *cluster) dead(inputs string) []string {
	var dead []string
	for _, name := range append(c.names(), forwarder) {
		p, err := c.readProcess(name)
		switch {
		case err != nil || p.Inputs != inputs:
			return nil
		case p.alive():
		case name == "etcd" || name == "containerd" || name == forwarder:
			return nil
		default:
			dead = append(dead, name)
		}
	}
	return dead
}

func (c *cluster) names() []string {
	var names []string
	for _, p := range c.components() {
		names = append(names, p.name)
	}
	return names
}

func (c *cluster) startAll(ctx context.Context, inputs string) error {
	if err := c.createNetwork(); err != nil {
		return fmt.Errorf("making the network namespace: %w", err)
	}
	if err := c.createCgroups(); err != nil {
		return fmt.Errorf("making the control group: %w", err)
	}
	if err := c.startForwarder(inputs); err != nil {
		return fmt.Errorf("joining the network namespace with the machine: %w", err)
	}
	if err := c.issue(); err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	if err := c.configure(); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if err := c.startComponents(ctx, inputs, c.names()); err != nil {
		return err
	}
	return c.populate(ctx)
}

// startComponents starts those that are named, in their order.
func (c *cluster) startComponents(ctx context.Context, inputs string, names []string) error {
	for _, p := range c.components() {
		if !slices.Contains(names, p.name) {
			continue
		}
		// Only the network is another: "ip netns exec" would also hide the control groups.
		cmd := exec.Command("nsenter", append([]string{"--net=" + c.namespacePath(), c.program(p.name)}, p.args...)...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if err := c.start(p.name, process{Inputs: inputs}, cmd, func() bool { return p.ready(ctx) }, 2*time.Minute); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (c *cluster) program(name string) string {
	if file, ok := clusterPackages[name]; ok {
		return file
	}
	return c.bin(name)
}

func (c *cluster) kubectl(ctx context.Context, args ...string) error {
	return c.command(ctx, c.bin("kubectl"), append([]string{"--kubeconfig", c.kubeconfig()}, args...)...)
}

// answers asks for a page inside the namespace, as the administrator.
func (c *cluster) answers(url string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		cert, err := tls.LoadX509KeyPair(c.pki("admin.crt"), c.pki("admin.key"))
		if err != nil {
			return false
		}
		t := &http.Transport{DialContext: c.dialInside, DisableKeepAlives: true,
			// Each component makes a certificate of its own for 127.0.0.1, where nobody else can listen.
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}} //nolint:gosec // see above
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return false
		}
		res, err := (&http.Client{Transport: t, Timeout: 2 * time.Second}).Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
}

// down ends the node and everything in it, and removes what it wrote.
func (c *cluster) down(ctx context.Context) error {
	names := c.names()
	slices.Reverse(names)
	// The kubelet goes first: it would start again what is ended next.
	names = append([]string{"kubelet"}, slices.DeleteFunc(names, func(n string) bool { return n == "kubelet" || n == "containerd" })...)
	for _, name := range names {
		if err := c.stop(name, clusterPatience); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := c.killPods(ctx); err != nil {
		return fmt.Errorf("ending the pods: %w", err)
	}
	for _, name := range []string{"containerd", forwarder} {
		if err := c.stop(name, clusterPatience); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := c.killShims(); err != nil {
		return fmt.Errorf("ending containerd's shims: %w", err)
	}
	if err := c.removeCgroups(); err != nil {
		return fmt.Errorf("removing the control group: %w", err)
	}
	if err := c.removeNetworkNamespace(); err != nil {
		return fmt.Errorf("removing the network namespace: %w", err)
	}
	if err := unmountBelow(c.state()); err != nil {
		return fmt.Errorf("unmounting what is below %s: %w", c.state(), err)
	}
	if err := removeLinksTo("/var/log/containers", c.state()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(c.state()), os.RemoveAll(c.kubeconfig()))
}

// removeLinksTo deletes the links in dir that lead below target: the kubelet leaves one for each container's log.
func removeLinksTo(dir, target string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, target+"/") {
			if err := os.Remove(link); err != nil {
				return err
			}
		}
	}
	return nil
}

// inputs are hashes of what the parts of the cluster are made from. Each is made again only when its own changes: the node takes longer than
// all others together.
type inputs struct {
	node, gateway string
	all           string // of those and of the configuration
}

func (c *cluster) inputs(ctx context.Context) (*inputs, error) {
	version, err := goEnv(ctx, "GOVERSION")
	if err != nil {
		return nil, err
	}
	var in inputs
	for _, part := range []struct {
		hash    *string
		words   []any
		folders []string
	}{
		{&in.node, []any{version, c.registry, kubernetesVersion}, []string{"dns", "node", "pause"}},
		{&in.gateway, []any{version, c.registry, traefikVersion, prometheusVersion}, []string{"gateway", "prometheus"}},
	} {
		if *part.hash, err = c.hash(part.words, part.folders...); err != nil {
			return nil, err
		}
	}
	in.all, err = c.hash([]any{in.node, in.gateway}, "config")
	return &in, err
}

// hash is that of words and of the files in folders of the cluster's source.
func (c *cluster) hash(words []any, folders ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, words...)
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(c.source, "cluster", folder, "*"))
		if err != nil {
			return "", err
		}
		for _, f := range files { // sorted
			sum, err := fileHash(f)
			if err != nil {
				return "", err
			}
			fmt.Fprintln(h, folder, filepath.Base(f), sum)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
