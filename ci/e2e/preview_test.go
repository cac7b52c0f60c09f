//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPreview serves the built image on this machine.
func TestPreview(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.CommandContext(t.Context(), "dagger", "call", "--source", filepath.Join(shared.root, "testdata", "sample"),
		"build", "preview", "up", "--ports", fmt.Sprintf("%d:8080", port))
	cmd.Dir = shared.root
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
		if err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the image does not serve: %v", err)
		}
	}
}

// TestSmoke asks the image the questions of slipway.yaml.
func TestSmoke(t *testing.T) {
	source := filepath.Join(shared.root, "testdata", "sample")
	if got := mustDagger(t, "--source", source, "build", "smoke"); !strings.Contains(got, "smoke: pass") {
		t.Errorf("smoke = %q", got)
	}
	out := dagger(t, "--source", source, "build", "smoke", "--paths", "/no/such/path")
	if out.code == 0 || !strings.Contains(out.stdout+out.stderr, "/no/such/path") {
		t.Errorf("a wrong answer passed, or was not named: exit code %d\n%s%s", out.code, out.stdout, out.stderr)
	}
}

// TestCheck runs what "dagger check" finds in a repository.
func TestCheck(t *testing.T) {
	list := tool(t, "dagger", "check", "-l")
	for _, want := range []string{"lint", "test"} {
		if !strings.Contains(list, want) {
			t.Errorf("dagger check -l does not list %s:\n%s", want, list)
		}
	}
}
