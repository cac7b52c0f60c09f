package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func testMachine(t *testing.T) *machine {
	t.Helper()
	// The path of t.TempDir may be too long for a socket.
	dir, err := os.MkdirTemp("", "slipway")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("SLIPWAY_CACHE", dir)
	t.Setenv("SLIPWAY_LOCAL_SOURCE", ".")
	m, err := newMachine(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRegistryRemembers starts the registry again from the same folder: manifests have to be there still.
func TestRegistryRemembers(t *testing.T) {
	dir := t.TempDir()
	img, err := random.Image(128, 2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		h, err := newStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(h)
		ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/library/demo:1")
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if err := remote.Write(ref, img); err != nil {
				t.Fatal(err)
			}
		}
		got, err := remote.Image(ref)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if d, err := got.Digest(); err != nil || d != want {
			t.Errorf("round %d: digest = %s, %v; want %s", round, d, err, want)
		}
		srv.Close()
	}
}

// TestStaleProcess takes a process number that belongs to somebody else by now.
func TestStaleProcess(t *testing.T) {
	started, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !(&process{PID: os.Getpid(), Started: started}).alive() {
		t.Error("a running process counts as ended")
	}
	if (&process{PID: os.Getpid(), Started: "1"}).alive() {
		t.Error("another process with the same number counts as ours")
	}
	m := testMachine(t)
	if err := writeFile(m.path("run", "engine.json"), []byte(`{"pid":`+strconv.Itoa(os.Getpid())+`,"started":"1"}`)); err != nil {
		t.Fatal(err)
	}
	if err := m.stop("engine", patience); err != nil { // it must not end this test
		t.Fatal(err)
	}
	if _, err := m.readProcess("engine"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale record is still there: %v", err)
	}
}

// A listener is kept for the next start, and one that the engine could not open is not.
func TestListener(t *testing.T) {
	m := testMachine(t)
	dir := t.TempDir()
	if err := m.setListener("127.0.0.1:1", dir); err == nil {
		t.Error("a folder without certificates was taken")
	}
	if l, err := m.listener(); err != nil || l != (listener{}) || l.flags() != nil {
		t.Errorf("nothing was set, and the listener is %+v, %v", l, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{tlsAuthority: {Type: "CERTIFICATE", Bytes: der}, tlsCertificate: {Type: "CERTIFICATE", Bytes: der}, tlsKey: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.setListener("127.0.0.1:1", dir); err != nil {
		t.Fatal(err)
	}
	if l, err := m.listener(); err != nil || l.Address != "127.0.0.1:1" || !slices.Contains(l.flags(), "tcp://127.0.0.1:1") {
		t.Errorf("the listener is %+v, %v", l, err)
	}
	if err := m.setListener("", ""); err != nil {
		t.Fatal(err)
	}
	if l, err := m.listener(); err != nil || l.flags() != nil {
		t.Errorf("it was ended, and is %+v, %v", l, err)
	}
}

func TestStartAndStop(t *testing.T) {
	m := testMachine(t)
	flag := m.path("run", "ready")
	cmd := exec.Command("sh", "-c", "touch "+flag+"; exec sleep 60")
	ready := func() bool { _, err := os.Stat(flag); return err == nil }
	if err := m.start("demo", process{Address: "a"}, cmd, ready, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p, err := m.readProcess("demo")
	if err != nil || !p.alive() {
		t.Fatalf("process = %+v, %v", p, err)
	}
	if err := m.stop("demo", patience); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("it still runs")
	}
	if err := m.start("demo", process{}, exec.Command("false"), func() bool { return false }, 5*time.Second); err == nil {
		t.Error("a program that ends at once gave no error")
	}
}

func TestLockIsExclusive(t *testing.T) {
	m := testMachine(t)
	unlock, err := m.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := m.lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = m.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestLayerIsReproducible packs two equal trees that were written in another order and at another time.
func TestLayerIsReproducible(t *testing.T) {
	m := testMachine(t)
	var digests []string
	for i, names := range [][]string{{"b", "a/c"}, {"a/c", "b"}} {
		dir := t.TempDir()
		for _, n := range names {
			p := filepath.Join(dir, n)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(n), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(p, time.Time{}, time.Unix(int64(1000*i), 0)); err != nil {
				t.Fatal(err)
			}
		}
		layer, err := m.layer(t.Context(), filepath.Join(t.TempDir(), "layer.tar.zst"), tree{dir: dir, at: "usr/local/go"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("digests differ: %v", digests)
	}
}

func TestUsage(t *testing.T) {
	testMachine(t)
	for _, args := range [][]string{nil, {"nonsense"}, {"exec"}, {"logs", "nonsense"}, {"up", "--nonsense"}, {"up", "--listen", "nowhere"}, {"up", "--listen", ":1"},
		{"up", "--listen", ":1", "--tls", "/nonexistent"}, {"up", "--tls", "/nonexistent"}} {
		err := run(t.Context(), args, io.Discard, io.Discard)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("%q: error = %v, want a usage error", args, err)
		}
	}
}

// script puts a program of that name first on the PATH.
func script(t *testing.T, name, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestPackages(t *testing.T) {
	m := testMachine(t)
	missing := map[string]string{"frobnicate": "/nonexistent/frobnicate", "sh": "/bin/sh"}
	t.Run("nothing to do", func(t *testing.T) {
		t.Setenv("PATH", "")
		if err := m.installPackages(t.Context(), map[string]string{"sh": "/bin/sh"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("no apt", func(t *testing.T) {
		t.Setenv("PATH", "")
		err := m.installPackages(t.Context(), missing)
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), "frobnicate") || strings.Contains(err.Error(), "sh,") {
			t.Errorf("error = %v, want a usage error that names what is missing", err)
		}
	})
	t.Run("apt fails", func(t *testing.T) {
		script(t, "apt-get", "echo E: Unable to locate package frobnicate >&2; exit 100")
		err := m.installPackages(t.Context(), missing)
		if err == nil || !strings.Contains(err.Error(), "Unable to locate package frobnicate") {
			t.Errorf("error = %v, want what apt said", err)
		}
		var b strings.Builder
		if err := m.logs(t.Context(), &b, "build", false); err != nil || !strings.Contains(b.String(), "Unable to locate") {
			t.Errorf("the build log says %q, %v", b.String(), err)
		}
	})
}

func TestFullDisk(t *testing.T) {
	m := testMachine(t)
	err := m.enoughSpace(1 << 62)
	if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), m.root) || !strings.Contains(err.Error(), "SLIPWAY_CACHE") {
		t.Errorf("error = %v, want a usage error that names the folder and the way out", err)
	}
	if err := m.enoughSpace(1); err != nil {
		t.Error(err)
	}
}

// TestHalfWrittenImage is interrupted while it makes a system: what is left must not count as one.
func TestHalfWrittenImage(t *testing.T) {
	m := testMachine(t)
	dir := m.path("images", "demo", "rootfs")
	image := baseImage{name: "demo", suite: "bookworm"}
	script(t, "mmdebstrap", `for last; do :; done; mkdir -p "$last"; touch "$last/half"; exit 1`)
	if err := m.debootstrap(t.Context(), image, dir); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("half a system counts as one: %v", err)
	}
	script(t, "mmdebstrap", `for last; do :; done; mkdir -p "$last"; touch "$last/whole"`)
	if err := m.debootstrap(t.Context(), image, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first try's files are among the second's: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
		t.Error(err)
	}
}

func TestFreeRange(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tt := range []struct {
		start byte
		used  []netip.Prefix
		want  string
	}{
		{0, nil, "10.64.0.0/16"},
		{23, prefixes("192.168.1.0/24"), "10.87.0.0/16"},
		{23, prefixes("10.87.0.0/16", "10.88.3.0/24"), "10.89.0.0/16"},
		{23, prefixes("10.0.0.0/8"), "10.87.0.0/16"},
		{255, prefixes("10.191.0.0/16"), "10.64.0.0/16"},
	} {
		if got, err := freeRange(tt.start, tt.used); err != nil || got != tt.want {
			t.Errorf("freeRange(%d, %v) = %s, %v; want %s", tt.start, tt.used, got, err, tt.want)
		}
	}
	var all []netip.Prefix
	for i := range 128 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i), 7, 0}), 24))
	}
	if got, err := freeRange(0, all); err == nil {
		t.Errorf("with everything in use: %s", got)
	}
}

