package test

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/cover"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// project writes a module and returns the stage's inputs for it.
func project(t *testing.T, files map[string]string, change func(*config.Test)) Inputs {
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
	cfg.Test.Race = "off"
	cfg.Test.Timeout = config.Duration(time.Minute)
	if change != nil {
		change(&cfg.Test)
	}
	return Inputs{Source: dir, Go: "go", Out: t.TempDir(),
		Plan: &plan.Plan{Config: cfg, Components: []plan.Component{{Name: "demo", Path: ".", Language: "go", Module: "example.com/demo"}}}}
}

const (
	goMod  = "module example.com/demo\n\ngo 1.25.0\n"
	source = "package demo\n\nfunc Add(a, b int) int {\n\tif a == 0 {\n\t\treturn b\n\t}\n\treturn a + b\n}\n"
	passes = "package demo\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name    string
		test    string
		change  func(*config.Test)
		want    result.Verdict
		finding string
		message string
	}{
		{"passes", passes, nil, result.Pass, "", ""},
		{"fails", strings.Replace(passes, "!= 3", "!= 4", 1), nil, result.Fail, "example.com/demo.TestAdd", "wrong"},
		{"subtest fails", "package demo\n\nimport \"testing\"\n\nfunc TestAll(t *testing.T) {\n\tt.Run(\"one\", func(t *testing.T) { t.Fatal(\"no\") })\n}\n", nil,
			result.Fail, "example.com/demo.TestAll/one", "no"},
		{"panics", "package demo\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) { panic(\"oh\") }\n", nil, result.Fail, "example.com/demo.TestAdd", "panic: oh"},
		{"exits", "package demo\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestAdd(t *testing.T) { os.Exit(3) }\n", nil, result.Fail, "example.com/demo", ""},
		{"does not build", "package demo\n\nvar _ = undefined()\n", nil, result.Fail, "example.com/demo", "undefined"},
		{"times out", "package demo\n\nimport (\n\t\"testing\"\n\t\"time\"\n)\n\nfunc TestAdd(t *testing.T) { time.Sleep(time.Minute) }\n",
			func(c *config.Test) { c.Timeout = config.Duration(100 * time.Millisecond) }, result.Fail, "example.com/demo.TestAdd", "timed out"},
		{"too little coverage", passes, func(c *config.Test) { c.Coverage = 99 }, result.Fail, "coverage", "66.7 %"},
		{"no tests", "package demo\n", nil, result.Skipped, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := project(t, map[string]string{"go.mod": goMod, "demo.go": source, "demo_test.go": tt.test}, tt.change)
			r, err := Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want {
				t.Errorf("verdict = %s, want %s: %+v", r.Verdict, tt.want, r)
			}
			if tt.finding == "" {
				return
			}
			if len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].ID, tt.finding) || !strings.Contains(r.Findings[0].Message, tt.message) {
				t.Errorf("findings = %+v, want one of %s about %q", r.Findings, tt.finding, tt.message)
			}
		})
	}
}

func TestReports(t *testing.T) {
	in := project(t, map[string]string{"go.mod": goMod, "demo.go": source, "demo_test.go": strings.Replace(passes, "!= 3", "!= 4", 1)}, nil)
	if _, err := Run(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Failed   []string `xml:"testsuite>testcase>failure"`
	}
	unmarshal(t, filepath.Join(in.Out, "junit.xml"), &suites)
	if suites.Tests != 1 || suites.Failures != 1 || len(suites.Failed) != 1 {
		t.Errorf("junit = %+v, want one test that failed", suites)
	}
	var c coverage
	unmarshal(t, filepath.Join(in.Out, "cobertura.xml"), &c)
	if len(c.Packages) != 1 || c.Packages[0].Classes[0].Filename != "demo.go" || c.LinesCovered == 0 || c.LinesCovered >= c.LinesValid {
		t.Errorf("cobertura = %+v, want part of demo.go covered", c)
	}
}

func unmarshal(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func TestUnreachableProxyIsTheWorlds(t *testing.T) {
	t.Setenv("GOPROXY", "http://127.0.0.1:1")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOMODCACHE", t.TempDir())
	in := project(t, map[string]string{"go.mod": goMod + "\nrequire example.com/nowhere v1.0.0\n",
		"demo.go": "package demo\n\nimport _ \"example.com/nowhere\"\n", "demo_test.go": passes}, nil)
	if r, err := Run(t.Context(), in); err == nil || result.IsInput(err) {
		t.Errorf("result = %+v, error = %v; want an error that is not the caller's", r, err)
	}
}

func TestParseBoundsOutput(t *testing.T) {
	line, err := json.Marshal(event{Action: "output", Package: "p", Test: "T", Output: strings.Repeat("x", 1000) + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat(string(line)+"\n", 1000) + strings.Repeat("y", 3*maxLine) + "\n" + `{"Action":"fail","Package":"p","Test":"T"}` + "\n"
	r, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cases) != 1 || len(r.Cases[0].Output) > maxOutput || r.Cases[0].Outcome != "fail" {
		t.Errorf("%d cases, %d bytes of output", len(r.Cases), len(r.Cases[0].Output))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Action":"run","Package":"p","Test":"T"}` + "\n" + `{"Action":"pass","Package":"p","Test":"T","Elapsed":1}` + "\nnoise\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		if _, err := r.JUnit(); err != nil {
			t.Errorf("JUnit: %v", err)
		}
		tests, failed, skipped := r.Counts()
		if failed+skipped > tests {
			t.Errorf("%d failed and %d skipped of %d", failed, skipped, tests)
		}
	})
}

func FuzzCobertura(f *testing.F) {
	f.Add("mode: atomic\nexample.com/demo/a.go:1.1,2.2 1 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		profiles, err := cover.ParseProfilesFromReader(strings.NewReader(text))
		if err != nil {
			return
		}
		if _, err := Cobertura(profiles, "example.com/demo", ".", 0); err != nil {
			t.Error(err)
		}
		if c := Coverage(profiles); c < 0 || c > 100 {
			t.Logf("coverage %v of odd counts", c)
		}
	})
}
