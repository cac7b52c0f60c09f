//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The two ends of the wire between the machine with the engine and the runner, which is a network namespace.
const engineSide, runnerSide = "10.97.66.1", "10.97.66.2"

// byRemote runs the shared script where there is no engine: the machine's own listens on TCP for who has a certificate, and the runner is in another
// network namespace.
func (w *wrappers) byRemote(t *testing.T, publish string) run {
	t.Helper()
	if os.Getenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST") == "" || os.Geteuid() != 0 {
		return run{log: "the engine is the caller's own, or this is not root: it cannot be made to listen"}
	}
	local := filepath.Join(shared.root, "ci", "local", "run")
	const name = "slipway-runner"
	for _, args := range [][]string{{"netns", "add", name}, {"link", "add", "slipway-e2e", "type", "veth", "peer", "name", "eth0", "netns", name},
		{"addr", "add", engineSide + "/30", "dev", "slipway-e2e"}, {"link", "set", "slipway-e2e", "up"}, {"-n", name, "addr", "add", runnerSide + "/30", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"}, {"-n", name, "link", "set", "lo", "up"}} {
		tool(t, "ip", args...)
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "netns", "del", name).Run()
		_ = exec.Command("ip", "link", "del", "slipway-e2e").Run()
		if out, err := exec.Command(local, "up", "--listen", "").CombinedOutput(); err != nil {
			t.Errorf("ending the listening: %v\n%s", err, out)
		}
	})
	server, client := certificates(t)
	tool(t, local, "up", "--listen", engineSide+":1234", "--tls", server)

	// The registry listens on the engine's machine only. The runner has one at the same address, by way of the wire.
	forward(t, "socat", "TCP-LISTEN:5001,bind="+engineSide+",fork,reuseaddr", "TCP:"+shared.registry)
	_, port, err := net.SplitHostPort(shared.registry)
	if err != nil {
		t.Fatal(err)
	}
	forward(t, "ip", "netns", "exec", name, "socat", "TCP-LISTEN:"+port+",bind=127.0.0.1,fork,reuseaddr", "TCP:"+engineSide+":5001")

	env := []string{"SLIPWAY_ENGINE=tls://" + engineSide + ":1234", "SLIPWAY_DATABASE=" + shared.database, "SLIPWAY_TOOLBOX=" + w.toolbox,
		"SLIPWAY_OPTIONS=" + w.options(), "SLIPWAY_PUBLISH=" + publish, "SLIPWAY_KEY=" + secret(t), "SLIPWAY_PASSWORD=" + password}
	script := "exec ip netns exec " + name + " " + filepath.Join(w.slipway, "ci", "slipway")
	stranger := w.byScript(t, w.clone(t), script, append(env, "SLIPWAY_ENGINE_TIMEOUT=10", "SLIPWAY_ENGINE_TLS="+func() string { _, other := certificates(t); return other }()))
	if stranger.code != 3 {
		t.Errorf("who has another authority's certificate gets exit code %d\n%s", stranger.code, stranger.log)
	}
	return w.byScript(t, w.clone(t), script, append(env, "SLIPWAY_ENGINE_TLS="+client))
}

// forward runs a program until the test ends.
func forward(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
}

// certificates are a server's and a client's folder, both of one authority.
func certificates(t *testing.T) (server, client string) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	make := func(serial int64, name string, parent *x509.Certificate, own, signer *ecdsa.PrivateKey) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true}
		if parent == nil {
			parent, c.IsCA, c.KeyUsage = c, true, x509.KeyUsageCertSign
		} else {
			c.IPAddresses, c.ExtKeyUsage = []net.IP{net.ParseIP(engineSide)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	authorityKey := key()
	der := make(1, "authority", nil, authorityKey, authorityKey)
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	folder := func(serial int64) string {
		own, dir := key(), t.TempDir()
		private, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
			"cert.pem": {Type: "CERTIFICATE", Bytes: make(serial, engineSide, authority, own, authorityKey)}} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	return folder(2), folder(3)
}
