package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// write makes a run on disk and returns the stage's inputs.
func write(t *testing.T, stages map[string]*result.Result, runs ...StageRun) Inputs {
	t.Helper()
	dir := t.TempDir()
	for name, r := range stages {
		if err := r.Write(filepath.Join(dir, "results", name)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(Input{Schema: InputSchema, Name: "app", Version: "v1", Stages: runs, Digest: "sha256:ab"})
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run.json")
	if err := os.WriteFile(run, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Inputs{Run: run, Results: filepath.Join(dir, "results"), Out: filepath.Join(dir, "out")}
}

func TestVerdict(t *testing.T) {
	pass := &result.Result{Stage: "lint", Verdict: result.Pass, Summary: "fine"}
	fail := &result.Result{Stage: "test", Verdict: result.Fail, Summary: "broken", Findings: []result.Finding{{ID: "TestX", Severity: result.High, Message: "want 3"}}}
	unclear := &result.Result{Stage: "scan", Verdict: result.Inconclusive, Summary: "stale"}
	tests := []struct {
		name   string
		stages map[string]*result.Result
		runs   []StageRun
		want   result.Verdict
		text   string
	}{
		{"pass", map[string]*result.Result{"lint": pass}, []StageRun{{Stage: "lint", Title: "Lint", Dir: "lint"}}, result.Pass, "1 stages passed"},
		{"fail", map[string]*result.Result{"lint": pass, "test": fail},
			[]StageRun{{Stage: "lint", Title: "Lint", Dir: "lint"}, {Stage: "test", Title: "Test", Dir: "test"}, {Stage: "sign", Title: "Sign", NotRun: "earlier"}},
			result.Fail, "TestX"},
		{"inconclusive", map[string]*result.Result{"scan": unclear}, []StageRun{{Stage: "scan", Title: "Scan", Dir: "scan"}}, result.Inconclusive, "stale"},
		{"the world failed", map[string]*result.Result{"scan": unclear}, []StageRun{{Stage: "scan", Title: "Scan", Dir: "scan", ExitCode: 3}}, result.Inconclusive, "stale"},
		{"fail outweighs inconclusive", map[string]*result.Result{"scan": unclear, "test": fail},
			[]StageRun{{Stage: "scan", Title: "Scan", Dir: "scan"}, {Stage: "test", Title: "Test", Dir: "test"}}, result.Fail, "Test did not pass"},
		{"lost result", nil, []StageRun{{Stage: "lint", Title: "Lint", Dir: "lint"}}, result.Inconclusive, "result.json"},
		{"nothing ran", nil, nil, result.Inconclusive, ""},
		{"no reason", map[string]*result.Result{"lint": pass}, []StageRun{{Stage: "lint", Title: "Lint", Dir: "lint"}, {Stage: "test", Title: "Test"}}, result.Inconclusive, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := write(t, tt.stages, tt.runs...)
			r, err := Make(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want {
				t.Errorf("verdict = %s, want %s", r.Verdict, tt.want)
			}
			var summary Run
			read(t, in.Out, "summary.json", &summary)
			exit := 0
			if tt.want != result.Pass {
				exit = 1
			}
			for _, s := range tt.runs {
				exit = max(exit, s.ExitCode)
			}
			if summary.ExitCode != exit {
				t.Errorf("the exit code is %d, want %d", summary.ExitCode, exit)
			}
			text, err := os.ReadFile(filepath.Join(in.Out, "summary.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), tt.text) {
				t.Errorf("%q is not in the summary:\n%s", tt.text, text)
			}
		})
	}
}

func TestPageEscapes(t *testing.T) {
	const hostile = `</script><script>alert(1)</script><img src=x onerror=alert(1)>`
	run := &Run{Name: hostile, Verdict: result.Fail, Stages: []Stage{{StageRun: StageRun{Stage: "scan", Title: hostile, Dir: "scan"}, Verdict: result.Fail,
		Summary: hostile, Findings: []result.Finding{{ID: hostile, Severity: result.High, Message: hostile, Fix: hostile, Location: hostile}}}}}
	var b bytes.Buffer
	if err := HTML(&b, run, details{Packages: []pkg{{Name: hostile}}}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script>alert") || strings.Contains(b.String(), "<img") {
		t.Error("hostile text reached the page as markup")
	}
	if !strings.Contains(b.String(), "var(--fail)") {
		t.Error("the page has lost its tone")
	}
}

func TestShort(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"":                   "",
		"<b> sha256:" + hex:  `&lt;b&gt; <code title="sha256:` + hex + `">sha256:abababababab…</code>`,
		"sha256:ab & others": "sha256:ab &amp; others",
	} {
		if got := string(short(text)); got != want {
			t.Errorf("short(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestParseInput(t *testing.T) {
	for name, data := range map[string]string{
		"not JSON": "{", "other schema": `{"schema":"x"}`,
		"outside": `{"schema":"` + InputSchema + `","stages":[{"stage":"a","dir":"../b"}]}`,
		"no name": `{"schema":"` + InputSchema + `","stages":[{"dir":"b"}]}`,
	} {
		if _, err := ParseInput([]byte(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseInput(f *testing.F) {
	f.Add([]byte(`{"schema":"` + InputSchema + `","stages":[{"stage":"a","title":"A","dir":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := ParseInput(data)
		if err != nil {
			return
		}
		for _, s := range in.Stages {
			if s.Dir != "" && !filepath.IsLocal(s.Dir) {
				t.Errorf("accepted the dir %q", s.Dir)
			}
		}
	})
}
