package sign

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/signed"
	"github.com/slipwayhq/slipway/stages/internal/statement"
	"github.com/slipwayhq/slipway/stages/keys"
)

var digest = "sha256:" + strings.Repeat("ab", 32)

func inputs(t *testing.T, about string) Inputs {
	t.Helper()
	dir := t.TempDir()
	if err := keys.Write(dir, []byte("pw")); err != nil {
		t.Fatal(err)
	}
	_, hex, _ := strings.Cut(about, ":")
	s, err := statement.New([]result.Resource{{Name: "app", Digest: map[string]string{"sha256": hex}}}, statement.Test, map[string]string{"result": "PASSED"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	statements := t.TempDir()
	if err := os.WriteFile(filepath.Join(statements, "test.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return Inputs{Digest: digest, Repository: "registry.test/app", Statements: statements, Key: filepath.Join(dir, keys.PrivateName),
		Password: []byte("pw"), Out: t.TempDir()}
}

func TestRun(t *testing.T) {
	in := inputs(t, digest)
	r, err := Run(t.Context(), in)
	if err != nil || r.Verdict != result.Pass {
		t.Fatalf("%+v, %v", r, err)
	}
	b, err := signed.Read(filepath.Join(in.Out, signed.Dir))
	if err != nil {
		t.Fatal(err)
	}
	if b.Digest != digest || len(b.Attestations) != 1 || b.Attestations[0].PredicateType != statement.Test {
		t.Errorf("%+v", b)
	}
	if !strings.Contains(string(b.Payload), "registry.test/app") || !strings.Contains(string(b.Payload), digest) {
		t.Errorf("the payload names neither image nor digest: %s", b.Payload)
	}
}

func TestRunRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*testing.T, *Inputs)
		want   string
	}{
		"a statement about another image": {func(t *testing.T, in *Inputs) {
			in.Statements = inputs(t, "sha256:"+strings.Repeat("cd", 32)).Statements
		}, "not about"},
		"no digest":      {func(_ *testing.T, in *Inputs) { in.Digest = "" }, "image"},
		"a short digest": {func(_ *testing.T, in *Inputs) { in.Digest = "sha256:ab" }, "image"},
		"no repository":  {func(_ *testing.T, in *Inputs) { in.Repository = "" }, "image"},
		"wrong password": {func(_ *testing.T, in *Inputs) { in.Password = []byte("x") }, "password"},
		"no statements":  {func(_ *testing.T, in *Inputs) { in.Statements = "/nonexistent" }, "/nonexistent"},
		"a broken statement": {func(t *testing.T, in *Inputs) {
			if err := os.WriteFile(filepath.Join(in.Statements, "x.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "x.json"},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs(t, digest)
			tt.change(t, &in)
			if _, err := Run(t.Context(), in); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want an input error about %q", err, tt.want)
			}
			if entries, err := os.ReadDir(in.Out); err != nil || len(entries) > 0 {
				t.Errorf("left %v behind, %v", entries, err)
			}
		})
	}
}

func TestTry(t *testing.T) {
	in := inputs(t, digest)
	if r, err := Try(t.Context(), in.Key, in.Password); err != nil || !strings.Contains(r.Summary, "sha256:") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Try(t.Context(), in.Key, []byte("x")); !result.IsInput(err) {
		t.Errorf("error = %v, want an input error", err)
	}
}
