package main

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := m.stop("engine"); err != nil { // it must not end this test
		t.Fatal(err)
	}
	if _, err := m.readProcess("engine"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale record is still there: %v", err)
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
	if err := m.stop("demo"); err != nil {
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
		layer, err := m.layer(t.Context(), filepath.Join(t.TempDir(), "layer.tar.gz"), tree{dir: dir, at: "usr/local/go"})
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
	for _, args := range [][]string{nil, {"nonsense"}, {"exec"}, {"logs", "nonsense"}, {"up", "--nonsense"}} {
		err := run(t.Context(), args, io.Discard, io.Discard)
		if _, ok := errors.AsType[usageError](err); !ok {
			t.Errorf("%q: error = %v, want a usage error", args, err)
		}
	}
}
