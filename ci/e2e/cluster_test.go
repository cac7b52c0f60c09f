//go:build e2e

package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kube is a running cluster and kubectl for it, built from Kubernetes' own modules.
type kube struct {
	kubeconfig string
	service    string // the API server as Dagger's argument
	kubectlBin string
	network    string // the name of its network namespace
}

// newKube starts the machine's own cluster, or finds it running. Building one takes too long for every run of the tests: it has to be asked
// for, or there.
func newKube(t *testing.T) *kube {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a Kubernetes node needs root")
	}
	local := filepath.Join(shared.root, "ci", "local", "run")
	if os.Getenv("SLIPWAY_CLUSTER") == "" && !nodeBuilt(t, local) {
		t.Skip("no Kubernetes node is built on this machine: run ci/test --cluster, or ci/local/run up --cluster before")
	}
	if out := command(t, 40*time.Minute, local, "up", "--registry-only", "--cluster"); out.code != 0 {
		t.Fatalf("up --cluster: exit code %d\n%s", out.code, out.stderr)
	}
	status := machineStatus(t, local)
	if status.Cluster == nil {
		t.Fatalf("up --cluster left no cluster: %+v", status)
	}
	u, err := url.Parse(status.Cluster.Address)
	if err != nil {
		t.Fatal(err)
	}
	return &kube{network: status.Cluster.Network, kubeconfig: status.Cluster.Kubeconfig, service: "tcp://" + u.Host, kubectlBin: filepath.Join(status.Cache, "cluster", "bin", "kubectl")}
}

// localStatus is what ci/local says about the machine.
type localStatus struct {
	Cache   string `json:"cache"`
	Cluster *struct {
		Address    string `json:"address"`
		Kubeconfig string `json:"kubeconfig"`
		Network    string `json:"network"`
		Gateway    string `json:"gateway"`
		Prometheus string `json:"prometheus"`
	} `json:"cluster"`
}

func machineStatus(t *testing.T, local string) *localStatus {
	t.Helper()
	var s localStatus
	if err := json.Unmarshal([]byte(tool(t, local, "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func nodeBuilt(t *testing.T, local string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(machineStatus(t, local).Cache, "cluster", "built"))
	return err == nil
}

func (k *kube) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return tool(t, k.kubectlBin, append([]string{"--kubeconfig", k.kubeconfig}, args...)...)
}

// namespace is a fresh one for a test.
func (k *kube) namespace(t *testing.T, name string) string {
	t.Helper()
	k.kubectl(t, "delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=120s")
	k.kubectl(t, "create", "namespace", name)
	return name
}

// TestCluster asks the machine's own cluster for what a cluster is for: pods from the local registry that find each other by name.
func TestCluster(t *testing.T) {
	k := newKube(t)
	start := time.Now()
	newKube(t)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the second up took %s: it did something", took)
	}
	ns := k.namespace(t, "names")
	k.kubectl(t, "run", "asking", "--namespace", ns, "--restart=Never", "--image=docker.io/library/debian:bookworm", "--",
		"getent", "hosts", "kubernetes.default.svc.cluster.local")
	k.kubectl(t, "wait", "--namespace", ns, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s", "pod/asking")
	if out := k.kubectl(t, "logs", "--namespace", ns, "asking"); !strings.HasPrefix(out, "10.96.0.1 ") {
		t.Errorf("the API server's name leads to %q", out)
	}
	k.kubectl(t, "delete", "namespace", ns, "--wait=false")
}
