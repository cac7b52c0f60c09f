//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// env is what all tests share: the tools of others that judge our work, and a signing key.
type env struct {
	root     string // the repository
	registry string // host:port on this machine
	tools    string // cosign, crane, syft, trivy
	python   string // an environment with the SBOM formats' validators
	keys     string // cosign.key, cosign.pub made by key-pair
	database string // the fixture advisory database's reference
}

var shared env

const password = "correct horse"

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	_, file, _, _ := runtime.Caller(0)
	shared.root = filepath.Dir(filepath.Dir(filepath.Dir(file)))
	shared.registry = os.Getenv("SLIPWAY_REGISTRY")
	if shared.registry == "" {
		return 0, errors.New("SLIPWAY_REGISTRY is not set: run ci/test, or ci/local/run exec -- go test -tags e2e ./ci/e2e")
	}
	if _, err := exec.LookPath("dagger"); err != nil {
		return 0, fmt.Errorf("%w: run ci/test, or ci/local/run exec -- go test -tags e2e ./ci/e2e", err)
	}
	dir, err := os.MkdirTemp("", "slipway-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	shared.tools, shared.keys, shared.python = filepath.Join(dir, "tools"), filepath.Join(dir, "keys"), filepath.Join(dir, "python")
	shared.database = shared.registry + "/fixtures/trivy-db:2"
	for _, step := range [][]string{
		// trivy needs the experiment. The flags are ci/bench's, so that all of it is compiled once for both.
		{"env", "GOEXPERIMENT=jsonv2", "go", "build", "-C", "ci/e2e/tools", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", "-s -w", "-o", shared.tools + "/", "tool"},
		{"python3", "-m", "venv", shared.python},
		{shared.python + "/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", "ci/e2e/tools/requirements.txt"},
		{"go", "run", "./stages/vulndb/cmd/fixturedb", "-advisories", "testdata/advisories", "-out", filepath.Join(dir, "db"), "-push", shared.database},
		{"dagger", "call", "--silent", "key-pair", "--password", "env:E2E_PASSWORD", "export", "--path", shared.keys},
	} {
		start := time.Now()
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Dir = shared.root
		cmd.Env = append(os.Environ(), "E2E_PASSWORD="+password, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out)
		}
		fmt.Fprintf(os.Stderr, "e2e: %s: %.0f s\n", step[0]+" "+step[1], time.Since(start).Seconds())
	}
	return m.Run(), nil
}

// output is what a command left.
type output struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// dagger runs "dagger call" with args in the repository.
func dagger(t *testing.T, args ...string) output {
	t.Helper()
	return command(t, 30*time.Minute, "dagger", append([]string{"call", "--silent"}, args...)...)
}

// mustDagger is dagger that has to succeed.
func mustDagger(t *testing.T, args ...string) string {
	t.Helper()
	out := dagger(t, args...)
	if out.code != 0 {
		t.Fatalf("dagger call %s: exit code %d\n%s\n%s", strings.Join(args, " "), out.code, out.stdout, out.stderr)
	}
	return strings.TrimSpace(out.stdout)
}

// command runs a program in the repository and waits for it.
func command(t *testing.T, limit time.Duration, name string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if own := filepath.Join(shared.tools, name); name != "dagger" {
		if _, err := os.Stat(own); err == nil {
			name = own
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = shared.root
	cmd.Env = append(os.Environ(), "E2E_PASSWORD="+password, "COSIGN_PASSWORD="+password)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	out := output{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(start)}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		out.code = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// tool runs a program that has to succeed and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out := command(t, 5*time.Minute, name, args...)
	if out.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s\n%s", name, strings.Join(args, " "), out.code, out.stdout, out.stderr)
	}
	return strings.TrimSpace(out.stdout)
}

// gitRepository copies a folder into a repository of its own with one commit, as a user's would be.
func gitRepository(t *testing.T, folder string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(folder))
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
	t.Setenv("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"},
		{"-c", "user.name=Slipway", "-c", "user.email=e2e@slipway.dev", "commit", "-q", "-m", "Import"}, {"tag", "v1.2.3"}} {
		tool(t, "git", append([]string{"-C", dir}, args...)...)
	}
	return dir
}

// readJSON decodes a file.
func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readJSON[T any](t *testing.T, path string) T {
	t.Helper()
	var v T
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}
