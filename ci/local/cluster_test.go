package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
		"coredns.yaml": "image: 127.0.0.1:5000/slipway/coredns:1\n",
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
