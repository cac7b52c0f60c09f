package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/shop\n")
	writeFile(t, filepath.Join(dir, "cmd/api/main.go"), "package main\n\nfunc main() {}\n")
	writeFile(t, filepath.Join(dir, "cmd/job/main.go"), "package main\n\nfunc main() {}\n")
	return dir
}

func TestPlanProgram(t *testing.T) {
	dir, out := project(t), t.TempDir()
	var stderr bytes.Buffer
	if code := result.Main(stage(), []string{"-source", dir, "-main", "./cmd/api,./cmd/job", "-main", "cmd/job", "-out", out}, &stderr); code != result.ExitInput ||
		!strings.Contains(stderr.String(), "component shop has 2 programs") {
		t.Errorf("two without a hint: exit %d: %s", code, &stderr)
	}
	if r, err := result.Read(out); err != nil || r.Verdict != result.Inconclusive || r.Error == "" {
		t.Errorf("result of the failure: %+v, %v", r, err)
	}

	stderr.Reset()
	if code := result.Main(stage(), []string{"-source", dir, "-main", "./cmd/api", "-out", out}, &stderr); code != result.ExitPass {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	p, err := plan.Read(filepath.Join(out, plan.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if p.Components[0].Entrypoint != "api" || p.Config.Build.Main[0] != "./cmd/api" {
		t.Errorf("%+v", p.Components)
	}
	r, err := result.Read(out)
	if err != nil || r.Outputs["version"] != "dev" || r.Inputs[0].Digest["sha256"] == "" || len(r.Findings) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if b, err := os.ReadFile(filepath.Join(out, plan.TextFileName)); err != nil || !bytes.HasPrefix(b, []byte("shop dev\n")) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestConfiguration(t *testing.T) {
	tests := []struct {
		name, yaml string
		args       func(dir string) []string
		code       int
		want       string
	}{
		{"own file", "build: {entrypoint: api}", nil, result.ExitPass, "shop dev"},
		{"own file is wrong", "bulid: {}", nil, result.ExitInput, "plan: slipway.yaml:1:1: bulid: unknown key: did you mean build?"},
		{"other file", "bulid: {}", func(dir string) []string { return []string{"-config", filepath.Join(dir, "other.yaml")} }, result.ExitPass, "shop dev"},
		{"no such file", "", func(dir string) []string { return []string{"-config", filepath.Join(dir, "gone.yaml")} }, result.ExitInput, "no such file"},
		{"main outside", "", func(string) []string { return []string{"-main", "../x"} }, result.ExitInput, "flag -main"},
		{"no source", "", func(string) []string { return []string{"-source", "/does/not/exist"} }, result.ExitInput, "opening the source"},
		{"empty source", "", func(string) []string { return []string{"-source", ""} }, result.ExitInput, "flag -source is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := project(t)
			writeFile(t, filepath.Join(dir, "slipway.yaml"), tt.yaml)
			writeFile(t, filepath.Join(dir, "other.yaml"), "build: {main: [cmd/job]}")
			args := []string{"-source", dir, "-out", t.TempDir()}
			if tt.args != nil {
				args = append(args, tt.args(dir)...)
			}
			var stderr bytes.Buffer
			if code := result.Main(stage(), args, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("exit %d: %s", code, &stderr)
			}
		})
	}
}