// TestRemoval deletes the rules of one network and leaves those of others alone.
func TestRemoval(t *testing.T) {
	const nat = `-P POSTROUTING ACCEPT
-A POSTROUTING -s 10.87.0.0/16 ! -o slipab0 -m comment --comment slipab -j MASQUERADE
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"y\"" -j CNI-77aa
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
`
	const filter = `-P FORWARD DROP
-A FORWARD -d 10.87.0.0/16 -m comment --comment slipab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -s 10.89.0.0/16 -m comment --comment slipabc -j ACCEPT
-A FORWARD -j CNI-FORWARD
`
	const wantNAT = `*nat
-D POSTROUTING -s 10.87.0.0/16 ! -o slipab0 -m comment --comment slipab -j MASQUERADE
COMMIT
`
	const wantFilter = `*filter
-D FORWARD -d 10.87.0.0/16 -m comment --comment slipab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
	for _, test := range []struct{ network, nat, filter, want string }{
		{"slipab", nat, "", wantNAT},
		{"slipab", "", filter, wantFilter},
		{"slipcd", nat, filter, ""},
	} {
		if got := removal(test.network, test.nat, test.filter); got != test.want {
			t.Errorf("removal of %s:\n%s\nwant:\n%s", test.network, got, test.want)
		}
	}
}

func TestProgress(t *testing.T) {
	var plain strings.Builder
	p := newProgress(&plain)
	if err := p.step("one", func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s := plain.String(); strings.Contains(s, "\x1b") || !strings.Contains(s, "one ...\n") || !strings.Contains(s, "one: done in") {
		t.Errorf("without a terminal: %q", s)
	}
	var live strings.Builder
	p = newProgress(&live)
	p.width = 40
	failed := errors.New("broken")
	err := p.step("two", func() error {
		p.say("between")
		return p.step(strings.Repeat("long ", 20), func() error { p.say("deep"); return failed })
	})
	if !errors.Is(err, failed) || !strings.HasPrefix(err.Error(), "two: long") {
		t.Errorf("error = %v", err)
	}
	for line := range strings.SplitSeq(live.String(), "\r\x1b[K") {
		if strings.HasPrefix(line, "...") && len([]rune(line)) >= 40 {
			t.Errorf("a line of %d columns on a terminal of 40: %q", len([]rune(line)), line)
		}
	}
	if s := live.String(); !strings.Contains(s, "... two (0 s)") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("on a terminal: %q", s)
	}
}

func TestLogsFollow(t *testing.T) {
	m := testMachine(t)
	if err := os.WriteFile(m.path("log", "engine.log"), []byte(strings.Repeat("x", 100<<10)+"\nfirst\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- m.logs(ctx, w, "engine", true); w.Close() }()
	var got strings.Builder
	buf := make([]byte, 32<<10)
	for !strings.Contains(got.String(), "second") {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("%v after %d bytes", err, got.Len())
		}
		got.Write(buf[:n])
		if strings.HasSuffix(got.String(), "first\n") {
			f, err := os.OpenFile(m.path("log", "engine.log"), os.O_APPEND|os.O_WRONLY, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("second\n"); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	if got.Len() > 70<<10 {
		t.Errorf("%d bytes, want the end only", got.Len())
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("interrupted: %v", err)
	}
}
