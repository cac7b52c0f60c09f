package result

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContract runs stages of every outcome: the exit code, the verdict and the message are the contract.
func TestContract(t *testing.T) {
	pass := &Result{Verdict: Pass, Summary: "fine"}
	tests := []struct {
		name    string
		args    []string
		result  *Result
		err     error
		code    int
		verdict Verdict
		stderr  string
	}{
		{"pass", nil, pass, nil, ExitPass, Pass, "s: pass: fine"},
		{"skipped", nil, &Result{Verdict: Skipped, Reason: "a library", Summary: "nothing to do"}, nil, ExitPass, Skipped, "s: skipped"},
		{"fail", nil, &Result{Verdict: Fail, Summary: "2 findings"}, nil, ExitFail, Fail, "s: fail: 2 findings"},
		{"inconclusive", nil, &Result{Verdict: Inconclusive, Summary: "no data"}, nil, ExitFail, Inconclusive, "s: inconclusive"},
		{"wrong input", nil, nil, Inputf("go.mod:3: broken"), ExitInput, Inconclusive, "s: go.mod:3: broken"},
		{"the world failed", nil, nil, io.ErrUnexpectedEOF, ExitWorld, Inconclusive, "s: unexpected EOF"},
		{"a result beside an error is no pass", nil, &Result{Verdict: Pass}, errors.New("late"), ExitWorld, Inconclusive, "s: late"},
		{"no result", nil, nil, nil, ExitWorld, Inconclusive, "without a result"},
		{"an argument too many", []string{"more"}, pass, nil, ExitInput, Inconclusive, `unexpected argument "more"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := t.TempDir()
			var stderr strings.Builder
			code := Main(Stage{Name: "s", Run: func(context.Context, string) (*Result, error) { return tt.result, tt.err }},
				append([]string{"-out", out}, tt.args...), &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("exit code %d, want %d; said %q, want %q", code, tt.code, stderr.String(), tt.stderr)
			}
			r, err := Read(out)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.verdict || (tt.code >= ExitInput) != (r.Error != "") {
				t.Errorf("verdict %q, error %q, want verdict %q", r.Verdict, r.Error, tt.verdict)
			}
		})
	}
}

func TestMainWithoutOutput(t *testing.T) {
	never := func(context.Context, string) (*Result, error) {
		t.Error("it ran")
		return nil, errors.New("it ran")
	}
	for _, args := range [][]string{nil, {"-unknown"}} {
		if code := Main(Stage{Name: "s", Run: never}, args, io.Discard); code != ExitInput {
			t.Errorf("%v: exit code %d, want %d", args, code, ExitInput)
		}
	}
	var help strings.Builder
	if code := Main(Stage{Name: "s", Usage: "Does it.", Run: never}, []string{"-help"}, &help); code != ExitPass || !strings.Contains(help.String(), "Does it.") {
		t.Errorf("help: exit code %d, %q", code, help.String())
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, r := range map[string]*Result{
		"no stage":                    {Verdict: Pass},
		"no verdict":                  {Stage: "s"},
		"skipped without a reason":    {Stage: "s", Verdict: Skipped},
		"a finding without an id":     {Stage: "s", Verdict: Fail, Findings: []Finding{{Severity: High}}},
		"an unknown severity":         {Stage: "s", Verdict: Fail, Findings: []Finding{{ID: "x", Severity: "awful"}}},
		"a file outside the results":  {Stage: "s", Verdict: Pass, Files: []File{{Path: "../key"}}},
		"a file at an absolute place": {Stage: "s", Verdict: Pass, Files: []File{{Path: "/etc/passwd"}}},
	} {
		dir := t.TempDir()
		if err := r.Write(dir); err == nil {
			t.Errorf("%s: it was written", name)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v was left behind, %v", name, left, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"` + Schema + `","stage":"scan","verdict":"fail","summary":"s","findings":[{"id":"CVE-1","severity":"high","message":"m"}],
		"metrics":{"tests":1.5},"files":[{"path":"a/b.json","mediaType":"application/json"}],"outputs":{"digest":"sha256:0"}}`))
	f.Add([]byte(`{"schema":"` + Schema + `","stage":"s","verdict":"pass","files":[{"path":"../../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := r.Write(dir); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		a, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s was read back as %s", a, b)
		}
		if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
}
