//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestWrongInput gives the module what a person gets wrong, and expects one clear error that names it and the way out.
func TestWrongInput(t *testing.T) {
	locked := lockedRegistry(t)
	broken := func(name string) []string {
		return []string{"--source", filepath.Join(shared.root, "testdata", "broken", name)}
	}
	sample := []string{"--source", filepath.Join(shared.root, "testdata", "sample"), "--registry", "tcp://" + shared.registry}
	key := []string{"--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD"}
	database := []string{"--database", shared.database}

	tests := []struct {
		name string
		args [][]string
		want []string // each must occur in what is printed
	}{
		{"no Go project", [][]string{broken("no-project"), {"plan"}}, []string{"plan:", "go.mod"}},
		{"broken go.mod", [][]string{broken("bad-gomod"), {"plan"}}, []string{"plan:", "go.mod:"}},
		{"unknown key", [][]string{broken("bad-config"), {"plan"}}, []string{"plan:", "slipway.yaml:", "did you mean"}},
		{"failing test", [][]string{broken("failing-test"), {"test"}}, []string{"test: fail"}},
		{"unformatted source", [][]string{broken("unformatted"), {"lint"}}, []string{"lint: fail", "gofmt"}},
		{"vulnerable dependency", [][]string{broken("vulnerable"), {"--registry", "tcp://" + shared.registry, "build", "scan"}, database},
			[]string{"scan: fail", "gorilla/websocket"}},
		{"missing key file", [][]string{sample, {"pipeline", "--publish", shared.registry + "/wrong/app:1", "--key", "file:/nonexistent/cosign.key"}},
			[]string{"/nonexistent/cosign.key"}},
		{"no key", [][]string{sample, {"pipeline", "--publish", shared.registry + "/wrong/app:1"}}, []string{"--key"}},
		{"reference without repository", [][]string{sample, {"release", "--reference", shared.registry + "/:1", "verify", "--public-key", shared.keys + "/cosign.pub"}},
			[]string{"verify:", shared.registry + "/:1"}},
		{"local registry without a service", [][]string{sample[:2], {"build", "publish", "--reference", "localhost:5000/app:1"}},
			[]string{"localhost:5000/app:1", "--registry tcp://localhost:5000"}},
		{"unreachable registry", [][]string{sample[:2], {"build", "publish", "--reference", "registry.invalid/app:1"}},
			[]string{"publish:", "registry.invalid"}},
		{"wrong credentials", [][]string{sample[:2], {"--registry", "tcp://" + locked, "with-registry-auth", "--address", locked, "--username", "me",
			"--password", "env:E2E_PASSWORD", "build", "publish", "--reference", locked + "/app:1"}}, []string{"publish:", locked, "with-registry-auth"}},
		{"wrong key password", [][]string{sample, {"build", "sign", "--repository", shared.registry + "/wrong/app", "--key", "file:" + shared.keys + "/cosign.key",
			"--password", "env:HOME"}, database}, []string{"sign:", "password"}},
		{"release without evidence", [][]string{sample, {"release", "--reference", shared.registry + "/fixtures/trivy-db:2", "promote", "--to",
			shared.registry + "/wrong/app:1", "--public-key", shared.keys + "/cosign.pub"}, key}, []string{"verify: fail", "signature"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			for _, a := range tt.args {
				args = append(args, a...)
			}
			out := dagger(t, args...)
			if out.code == 0 {
				t.Fatalf("exit code 0, want an error\n%s", out.stdout)
			}
			said := out.stdout + out.stderr
			for _, want := range tt.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in what was printed:\n%s", want, said)
				}
			}
			if strings.Contains(said, password) {
				t.Errorf("the password is in what was printed:\n%s", said)
			}
		})
	}
}

// TestFailedReport exports a failing stage's files: a failure is when they are needed most.
func TestFailedReport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	mustDagger(t, "--source", filepath.Join(shared.root, "testdata", "broken", "failing-test"), "test-report", "files", "export", "--path", dir)
	junit, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(junit), "<failure") {
		t.Errorf("junit.xml names no failure:\n%s", junit)
	}
}

// TestFailedPipeline stops at a closed gate, says so, and still hands over every report.
func TestFailedPipeline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	repo := shared.registry + "/wrong/vulnerable"
	mustDagger(t, "--source", filepath.Join(shared.root, "testdata", "broken", "vulnerable"), "--registry", "tcp://"+shared.registry,
		"pipeline-report", "--publish", repo+":1", "--key", "file:"+shared.keys+"/cosign.key", "--password", "env:E2E_PASSWORD",
		"--database", shared.database, "files", "export", "--path", dir)
	s := readJSON[summary](t, filepath.Join(dir, "summary.json"))
	if s.Verdict != "fail" {
		t.Errorf("verdict = %q, want fail", s.Verdict)
	}
	if _, err := os.Stat(filepath.Join(dir, "stages", "scan", "scan.sarif")); err != nil {
		t.Error(err)
	}
	if out := command(t, time.Minute, "crane", "digest", repo+":1"); out.code == 0 {
		t.Errorf("%s:1 was published although the scan failed", repo)
	}
}

// lockedRegistry is a registry that accepts one password only, and not ours.
func lockedRegistry(t *testing.T) string {
	t.Helper()
	inner := registry.New()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pass, ok := r.BasicAuth(); !ok || pass != "another" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}
