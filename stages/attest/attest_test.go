package attest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
	"github.com/slipwayhq/slipway/stages/plan"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inputs are those of a good run for two platforms.
func inputs(t *testing.T) (in Inputs, index string) {
	t.Helper()
	dir := t.TempDir()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(64, 1)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: mutate.MediaType(img, types.OCIManifestSchema1),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		for _, name := range []string{"sbom.spdx.json", "sbom.cdx.json"} {
			put(t, filepath.Join(dir, "sbom", "linux-"+arch, name), `{"of":"`+arch+`"}`)
		}
	}
	p, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	digest, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	in = Inputs{Layout: filepath.Join(dir, "layout"), SBOM: filepath.Join(dir, "sbom"), Results: map[string]string{},
		Bases: []string{"docker.io/library/golang:1@sha256:" + strings.Repeat("0c", 32)},
		Now:   time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC), Out: filepath.Join(dir, "out"),
		Plan: &plan.Plan{Name: "app", Version: "v1.2.3", Source: plan.Source{Commit: "abc", Ref: "refs/heads/main", Remote: "https://example.com/app",
			Digest: "sha256:" + strings.Repeat("ab", 32)}, Components: []plan.Component{{Mains: []plan.Main{{Package: "example.com/app"}}}}}}
	for stage, r := range map[string]*result.Result{
		"scan": {Verdict: result.Pass, Summary: "nothing"},
		"lint": {Verdict: result.Skipped, Summary: "no linter", Reason: "lint.tools is empty"},
		"test": {Verdict: result.Fail, Summary: "broken", Findings: []result.Finding{{ID: "TestA", Severity: result.High}, {ID: "TestB", Severity: result.High, Status: "flaky"}}},
	} {
		r.Stage = stage
		in.Results[stage] = filepath.Join(dir, stage)
		if err := r.Write(in.Results[stage]); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(in.Results["scan"], "vulns.json"), `{"scanner":{"uri":"x"}}`)
	in.Results["build"] = filepath.Join(dir, "build")
	put(t, filepath.Join(in.Results["build"], "build.json"),
		`{"goVersion":"go1.26.8","flags":["-trimpath"],"modules":[{"path":"golang.org/x/text","version":"v0.1.0","sum":"h1:abc="}]}`)
	return in, digest.String()
}

