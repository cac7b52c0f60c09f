package promote

import (
	"context"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/signed"
	"github.com/slipwayhq/slipway/stages/internal/statement"
	"github.com/slipwayhq/slipway/stages/keys"
	"github.com/slipwayhq/slipway/stages/publish"
	"github.com/slipwayhq/slipway/stages/sign"
	"github.com/slipwayhq/slipway/stages/verify"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// world is a registry, a key pair, and an image to release.
type world struct {
	t      *testing.T
	host   string
	client *oci.Client
	keys   string
	layout string
	digest string
	lies   *liar
}

// liar is a registry that changes or loses what it has.
type liar struct {
	http.Handler
	// change and lose are digests.
	change, lose string
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, asked, _ := strings.Cut(r.URL.Path, "sha256:")
	switch "sha256:" + asked {
	case l.lose:
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"unknown"}]}`, http.StatusNotFound)
		return
	case l.change:
		rec := httptest.NewRecorder()
		l.Handler.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
		return
	}
	l.Handler.ServeHTTP(w, r)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	lies := &liar{Handler: registry.New(registry.WithReferrersSupport(true))}
	srv := httptest.NewServer(lies)
	t.Cleanup(srv.Close)
	var flags oci.Flags
	flags.Register(flag.NewFlagSet("", flag.ContinueOnError))
	client, err := flags.Client()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, host: strings.TrimPrefix(srv.URL, "http://"), client: client, keys: t.TempDir(), lies: lies}
	if err := keys.Write(w.keys, []byte("pw")); err != nil {
		t.Fatal(err)
	}
	w.layout, w.digest = newLayout(t)
	return w
}

func newLayout(t *testing.T) (dir, digest string) {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.MediaType(img, types.OCIManifestSchema1)
	idx := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img,
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}}), types.OCIImageIndex)
	h, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	return dir, h.String()
}

// scanner is one whose vulnerability database is of a time.
func scanner(updated time.Time) map[string]any {
	return map[string]any{"db": map[string]any{"lastUpdate": updated.Format(time.RFC3339)}}
}

// claims are what the statements of a good release say.
func claims() map[string]map[string]any {
	verdict := func(v string) map[string]any {
		return map[string]any{"verdict": v, "summary": "s", "time": now.Format(time.RFC3339)}
	}
	return map[string]map[string]any{
		statement.SPDX:       {"spdxVersion": "SPDX-2.3"},
		statement.Scan:       {"scanner": scanner(now.Add(-time.Hour)), "slipway": verdict("pass")},
		statement.Test:       {"result": "PASSED", "slipway": verdict("pass")},
		statement.Provenance: {"buildDefinition": map[string]any{}},
	}
}

// sign signs statements about digest with the keys in dir.
func (w *world) sign(keyDir, digest string, claims map[string]map[string]any) string {
	w.t.Helper()
	dir, out := w.t.TempDir(), w.t.TempDir()
	_, hex, _ := strings.Cut(digest, ":")
	i := 0
	for predicateType, predicate := range claims {
		s, err := statement.New([]result.Resource{{Name: "app", Digest: map[string]string{"sha256": hex}}}, predicateType, predicate)
		if err != nil {
			w.t.Fatal(err)
		}
		data, err := json.Marshal(s)
		if err != nil {
			w.t.Fatal(err)
		}
		i++
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".json"), data, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := sign.Run(w.t.Context(), sign.Inputs{Digest: digest, Repository: w.host + "/app", Statements: dir,
		Key: filepath.Join(keyDir, keys.PrivateName), Password: []byte("pw"), Out: out}); err != nil {
		w.t.Fatal(err)
	}
	return filepath.Join(out, signed.Dir)
}

func (w *world) publish(signedDir, tag string) (*result.Result, error) {
	return publish.Run(w.t.Context(), publish.Inputs{Layout: w.layout, Signed: signedDir, Reference: w.host + "/app:" + tag, Client: w.client})
}

func (w *world) mustPublish(signedDir, tag string) {
	w.t.Helper()
	if _, err := w.publish(signedDir, tag); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) verify(ref, keyDir string) (*result.Result, string) {
	w.t.Helper()
	out := w.t.TempDir()
	r, err := verify.Run(w.t.Context(), verify.Inputs{Reference: ref, PublicKey: filepath.Join(keyDir, keys.PublicName), Now: now.Add(time.Hour), Client: w.client,
		Out: out, Policy: verify.Policy{Require: []string{"spdx", "scan", "test", "provenance"}, MaxAge: 24 * time.Hour, MaxDatabaseAge: 48 * time.Hour}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r, out
}

func TestPromote(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(w.sign(w.keys, w.digest, claims()), "v1")
	r, verification := w.verify(w.host+"/app:v1", w.keys)
	if r.Verdict != result.Pass {
		t.Fatalf("verdict = %s: %+v", r.Verdict, r.Findings)
	}
	from, to := r.Outputs["reference"], w.host+"/production/app:v1"
	verified, err := verify.Read(verification)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // the second time, a day later, changes nothing, and fails on nothing
		record := t.TempDir()
		if err := Record(verified, to, now.AddDate(0, 0, i), record); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		if _, err := sign.Run(t.Context(), sign.Inputs{Digest: w.digest, Repository: w.host + "/production/app", Statements: filepath.Join(record, RecordDir),
			Key: filepath.Join(w.keys, keys.PrivateName), Password: []byte("pw"), Out: out}); err != nil {
			t.Fatal(err)
		}
		promoted, err := Run(t.Context(), Inputs{From: from, To: to, Signed: filepath.Join(out, signed.Dir), Client: w.client})
		if err != nil {
			t.Fatal(err)
		}
		if got := promoted.Outputs["digest"]; got != w.digest {
			t.Errorf("digest = %s, want %s", got, w.digest)
		}
	}
	after, dir := w.verify(to, w.keys)
	if after.Verdict != result.Pass {
		t.Errorf("verdict in production = %s: %+v", after.Verdict, after.Findings)
	}
	v, err := verify.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range v.Evidence {
		count[e.Type]++
	}
	if want := map[string]int{"signature": 2, statement.SPDX: 1, statement.Scan: 1, statement.Test: 1, statement.Provenance: 1, statement.Promotion: 1,
		statement.Summary: 1}; !equal(count, want) {
		t.Errorf("evidence = %v, want %v", count, want)
	}
}

func equal(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// TestVerifyRefuses attacks a release in every way that the gate has to withstand.
func TestVerifyRefuses(t *testing.T) {
	without := func(predicateType string) map[string]map[string]any {
		c := claims()
		delete(c, predicateType)
		return c
	}
	with := func(predicateType, key string, value any) map[string]map[string]any {
		c := claims()
		c[predicateType][key] = value
		return c
	}
	old := map[string]any{"verdict": "pass", "time": now.Add(-48 * time.Hour).Format(time.RFC3339)}
	future := map[string]any{"verdict": "pass", "time": now.Add(48 * time.Hour).Format(time.RFC3339)}
	tests := []struct {
		name    string
		claims  map[string]map[string]any
		finding string
		text    string
	}{
		{"no test evidence", without(statement.Test), "missing-test", "no test attestation"},
		{"a linter's result instead of the tests'", with(statement.Test, "stage", "lint"), "missing-test", "no test attestation"},
		{"no SBOM", without(statement.SPDX), "missing-spdx", ""},
		{"no provenance", without(statement.Provenance), "missing-provenance", ""},
		{"failed test", with(statement.Test, "result", "FAILED"), "wrong-test", "FAILED"},
		{"failed scan", with(statement.Scan, "slipway", map[string]any{"verdict": "fail", "summary": "3 findings", "time": now.Format(time.RFC3339)}), "wrong-scan", "3 findings"},
		{"inconclusive scan", with(statement.Scan, "slipway", map[string]any{"verdict": "inconclusive", "time": now.Format(time.RFC3339)}), "wrong-scan", "inconclusive"},
		{"scan without a verdict", with(statement.Scan, "slipway", nil), "wrong-scan", "no verdict"},
		{"old scan", with(statement.Scan, "slipway", old), "wrong-scan", "old"},
		{"scan with a stale database", with(statement.Scan, "scanner", scanner(now.Add(-49*time.Hour))), "wrong-scan", "49h0m0s old (limit 48h0m0s)"},
		{"scan with an unknown database", with(statement.Scan, "scanner", map[string]any{}), "wrong-scan", "does not say how old"},
		{"scan from the future", with(statement.Scan, "slipway", future), "wrong-scan", "future"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustPublish(w.sign(w.keys, w.digest, tt.claims), "v1")
			r, _ := w.verify(w.host+"/app:v1", w.keys)
			if r.Verdict != result.Fail || len(r.Findings) != 1 || r.Findings[0].ID != tt.finding || !strings.Contains(r.Findings[0].Message, tt.text) {
				t.Errorf("verdict = %s, findings = %+v; want one %s about %q", r.Verdict, r.Findings, tt.finding, tt.text)
			}
		})
	}
}

// TestVerifyRevokes publishes a scan that fails after one that passed: the later look takes the release back, and a still later one
// gives it free again.
func TestVerifyRevokes(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(w.sign(w.keys, w.digest, claims()), "v1")
	for i, verdict := range []result.Verdict{result.Pass, result.Fail, result.Pass, result.Inconclusive} {
		scan := map[string]map[string]any{statement.Scan: {"slipway": map[string]any{
			"verdict": verdict, "summary": "s", "time": now.Add(time.Duration(i+1) * time.Minute).Format(time.RFC3339)},
			"scanner": scanner(now)}}
		w.mustPublish(w.sign(w.keys, w.digest, scan), "v1")
		r, _ := w.verify(w.host+"/app:v1", w.keys)
		if r.Verdict.OK() != verdict.OK() {
			t.Errorf("after a scan that says %s: %s: %+v", verdict, r.Verdict, r.Findings)
		}
	}
}

// TestVerifyReadsEveryByte changes one byte of each thing that the image is made of, and then takes it away.
func TestVerifyReadsEveryByte(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(w.sign(w.keys, w.digest, claims()), "v1")
	idx, err := oci.Index(w.layout)
	if err != nil {
		t.Fatal(err)
	}
	list, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	ref := w.host + "/app@" + w.digest
	for name, digest := range map[string]string{"index": w.digest, "manifest": list.Manifests[0].Digest.String(), "configuration": m.Config.Digest.String(),
		"layer": m.Layers[0].Digest.String()} {
		t.Run(name, func(t *testing.T) {
			w.lies.change, w.lies.lose = digest, ""
			r, _ := w.verify(ref, w.keys)
			if r.Verdict != result.Fail || len(r.Findings) != 1 || r.Findings[0].ID != "changed-image" || !strings.Contains(r.Findings[0].Message, digest) {
				t.Errorf("changed: verdict = %s, findings = %+v", r.Verdict, r.Findings)
			}
			w.lies.change, w.lies.lose = "", digest
			if name == "index" {
				return // without it there is no image: a wrong reference
			}
			r, _ = w.verify(ref, w.keys)
			if r.Verdict != result.Fail || len(r.Findings) != 1 || r.Findings[0].ID != "incomplete-image" || !strings.Contains(r.Findings[0].Message, digest) {
				t.Errorf("lost: verdict = %s, findings = %+v", r.Verdict, r.Findings)
			}
		})
	}
	w.lies.change, w.lies.lose = "", ""
	if r, _ := w.verify(ref, w.keys); r.Verdict != result.Pass {
		t.Errorf("whole again: %s: %+v", r.Verdict, r.Findings)
	}
}

func TestVerifyRefusesAnotherKey(t *testing.T) {
	w := newWorld(t)
	other := t.TempDir()
	if err := keys.Write(other, []byte("pw")); err != nil {
		t.Fatal(err)
	}
	w.mustPublish(w.sign(other, w.digest, claims()), "v1")
	r, _ := w.verify(w.host+"/app:v1", w.keys)
	var ids []string
	for _, f := range r.Findings {
		ids = append(ids, f.ID)
		if !strings.Contains(f.Message, "another key") {
			t.Errorf("%s does not name the reason: %s", f.ID, f.Message)
		}
	}
	if want := []string{"wrong-signature", "wrong-spdx", "wrong-scan", "wrong-test", "wrong-provenance"}; r.Verdict != result.Fail || !slices.Equal(ids, want) {
		t.Errorf("verdict = %s, findings = %v, want %v", r.Verdict, ids, want)
	}
	// Signing again with the right key mends it: what the other key left is no obstacle.
	w.mustPublish(w.sign(w.keys, w.digest, claims()), "v1")
	if r, _ := w.verify(w.host+"/app:v1", w.keys); r.Verdict != result.Pass {
		t.Errorf("after signing again: %s: %+v", r.Verdict, r.Findings)
	}
}

// TestVerifyRefusesBorrowedEvidence copies good evidence of one image to another.
func TestVerifyRefusesBorrowedEvidence(t *testing.T) {
	w := newWorld(t)
	w.mustPublish(w.sign(w.keys, w.digest, claims()), "v1")
	good := w.digest
	w.layout, w.digest = newLayout(t)
	w.mustPublish("", "v2")
	for _, kind := range []string{".sig", ".att"} {
		tagOf := func(digest string) string { return w.host + "/app:" + strings.Replace(digest, ":", "-", 1) + kind }
		copyTag(t, w.client, tagOf(good), tagOf(w.digest))
	}
	r, _ := w.verify(w.host+"/app:v2", w.keys)
	if r.Verdict != result.Fail || len(r.Findings) != 5 {
		t.Fatalf("verdict = %s, findings = %+v, want five", r.Verdict, r.Findings)
	}
	if !strings.Contains(r.Findings[1].Message, "another digest") {
		t.Errorf("the reason is not named: %s", r.Findings[1].Message)
	}
}

func copyTag(t *testing.T, c *oci.Client, from, to string) {
	t.Helper()
	src, err := c.Reference(from)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := c.Reference(to)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(src, c.Options(context.Background())...)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(dst, img, c.Options(context.Background())...); err != nil {
		t.Fatal(err)
	}
}

func TestPublish(t *testing.T) {
	w := newWorld(t)
	sigs := w.sign(w.keys, w.digest, claims())
	w.mustPublish(sigs, "v1")
	if r, err := w.publish(w.sign(w.keys, w.digest, claims()), "v1"); err != nil || !strings.Contains(r.Summary, "(0 signatures") {
		t.Errorf("publishing again: %+v, %v; want nothing added", r, err)
	}
	t.Run("tag stays", func(t *testing.T) {
		v := *w
		v.layout, v.digest = newLayout(t)
		_, err := v.publish(v.sign(v.keys, v.digest, claims()), "v1")
		if !result.IsInput(err) || !strings.Contains(err.Error(), w.digest) || !strings.Contains(err.Error(), v.digest) {
			t.Errorf("error = %v, want an input error that names both digests", err)
		}
	})
	t.Run("signatures of another image", func(t *testing.T) {
		v := *w
		v.layout, v.digest = newLayout(t)
		if _, err := v.publish(sigs, "v2"); !result.IsInput(err) {
			t.Errorf("error = %v, want an input error", err)
		}
	})
	t.Run("changed byte", func(t *testing.T) {
		v := *w
		v.layout, v.digest = newLayout(t)
		s := v.sign(v.keys, v.digest, claims())
		blobs, err := filepath.Glob(filepath.Join(v.layout, "blobs", "sha256", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blobs {
			data, err := os.ReadFile(b)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(b, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := v.publish(s, "v3"); !result.IsInput(err) || !strings.Contains(err.Error(), "changed") {
				t.Errorf("%s: error = %v, want one that says it was changed", filepath.Base(b), err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(b, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := v.publish(s, "v3"); err != nil {
			t.Errorf("unchanged again: %v", err)
		}
	})
}
