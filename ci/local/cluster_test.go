package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func testCluster(t *testing.T) *cluster {
	t.Helper()
	c := testMachine(t).cluster("127.0.0.1:5000")
	if err := os.MkdirAll(c.state(), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(process{PID: os.Getpid(), Started: self, Address: "127.0.0.1:7443"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path("run", forwarder+".json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClusterCertificates opens a TLS connection in both directions with what a cluster is issued.
func TestClusterCertificates(t *testing.T) {
	c := testCluster(t)
	if err := c.issue(); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatal("ca.crt holds no certificate")
	}
	pair := func(name string) []tls.Certificate {
		p, err := tls.LoadX509KeyPair(c.pki(name+".crt"), c.pki(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	for _, name := range []string{"127.0.0.1", apiServiceIP, nodeAddress, "kubernetes.default.svc"} {
		near, far := net.Pipe()
		server := tls.Server(far, &tls.Config{Certificates: pair("apiserver"), ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert})
		client := tls.Client(near, &tls.Config{Certificates: pair("admin"), RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12})
		done := make(chan error, 1)
		go func() { done <- server.HandshakeContext(t.Context()) }()
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Errorf("%s: client: %v", name, err)
		}
		if err := <-done; err != nil {
			t.Fatalf("%s: server: %v", name, err)
		}
		if got := server.ConnectionState().PeerCertificates[0].Subject; got.CommonName != "admin" || got.Organization[0] != "system:masters" {
			t.Errorf("the administrator is %s", got)
		}
	}
	for file, address := range map[string]string{c.kubeconfig(): "127.0.0.1:7443", c.nodeKubeconfig(): "127.0.0.1:" + apiPort} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), `"https://`+address+`"`) {
			t.Errorf("%s does not lead to %s", file, address)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v: others can read the key", file, info.Mode(), err)
		}
	}
}

func TestClusterConfigure(t *testing.T) {
	c := testCluster(t)
	if err := c.configure(); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"containerd.toml": `sandbox_image = "127.0.0.1:5000/slipway/pause:1"`, "kubelet.yaml": "cgroupRoot: /" + c.namespace() + " ",
		"cni/10-pods.conflist": `"subnet": "10.244.0.0/16"`, "certs.d/127.0.0.1:5000/hosts.toml": `[host."http://127.0.0.1:5000"]`,
		"coredns.yaml":    "image: 127.0.0.1:5000/slipway/coredns:1\n",
		"gateway.yaml":    "image: 127.0.0.1:5000/slipway/traefik:" + traefikVersion + "\n",
		"prometheus.yaml": "image: 127.0.0.1:5000/slipway/prometheus:" + prometheusVersion + "\n", "shared.yaml": "namespace: slipway-gateway}",
	} {
		text, err := os.ReadFile(c.state(file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) || strings.Contains(string(text), "{{") {
			t.Errorf("%s lacks %q:\n%s", file, want, text)
		}
	}
}

// TestClusterInputs changes one folder after the other: what takes long to make must not be made again for another part's sake.
func TestClusterInputs(t *testing.T) {
	c := testCluster(t)
	c.source = t.TempDir()
	folders := []string{"config", "dns", "gateway", "node", "pause", "prometheus"}
	write := func(folder, text string) {
		file := filepath.Join(c.source, "cluster", folder, "go.mod")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	get := func() *inputs {
		in, err := c.inputs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	for _, f := range folders {
		write(f, "one")
	}
	for _, f := range folders {
		before := get()
		if again := get(); *again != *before {
			t.Fatalf("two looks at the same: %+v, %+v", before, again)
		}
		write(f, "two")
		after := get()
		if (after.node != before.node) != (f == "dns" || f == "node" || f == "pause") || (after.gateway != before.gateway) != (f == "gateway" || f == "prometheus") ||
			after.all == before.all {
			t.Errorf("after a change in %s: %+v, before %+v", f, after, before)
		}
	}
}

// TestGatewayVersions compares what the images are called with what is compiled.
func TestGatewayVersions(t *testing.T) {
	for folder, want := range map[string]string{"gateway": traefikModule + " " + traefikVersion, "prometheus": prometheusModule + " " + prometheusVersion} {
		mod, err := os.ReadFile(filepath.Join("cluster", folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(mod), "\t"+want+" ") {
			t.Errorf("cluster/%s/go.mod lacks %q", folder, want)
		}
	}
}

// TestProgramImage takes an image of a program back from a registry.
func TestProgramImage(t *testing.T) {
	h, err := newStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(file, []byte("the program"), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := programImage(file, "some")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(srv.URL, "http://")
	if err := push(t.Context(), image, address, []string{"some/program:1"}); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(address + "/some/program:1")
	if err != nil {
		t.Fatal(err)
	}
	if image, err = remote.Image(ref); err != nil {
		t.Fatal(err)
	}
	cfg, err := image.ConfigFile()
	if err != nil || len(cfg.Config.Entrypoint) != 1 || cfg.Config.Entrypoint[0] != "/some" || cfg.OS != "linux" || cfg.Architecture != goarch {
		t.Errorf("the image is %+v, %v", cfg, err)
	}
	files := mutate.Extract(image)
	defer files.Close()
	r := tar.NewReader(files)
	f, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); f.Name != "some" || f.Mode != 0o755 || string(text) != "the program" || err != nil {
		t.Errorf("%s, mode %o, is %q, %v", f.Name, f.Mode, text, err)
	}
	if f, err := r.Next(); err != io.EOF {
		t.Errorf("beside it is %+v, %v", f, err)
	}
}

// TestClusterStatus is what others find the cluster by.
func TestClusterStatus(t *testing.T) {
	c := testCluster(t)
	var text, data bytes.Buffer
	if err := errors.Join(c.status(&text, false), c.status(&data, true)); err != nil {
		t.Fatal(err)
	}
	var s state
	if err := json.Unmarshal(data.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	want := node{Address: "https://127.0.0.1:7443", Kubeconfig: c.kubeconfig(), Network: c.namespace(), Gateway: "10.96.0.60:80",
		Prometheus: "slipway-gateway/prometheus:9090"}
	if s.Cluster == nil || *s.Cluster != want {
		t.Errorf("the cluster is %+v, want %+v", s.Cluster, want)
	}
	for _, part := range []string{want.Address, want.Kubeconfig, want.Network, want.Gateway, want.Prometheus} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the text lacks %q:\n%s", part, text.String())
		}
	}
}

// TestForward sends more than any buffer holds through, and both sides see the other's end.
func TestForward(t *testing.T) {
	const size = 4 << 20
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	far, near := listen(), listen()
	go func() {
		for {
			conn, err := far.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				n, _ := io.Copy(io.Discard, conn) // until the caller has said all
				if n == size {
					_, _ = conn.Write(make([]byte, size))
				}
			}()
		}
	}()
	go func() {
		_ = serveForward(t.Context(), near, func() (net.Conn, error) { return net.Dial("tcp", far.Addr().String()) })
	}()
	conn, err := net.Dial("tcp", near.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	if err := forward(context.Background(), "", "", ""); !errors.As(err, new(usageError)) {
		t.Errorf("forward without a namespace: %v", err)
	}
	if err := forward(context.Background(), "nowhere", "x", "y"); !errors.As(err, new(usageError)) {
		t.Errorf("forward of nothing: %v", err)
	}
}

func TestRemoveLinksTo(t *testing.T) {
	dir, target := t.TempDir(), t.TempDir()
	for name, to := range map[string]string{"ours": filepath.Join(target, "log"), "theirs": "/somewhere/else", "sibling": target + "-2/log"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeLinksTo(dir, target); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
	if err := removeLinksTo(filepath.Join(dir, "missing"), target); err != nil {
		t.Error(err)
	}
}

// TestClusterDownWithoutOne is what "down" does on a machine that never had a cluster.
func TestClusterDownWithoutOne(t *testing.T) {
	c := testMachine(t).cluster("")
	if err := c.down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.down(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The folder of network namespaces is shared once: what "ip netns add" finds that way, it leaves alone.
func TestShareNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	for range 2 {
		if err := shareNamespaces(dir); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+dir+" ") {
			found++
			if !strings.Contains(line, "shared:") {
				t.Errorf("it is not shared: %s", line)
			}
		}
	}
	if found != 1 {
		t.Errorf("it is mounted %d times", found)
	}
}