// statements are those that a run wrote, by file name.
func statements(t *testing.T, in Inputs, r *result.Result) map[string]*statement.Statement {
	t.Helper()
	all := map[string]*statement.Statement{}
	for _, f := range r.Files {
		data, err := os.ReadFile(filepath.Join(in.Out, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		s, err := statement.Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", f.Path, err)
		}
		all[strings.TrimSuffix(filepath.Base(f.Path), ".json")] = s
	}
	return all
}

func TestRun(t *testing.T) {
	in, index := inputs(t)
	r, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	all := statements(t, in, r)
	for name, kind := range map[string]string{"sbom-spdx-linux-amd64": "spdx", "sbom-spdx-linux-arm64": "spdx", "sbom-cdx-linux-amd64": "cyclonedx",
		"sbom-cdx-linux-arm64": "cyclonedx", "scan": "scan", "test": "test", "lint": "lint", "provenance": "provenance"} {
		s := all[name]
		if s == nil {
			t.Errorf("no statement %s", name)
			continue
		}
		if s.Kind().String() != kind || !s.About(index) {
			t.Errorf("%s is a %s about %v, want %s about %s", name, s.Kind(), s.Subject, kind, index)
		}
	}
	if len(all) != 8 {
		t.Errorf("%d statements, want 8", len(all))
	}
	// Each bill of materials is about its own platform, and no other.
	if a, b := all["sbom-spdx-linux-amd64"].Subject[1], all["sbom-spdx-linux-arm64"].Subject[1]; a.Digest["sha256"] == b.Digest["sha256"] {
		t.Errorf("both platforms' SBOMs are about %v", a)
	}

	var test struct {
		Result string            `json:"result"`
		Failed []string          `json:"failedTests"`
		Inner  statement.Verdict `json:"slipway"`
	}
	if err := json.Unmarshal(all["test"].Predicate, &test); err != nil {
		t.Fatal(err)
	}
	if test.Result != "FAILED" || !slices.Equal(test.Failed, []string{"TestA"}) || test.Inner.Verdict != result.Fail || test.Inner.Time != "2026-03-10T12:00:00Z" {
		t.Errorf("test says %+v", test)
	}
	if text := string(all["lint"].Predicate); !strings.Contains(text, `"WARNED"`) {
		t.Errorf("a skipped lint says %s", text)
	}
	if text := string(all["scan"].Predicate); !strings.Contains(text, `"scanner"`) || !strings.Contains(text, `"verdict":"pass"`) {
		t.Errorf("scan says %s", text)
	}
	for _, want := range []string{`"gitCommit":"abc"`, "git+https://example.com/app@refs/heads/main", "docker://docker.io/library/golang:1", strings.Repeat("0c", 32),
		"pkg:golang/golang.org/x/text@v0.1.0", `"dirHash1":"abc="`, `"goVersion":"go1.26.8"`, `"version":"v1.2.3"`, BuilderID} {
		if !strings.Contains(string(all["provenance"].Predicate), want) {
			t.Errorf("provenance lacks %s: %s", want, all["provenance"].Predicate)
		}
	}
}

func TestRunTwice(t *testing.T) {
	in, _ := inputs(t)
	first, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	before := statements(t, in, first)
	in.Out = filepath.Join(t.TempDir(), "again")
	second, err := Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range statements(t, in, second) {
		if string(s.Predicate) != string(before[name].Predicate) {
			t.Errorf("%s differs the second time", name)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*testing.T, *Inputs)
		want   string
	}{
		"no image":            {func(_ *testing.T, in *Inputs) { in.Layout = "/nonexistent" }, "/nonexistent"},
		"a platform's SBOM":   {func(t *testing.T, in *Inputs) { remove(t, in.SBOM, "linux-arm64", "sbom.cdx.json") }, "sbom.cdx.json is missing"},
		"a broken SBOM":       {func(t *testing.T, in *Inputs) { put(t, filepath.Join(in.SBOM, "linux-amd64", "sbom.spdx.json"), "{") }, "not JSON"},
		"no vulnerabilities":  {func(t *testing.T, in *Inputs) { remove(t, in.Results["scan"], "vulns.json") }, "vulns.json is missing"},
		"no verdict":          {func(t *testing.T, in *Inputs) { remove(t, in.Results["test"], "result.json") }, "test result"},
		"a base by tag alone": {func(_ *testing.T, in *Inputs) { in.Bases = []string{"golang:1"} }, "-base"},
	} {
		t.Run(name, func(t *testing.T) {
			in, _ := inputs(t)
			tt.change(t, &in)
			if _, err := Run(t.Context(), in); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want an input error about %q", err, tt.want)
			}
		})
	}
}

func remove(t *testing.T, elem ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(elem...)); err != nil {
		t.Fatal(err)
	}
}

// A team's own report becomes a test result under its own name, and never under one of Slipway's.
func TestReports(t *testing.T) {
	good := &result.Result{Stage: "licences", Verdict: result.Pass, Summary: "all known"}
	for name, tt := range map[string]struct {
		as string
		r  *result.Result
		ok bool
	}{
		"good":           {"licences", good, true},
		"another's name": {"audit", good, false},
		"a stage's name": {"test", &result.Result{Stage: "test", Verdict: result.Pass, Summary: "fine"}, false},
		"a path":         {"../x", good, false},
		"no result":      {"licences", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			in, _ := inputs(t)
			dir := t.TempDir()
			if tt.r != nil {
				if err := tt.r.Write(dir); err != nil {
					t.Fatal(err)
				}
			}
			in.Reports = map[string]string{tt.as: dir}
			_, err := Run(t.Context(), in)
			if !tt.ok {
				if !result.IsInput(err) {
					t.Errorf("error = %v, want an input error", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(in.Out, StatementsDir, tt.as+".json"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := statement.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Kind().String(); got != "report:licences" {
				t.Errorf("it is about %s", got)
			}
		})
	}
}
