package lint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func project(t *testing.T, files map[string]string, tools ...string) Inputs {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.Lint.Tools = tools
	return Inputs{Source: dir, Go: "go", Out: t.TempDir(), Plan: &plan.Plan{Config: cfg, Components: []plan.Component{{Name: "demo", Path: ".", Language: "go"}}}}
}

// script is a golangci-lint that says what the test wants.
func script(t *testing.T, stdout, stderr, code string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "golangci-lint")
	text := "#!/bin/sh\ncat <<'END'\n" + stdout + "\nEND\necho '" + stderr + "' >&2\nexit " + code + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	goMod = "module example.com/demo\n\ngo 1.25.0\n"
	clean = "// Package demo is clean.\npackage demo\n\n// One is 1.\nfunc One() int { return 1 }\n"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name     string
		files    map[string]string
		tools    []string
		want     result.Verdict
		location string
	}{
		{"clean", map[string]string{"go.mod": goMod, "a.go": clean}, []string{"gofmt", "vet", "mod-tidy", "mod-verify"}, result.Pass, ""},
		{"unformatted", map[string]string{"go.mod": goMod, "a/b.go": "package a\nfunc  F( ){}\n"}, []string{"gofmt"}, result.Fail, "a/b.go:1"},
		{"does not parse", map[string]string{"go.mod": goMod, "b.go": "package a\nfunc {\n"}, []string{"gofmt"}, result.Fail, "b.go:2"},
		{"left alone", map[string]string{"go.mod": goMod, "a.go": clean, "vendor/x/x.go": "package  x\n", "testdata/y.go": "package  y\n",
			"sub/go.mod": "module example.com/sub\n", "sub/z.go": "package  z\n"}, []string{"gofmt"}, result.Pass, ""},
		{"vet", map[string]string{"go.mod": goMod, "a.go": "package demo\n\nimport \"fmt\"\n\nfunc F() { fmt.Printf(\"%d\", \"x\") }\n"}, []string{"vet"}, result.Fail, "a.go:5"},
		{"untidy", map[string]string{"go.mod": goMod + "\nrequire golang.org/x/mod v0.30.0\n", "a.go": clean}, []string{"mod-tidy"}, result.Fail, "go.mod:1"},
		{"no tools", map[string]string{"go.mod": goMod, "a.go": clean}, nil, result.Skipped, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := project(t, tt.files, tt.tools...)
			r, err := Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want {
				t.Fatalf("verdict = %s, want %s: %+v", r.Verdict, tt.want, r.Findings)
			}
			if tt.location != "" && (len(r.Findings) == 0 || !strings.HasPrefix(r.Findings[0].Location, tt.location)) {
				t.Errorf("findings = %+v, want one at %s", r.Findings, tt.location)
			}
			data, err := os.ReadFile(filepath.Join(in.Out, SARIFName))
			if err != nil || !json.Valid(data) {
				t.Errorf("SARIF: %v: %s", err, data)
			}
		})
	}
}

func TestGolangci(t *testing.T) {
	const issue = `{"Issues":[{"FromLinter":"errcheck","Text":"unchecked","Severity":"","Pos":{"Filename":"a.go","Line":3,"Column":2}}],"Report":{}}`
	tests := []struct {
		name                 string
		stdout, stderr, code string
		findings             int
		fails, input         bool
	}{
		{"clean", `{"Issues":[],"Report":{}}`, "", "0", 0, false, false},
		{"finding", issue, "", "1", 1, false, false},
		{"wrong configuration", "", "can't load config", "3", 0, true, true},
		{"crashed", "", "panic", "1", 0, true, false},
		{"silent", `{"Issues":[],"Report":{}}`, "", "1", 0, true, false},
		{"error inside", `{"Issues":[],"Report":{"Error":"typechecking"}}`, "", "0", 0, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := project(t, map[string]string{"go.mod": goMod, "a.go": clean}, "golangci-lint")
			in.Golangci = script(t, tt.stdout, tt.stderr, tt.code)
			r, err := Run(t.Context(), in)
			if (err != nil) != tt.fails || result.IsInput(err) != tt.input {
				t.Fatalf("result = %+v, error = %v", r, err)
			}
			if err == nil && len(r.Findings) != tt.findings {
				t.Errorf("findings = %+v, want %d", r.Findings, tt.findings)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		in := project(t, map[string]string{"go.mod": goMod, "a.go": clean}, "golangci-lint")
		in.Golangci = filepath.Join(t.TempDir(), "nothing")
		if r, err := Run(t.Context(), in); err == nil {
			t.Errorf("a missing tool gave %+v", r)
		}
	})
}

func FuzzParseGolangci(f *testing.F) {
	f.Add([]byte(`{"Issues":[{"FromLinter":"a","Text":"b","Pos":{"Filename":"c.go","Line":1}}],"Report":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		findings, err := parseGolangci(data)
		if err != nil {
			return
		}
		r := result.Result{Schema: result.Schema, Stage: "lint", Verdict: result.Fail, Findings: findings}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	})
}
