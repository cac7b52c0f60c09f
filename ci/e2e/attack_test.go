//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// refused runs dagger, which has to fail and say why.
func refused(t *testing.T, args []string, want ...string) {
	t.Helper()
	out := dagger(t, args...)
	said := out.stdout + out.stderr
	if out.code == 0 {
		t.Errorf("dagger call %s: exit code 0, want a refusal\n%s", strings.Join(args, " "), said)
		return
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("dagger call %s: the reason %q is not in what was printed:\n%s", strings.Join(args, " "), w, said)
		}
	}
}

// TestAttack does to a good release what the gate has to withstand, one by one.
func TestAttack(t *testing.T) {
	h := newHostile(t)
	source := folder("testdata", "sample")(t)
	with := []string{"--source", source, "--registry", "tcp://" + h.host}
	app, database := h.host+"/staging/app", h.host+"/fixtures/trivy-db:2"
	tool(t, "crane", "copy", shared.database, database)
	publish := func(t *testing.T, ref string, more ...string) (digest string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "report")
		mustDagger(t, slices.Concat(with, more, []string{"pipeline-report", "--publish", ref,
			"--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD", "--database", database,
			"files", "export", "--path", dir})...)
		s := readJSON[summary](t, filepath.Join(dir, "summary.json"))
		if s.Verdict != "pass" {
			t.Fatalf("%s: verdict = %q", ref, s.Verdict)
		}
		return s.Digest
	}
	verify := func(ref string, more ...string) []string {
		return slices.Concat(with, more, []string{"release", "--reference", ref, "verify", "--public-key", shared.keys + "/cosign.pub"})
	}
	promote := func(ref, to string) []string {
		return slices.Concat(with, []string{"release", "--reference", ref, "promote", "--to", to, "--public-key", shared.keys + "/cosign.pub",
			"--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD"})
	}
	absent := func(t *testing.T, ref string) {
		t.Helper()
		if out := command(t, time.Minute, "crane", "digest", ref); out.code == 0 {
			t.Errorf("%s exists although its promotion was refused", ref)
		}
	}
	digest := publish(t, app+":v1")
	mustDagger(t, verify(app+":v1")...) // before anything is done to it, it holds

	t.Run("changed layer", func(t *testing.T) {
		layer := layerOf(t, app+"@"+digest)
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, layer) {
				return false
			}
			h.changeByte(w, r)
			return true
		})
		defer h.behave(nil)
		refused(t, verify(app+":v1"), "changed-image", layer)
		refused(t, promote(app+":v1", h.host+"/production/changed:v1"), "changed-image", layer)
		absent(t, h.host+"/production/changed:v1")
	})

	t.Run("another key", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "keys")
		mustDagger(t, "key-pair", "--password", "env:E2E_PASSWORD", "export", "--path", other)
		refused(t, slices.Concat(with, []string{"release", "--reference", app + ":v1", "verify", "--public-key", other + "/cosign.pub"}),
			"wrong-signature", "made by another key")
	})

	t.Run("evidence of another digest", func(t *testing.T) {
		victim := publishOther(t, app+":victim")
		for _, kind := range []string{".sig", ".att"} {
			tool(t, "crane", "copy", app+":"+strings.Replace(digest, ":", "-", 1)+kind, app+":"+strings.Replace(victim, ":", "-", 1)+kind)
		}
		refused(t, promote(app+":victim", h.host+"/production/borrowed:v1"), "wrong-signature", "it is for "+digest, "about another digest")
		absent(t, h.host+"/production/borrowed:v1")
	})

	t.Run("stale database", func(t *testing.T) {
		stale := h.host + "/fixtures/stale-db:2"
		tool(t, "go", "run", "./stages/vulndb/cmd/fixturedb", "-advisories", "testdata/advisories", "-out", t.TempDir(), "-push", stale,
			"-updated", time.Now().AddDate(0, 0, -30).UTC().Format(time.RFC3339))
		lax := filepath.Join(t.TempDir(), "slipway.yaml")
		if err := os.WriteFile(lax, []byte("scan: {maxDatabaseAge: 90d}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "report")
		mustDagger(t, slices.Concat(with, []string{"--config", lax, "--version", "v1.2.3-stale", "pipeline-report",
			"--publish", app + ":stale", "--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD", "--database", stale,
			"files", "export", "--path", dir})...)
		if s := readJSON[summary](t, filepath.Join(dir, "summary.json")); s.Verdict != "pass" {
			t.Fatalf("with a lax policy: %q", s.Verdict)
		}
		refused(t, promote(app+":stale", h.host+"/production/stale:v1"), "wrong-scan", "vulnerability database was", "(limit 168h0m0s)")
		absent(t, h.host+"/production/stale:v1")
	})

	t.Run("promotion without test evidence", func(t *testing.T) {
		bare := publishOther(t, app+":bare")
		tool(t, "cosign", "sign", "--yes", "--tlog-upload=false", "--key", shared.keys+"/cosign.key", app+"@"+bare)
		refused(t, promote(app+":bare", h.host+"/production/bare:v1"), "missing-test")
		absent(t, h.host+"/production/bare:v1")
	})

	t.Run("tag moved under way", func(t *testing.T) {
		mine, other := publish(t, app+":moving", "--version", "v1.2.3-moving"), publishOther(t, app+":evil")
		var moved atomic.Bool
		h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/staging/app/manifests/moving") || moved.Swap(true) {
				return false
			}
			h.inner.ServeHTTP(w, r) // the first look sees the good one
			h.moveTag("staging/app", "moving", other)
			return true
		})
		defer h.behave(nil)
		mustDagger(t, promote(app+":moving", h.host+"/production/moving:v1")...)
		if !moved.Load() || tool(t, "crane", "digest", app+":moving") != other {
			t.Fatal("the tag was not moved: nothing was tried")
		}
		if got := tool(t, "crane", "digest", h.host+"/production/moving:v1"); got != mine {
			t.Errorf("promoted %s, verified %s", got, mine)
		}
	})

	t.Run("fail verdict inside", func(t *testing.T) { // the last: it takes the release back
		predicate := filepath.Join(t.TempDir(), "predicate.json")
		data, err := json.Marshal(map[string]any{"result": "FAILED", "configuration": []any{}, "stage": "test",
			"slipway": map[string]any{"verdict": "fail", "summary": "1 test failed", "time": time.Now().UTC().Format(time.RFC3339)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(predicate, data, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "cosign", "attest", "--yes", "--tlog-upload=false", "--key", shared.keys+"/cosign.key", "--type", "https://in-toto.io/attestation/test-result/v0.1",
			"--predicate", predicate, app+"@"+digest)
		refused(t, promote(app+":v1", h.host+"/production/failed:v1"), "wrong-test", "1 test failed")
		absent(t, h.host+"/production/failed:v1")
	})
}

// layerOf is the digest of the first layer of an index's first image.
func layerOf(t *testing.T, ref string) string {
	t.Helper()
	var m struct {
		Layers []struct {
			Digest string `json:"digest"`
		} `json:"layers"`
	}
	if err := json.Unmarshal([]byte(tool(t, "crane", "manifest", "--platform", "linux/amd64", ref)), &m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("%s: layers %+v, %v", ref, m.Layers, err)
	}
	return m.Layers[0].Digest
}
