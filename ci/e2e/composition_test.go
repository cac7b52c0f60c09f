//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gitServer serves the tree under test, as a commit of a repository, and returns its address with that commit. Dagger drops the port of an address, so
// that it has to be the usual one.
func gitServer(t *testing.T) (url, commit string) {
	t.Helper()
	root := t.TempDir()
	work := filepath.Join(root, "work")
	commit = committedTree(t, work)
	tool(t, "git", "clone", "--quiet", "--bare", work, filepath.Join(root, "served", "slipway.git"))
	l, err := net.Listen("tcp", "127.0.0.77:80")
	if err != nil {
		t.Skipf("no server on port 80, which needs root: %v", err)
	}
	backend := filepath.Join(tool(t, "git", "--exec-path"), "git-http-backend")
	srv := &http.Server{Handler: &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(root, "served"), "GIT_HTTP_EXPORT_ALL=1"}}}
	go func() { _ = srv.Serve(l) }() // it ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	return "http://127.0.0.77/slipway.git", commit
}

// TestComposition uses Slipway as another team's module does: its own check and report between scan and sign, and its own way to deploy.
func TestComposition(t *testing.T) {
	source := folder("testdata", "sample")(t)
	settings := filepath.Join(source, "slipway.yaml")
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	copyText(t, settings, string(text)+"\nenvironments:\n  production:\n    repository: "+shared.registry+"/shop/sample\n    require: [spdx, scan, test, provenance, report:house-rules, report:size]\n")
	tool(t, "git", "-C", source, "-c", "user.name=Slipway", "-c", "user.email=e2e@slipway.dev", "commit", "--quiet", "--all", "--message", "What production requires")

	release := func(module, tag string, more ...string) []string {
		return append([]string{"-m", module, "release", "--source", source, "--registry", "tcp://" + shared.registry, "--database", shared.database,
			"--publish", shared.registry + "/shop/sample:" + tag, "--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD",
			"--public-key", shared.keys + "/cosign.pub"}, more...)
	}
	// Dagger keeps a module from elsewhere apart, with caches of its own: compiling everything once more is what an image with the programs spares.
	toolbox := newWrappers(t, "sample").withToolbox(t).toolbox
	t.Run("by path", func(t *testing.T) {
		clone := filepath.Join(t.TempDir(), "slipway")
		committedTree(t, clone)
		out := mustDagger(t, release(filepath.Join(clone, "testdata", "consumer"), "path")...)
		digest := tool(t, "crane", "digest", shared.registry+"/shop/sample:path")
		if want := "the house deploys " + shared.registry + "/shop/sample@" + digest; out != want {
			t.Errorf("it says %q, want %q", out, want)
		}
		attested := tool(t, "cosign", "verify-attestation", "--insecure-ignore-tlog=true", "--allow-insecure-registry", "--key", shared.keys+"/cosign.pub",
			"--type", "https://in-toto.io/attestation/test-result/v0.1", shared.registry+"/shop/sample@"+digest)
		for _, name := range []string{"house-rules", "size"} {
			if !attests(t, attested, name) {
				t.Errorf("cosign finds no statement about %s", name)
			}
		}
		refused(t, release(filepath.Join(clone, "testdata", "consumer"), "forbidden", "--forbidden", "stdlib"), "house-rules: fail", "stdlib may not be in an image")
		if out := command(t, time.Minute, "crane", "digest", shared.registry+"/shop/sample:forbidden"); out.code == 0 {
			t.Error("what the house's rules refuse was published")
		}
	})
	t.Run("without the report that is required", func(t *testing.T) {
		app := shared.registry + "/shop/bare:1"
		mustDagger(t, "--source", source, "--registry", "tcp://"+shared.registry, "pipeline", "--publish", app, "--database", shared.database, "--move-tag",
			"--key", "file:"+shared.keys+"/cosign.key", "--password", "env:E2E_PASSWORD")
		refused(t, []string{"--source", source, "--registry", "tcp://" + shared.registry, "release", "--reference", app, "verify", "--environment", "production",
			"--public-key", shared.keys + "/cosign.pub"}, "missing-report:house-rules", "missing-report:size")
	})
	t.Run("by git reference", func(t *testing.T) {
		url, commit := gitServer(t)
		dir := filepath.Join(t.TempDir(), "shop")
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(shared.root, "testdata", "consumer"))); err != nil {
			t.Fatal(err)
		}
		tool(t, "git", "init", "--quiet", dir)
		config := filepath.Join(dir, "dagger.json") // dagger loads what it is about to uninstall
		module := readJSON[map[string]any](t, config)
		module["dependencies"] = slices.DeleteFunc(module["dependencies"].([]any), func(d any) bool { return d.(map[string]any)["name"] == "slipway" })
		writeJSON(t, config, module)
		tool(t, "dagger", "install", "--mod", dir, url+"@"+commit)
		if out := mustDagger(t, release(dir, "git", "--toolbox", toolbox)...); !strings.HasPrefix(out, "the house deploys ") {
			t.Errorf("it says %q", out)
		}
	})
	t.Run("as a toolchain", func(t *testing.T) {
		url, commit := gitServer(t)
		for name, code := range map[string]int{"sample": 0, "broken/failing-test": 1} {
			dir := folder("testdata", filepath.FromSlash(name))(t)
			tool(t, "sh", "-c", fmt.Sprintf("cd %s && cp %s/LICENSE . && dagger init --silent && dagger toolchain install --silent %s@%s", dir, shared.root, url, commit))
			copyText(t, filepath.Join(dir, ".env"), "SLIPWAY_TOOLBOX="+toolbox+"\n")
			out := command(t, 20*time.Minute, "sh", "-c", "cd "+dir+" && dagger check --progress=plain")
			if said := out.stdout + out.stderr; out.code != code || !strings.Contains(said, "slipway:test") || !strings.Contains(said, "slipway:lint") {
				t.Errorf("%s: exit code %d, want %d\n%s", name, out.code, code, said)
			}
		}
	})
}

// attests says whether what cosign printed holds a statement about a stage.
func attests(t *testing.T, printed, stage string) bool {
	t.Helper()
	for line := range strings.Lines(printed) {
		var envelope struct {
			Payload string `json:"payload"`
		}
		if json.Unmarshal([]byte(line), &envelope) != nil || envelope.Payload == "" {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(envelope.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Predicate struct {
				Stage  string `json:"stage"`
				Result string `json:"result"`
			} `json:"predicate"`
		}
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if s.Predicate.Stage == stage && s.Predicate.Result == "PASSED" {
			return true
		}
	}
	return false
}
