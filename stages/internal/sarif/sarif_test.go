package sarif

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func write(t *testing.T, findings []result.Finding) log {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sarif")
	if err := Write(path, "tool", findings); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var l log
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	if l.Version != "2.1.0" || len(l.Runs) != 1 {
		t.Fatalf("version %q, %d runs", l.Version, len(l.Runs))
	}
	return l
}

func TestWrite(t *testing.T) {
	r := write(t, []result.Finding{
		{ID: "A", Severity: result.Critical, Message: "m", Fix: "update", Location: "a/b.go:3:7"},
		{ID: "A", Severity: result.Critical, Message: "n", Location: "pkg:golang/x/y@v1"},
		{ID: "B", Severity: result.Medium, Message: "o", Status: "excepted", Note: "not called"},
		{ID: "C", Severity: result.Info, Message: "p", Location: "Dockerfile"},
	}).Runs[0]
	if n := len(r.Tool.Driver.Rules); n != 3 {
		t.Errorf("%d rules, want each once", n)
	}
	for i, want := range []string{"error", "error", "warning", "note"} {
		if got := r.Results[i].Level; got != want {
			t.Errorf("result %d has level %q, want %q", i, got, want)
		}
	}
	if got := r.Results[0]; got.Message.Text != "m\nfix: update" || *got.Locations[0].PhysicalLocation.Region != (region{3, 7}) {
		t.Errorf("%+v", got)
	}
	if got := r.Results[2].Suppressions; len(got) != 1 || got[0].Justification != "excepted not called" {
		t.Errorf("suppressions = %+v", got)
	}
	for i, want := range map[int]string{0: "a/b.go", 1: "go.mod", 3: "Dockerfile"} {
		if got := r.Results[i].Locations[0].PhysicalLocation.ArtifactLocation.URI; got != want {
			t.Errorf("result %d lies in %q, want %q", i, got, want)
		}
	}
}

// An empty list has to be [], not null: GitHub refuses a run without results.
func TestWriteNothing(t *testing.T) {
	if r := write(t, nil).Runs[0]; r.Results == nil || r.Tool.Driver.Rules == nil {
		t.Errorf("%+v", r)
	}
}
