package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

const (
	goMod    = "module example.com/shop\n\ngo 1.24\n"
	mainFile = "package main\n\nvar version, commit = \"dev\", \"\"\n\nvar date int\n\nfunc main() { println(version, commit, date) }\n"
	depPath  = "example.com/Dep"
	depVer   = "v1.2.3"
)

func writeTree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// options plans the tree that files make, in a directory called name.
func options(t testing.TB, name string, files map[string]string, yaml string) Options {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	writeTree(t, dir, files)
	cfg, err := config.Parse("slipway.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	src := plan.Source{Commit: "0123456789abcdef", Time: time.Unix(1767323045, 0).UTC(), Epoch: 1767323045, Digest: "sha256:00"}
	p, err := plan.Make(t.Context(), dir, plan.Options{Config: cfg, Source: src})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of the network and nothing of the user's.
	env := append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GONOSUMDB=*", "GOTOOLCHAIN=local", "GOWORK=", "GOFLAGS=-ldflags=-X=main.version=fromTheUser")
	return Options{Source: dir, Plan: p, Version: "v1.2.3", Out: t.TempDir(), Env: env}
}

func run(t testing.TB, o Options) (*result.Result, error) {
	t.Helper()
	return Run(t.Context(), o)
}

func read(t testing.TB, o Options) Build {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.Out, FileName))
	if err != nil {
		t.Fatal(err)
	}
	var rec Build
	if err := json.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestSameSourceSameBytes(t *testing.T) {
	files := map[string]string{"go.mod": goMod, "cmd/shop/main.go": mainFile, "LICENSE": "MIT\n"}
	var records [2][]byte
	for i, name := range []string{"here", "somewhere/else"} {
		o := options(t, name, files, "build: {ldflags: ['-X main.commit={{.Commit}}-{{.Version}}']}")
		o.Parallel = 1 + i
		r, err := run(t, o)
		if err != nil || r.Verdict != result.Pass {
			t.Fatalf("%+v, %v", r, err)
		}
		var readErr error
		if records[i], readErr = os.ReadFile(filepath.Join(o.Out, FileName)); readErr != nil {
			t.Fatal(readErr)
		}
		if i == 0 {
			rec := read(t, o)
			if len(rec.Binaries) != 2 || rec.Binaries[0].Path != "bin/linux-amd64/shop" || rec.Binaries[1].Path != "bin/linux-arm64/shop" {
				t.Errorf("%+v", rec.Binaries)
			}
			// The int called date is left alone: the linker would refuse it.
			if want := "-s -w -buildid= -X main.version=v1.2.3 -X main.commit=0123456789abcdef -X main.commit=0123456789abcdef-v1.2.3"; rec.Binaries[0].Ldflags != want {
				t.Errorf("ldflags %q", rec.Binaries[0].Ldflags)
			}
			b, err := os.ReadFile(filepath.Join(o.Out, "bin/linux-amd64/shop"))
			if err != nil {
				t.Fatal(err)
			}
			for want, has := range map[string]bool{"v1.2.3": true, "0123456789abcdef-v1.2.3": true, "fromTheUser": false, o.Source: false} {
				if bytes.Contains(b, []byte(want)) != has {
					t.Errorf("%q in the binary: %t", want, !has)
				}
			}
			if len(rec.Modules) != 1 || !rec.Modules[0].Main || rec.Modules[0].Path != "example.com/shop" {
				t.Errorf("modules %+v", rec.Modules)
			}
			for _, f := range r.Files {
				if _, err := os.Stat(filepath.Join(o.Out, f.Path)); err != nil {
					t.Error(err)
				}
			}
			if r.Inputs[0].Digest["sha256"] != "00" || r.Outputs["version"] != "v1.2.3" {
				t.Errorf("%+v", r)
			}
		}
	}
	if !bytes.Equal(records[0], records[1]) {
		t.Errorf("build.json differs between folders:\n%s\n%s", records[0], records[1])
	}
}

func TestCompileErrorIsAVerdict(t *testing.T) {
	o := options(t, "src", map[string]string{"svc/go.mod": goMod, "svc/main.go": "package main\n\nfunc main() {\n\tx := 1\n\tmissing()\n}\n"}, "")
	r, err := run(t, o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Location+" "+f.Message)
	}
	want := []string{"svc/main.go:4:2 declared and not used: x", "svc/main.go:5:2 undefined: missing"}
	if r.Verdict != result.Fail || !slices.Equal(got, want) {
		t.Errorf("%s: %q", r.Verdict, got)
	}
	if r.Summary != "shop does not compile: 2 errors" {
		t.Errorf("summary %q", r.Summary)
	}
	if _, err := os.Stat(filepath.Join(o.Out, FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("build.json of a failed build: %v", err)
	}
}

// proxy serves one module from files and returns GOPROXY and the module's sum.
func proxy(t *testing.T, files map[string]string) (string, string) {
	t.Helper()
	src, dst := t.TempDir(), t.TempDir()
	writeTree(t, src, files)
	base := filepath.Join(dst, "example.com/!dep/@v")
	writeTree(t, base, map[string]string{"list": depVer + "\n", depVer + ".info": `{"Version":"v1.2.3"}`, depVer + ".mod": files["go.mod"]})
	name := filepath.Join(base, depVer+".zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.CreateFromDir(f, module.Version{Path: depPath, Version: depVer}, src), f.Close()); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.HashZip(name, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.ToSlash(dst), sum
}

// modCache is an empty module cache; the go command writes it read-only.
func modCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(p, 0o700)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return "GOMODCACHE=" + dir
}

var depFiles = map[string]string{
	"go.mod": "module " + depPath + "\n", "dep.go": "package Dep\n\nconst X = 1\n", "LICENSE": "Apache\n", "NOTICE.txt": "notice\n",
	"third_party/zlib/zlib.go": "package zlib\n\nconst Y = 2\n", "third_party/zlib/COPYING": "zlib\n", "unused/LICENSE": "GPL\n", "unused/u.go": "package unused\n",
	"license.go": "package Dep\n", "LICENSE.docs": "CC-BY-SA\n", "license-docs.md": "CC-BY-SA\n",
}

func TestDependenciesAndTheirLicences(t *testing.T) {
	url, sum := proxy(t, depFiles)
	modSum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(depFiles["go.mod"])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	app := map[string]string{
		"go.mod":  goMod + "require " + depPath + " " + depVer + "\n",
		"go.sum":  depPath + " " + depVer + " " + sum + "\n" + depPath + " " + depVer + "/go.mod " + modSum + "\n",
		"main.go": "package main\n\nimport (\n\t\"" + depPath + "\"\n\t\"" + depPath + "/third_party/zlib\"\n)\n\nfunc main() { println(Dep.X, zlib.Y) }\n",
		"LICENSE": "MIT\n",
	}
	o := options(t, "src", app, "build: {platforms: [linux/amd64]}")
	o.Env = append(o.Env, "GOPROXY="+url, modCache(t))
	r, err := run(t, o)
	if err != nil || r.Verdict != result.Pass {
		t.Fatalf("%+v, %v", r, err)
	}
	if mods := read(t, o).Modules; len(mods) != 2 || mods[0] != (Module{Path: depPath, Version: depVer, Sum: sum}) {
		t.Errorf("%+v", mods)
	}
	got := map[string]string{}
	err = fs.WalkDir(os.DirFS(filepath.Join(o.Out, LicensesDir)), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(o.Out, LicensesDir, name))
		got[name] = strings.TrimSpace(string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"example.com/!dep@v1.2.3/LICENSE": "Apache", "example.com/!dep@v1.2.3/NOTICE.txt": "notice", "example.com/!dep@v1.2.3/third_party/zlib/COPYING": "zlib",
		"example.com/shop@v1.2.3/LICENSE": "MIT", "example.com/shop@(devel)/LICENSE": "MIT",
	}
	if len(got) != len(want) {
		t.Errorf("licences %v", got)
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %q, want %q", name, got[name], text)
		}
	}

	t.Run("from vendor", func(t *testing.T) {
		vendored := map[string]string{
			"vendor/modules.txt":                           "# " + depPath + " " + depVer + "\n## explicit\n" + depPath + "\n" + depPath + "/third_party/zlib\n",
			"vendor/" + depPath + "/d.go":                  "package Dep\n\nconst X = 3\n",
			"vendor/" + depPath + "/COPYING":               "vendored\n",
			"vendor/" + depPath + "/third_party/zlib/z.go": "package zlib\n\nconst Y = 4\n",
		}
		maps.Copy(vendored, app)
		o := options(t, "src", vendored, "build: {platforms: [linux/amd64]}")
		o.Env = append(o.Env, modCache(t))
		if r, err := run(t, o); err != nil || r.Verdict != result.Pass {
			t.Fatalf("%+v, %v", r, err)
		}
		b, err := os.ReadFile(filepath.Join(o.Out, LicensesDir, "example.com/!dep@v1.2.3/COPYING"))
		if err != nil || string(b) != "vendored\n" {
			t.Errorf("%q, %v", b, err)
		}
	})

	t.Run("changed", func(t *testing.T) {
		changed := maps.Clone(depFiles)
		changed["dep.go"] = "package Dep\n\nconst X = 666\n"
		evil, _ := proxy(t, changed)
		o := options(t, "src", app, "")
		o.Env = append(o.Env, "GOPROXY="+evil, modCache(t))
		r, err := run(t, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != result.Fail || len(r.Findings) != 1 || r.Findings[0].ID != "checksum-mismatch" || r.Findings[0].Severity != result.Critical ||
			!strings.Contains(r.Findings[0].Message, depPath+"@"+depVer) {
			t.Errorf("%+v", r)
		}
	})

	t.Run("proxy down", func(t *testing.T) {
		o := options(t, "src", app, "")
		o.Env = append(o.Env, "GOPROXY=http://127.0.0.1:1", modCache(t))
		_, err := run(t, o)
		if err == nil || result.IsInput(err) || !strings.Contains(err.Error(), "check the network and GOPROXY") {
			t.Errorf("%v", err)
		}
	})

	t.Run("no such version", func(t *testing.T) {
		o := options(t, "src", map[string]string{"go.mod": strings.Replace(app["go.mod"], depVer, "v1.9.9", 1), "main.go": app["main.go"],
			"go.sum": strings.ReplaceAll(app["go.sum"], depVer, "v1.9.9")}, "")
		o.Env = append(o.Env, "GOPROXY="+url, modCache(t))
		if r, err := run(t, o); !result.IsInput(err) {
			t.Errorf("%+v, %v", r, err)
		}
	})

	t.Run("go.sum lacks it", func(t *testing.T) {
		o := options(t, "src", map[string]string{"go.mod": app["go.mod"], "main.go": app["main.go"]}, "")
		o.Env = append(o.Env, "GOPROXY="+url, modCache(t))
		_, err := run(t, o)
		if !result.IsInput(err) || !strings.Contains(err.Error(), "run go mod tidy and commit") {
			t.Errorf("%v", err)
		}
	})
}

func TestMissingImportIsAFinding(t *testing.T) {
	o := options(t, "src", map[string]string{"go.mod": goMod, "main.go": "package main\n\nimport _ \"example.com/unknown\"\n\nfunc main() {}\n"}, "")
	r, err := run(t, o)
	if err != nil || r.Verdict != result.Fail || len(r.Findings) != 1 || r.Findings[0].Location != "main.go:3:8" || r.Findings[0].Fix == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunRefuses(t *testing.T) {
	app := map[string]string{"go.mod": goMod, "main.go": mainFile}
	tests := []struct {
		name   string
		files  map[string]string
		change func(*Options)
		want   string
	}{
		{"library", map[string]string{"go.mod": goMod, "a.go": "package a\n"}, nil, "has no main package"},
		{"version", app, func(o *Options) { o.Version = "v1 -X main.x=y" }, `version "v1 -X main.x=y"`},
		{"component", app, func(o *Options) { o.Component = "x" }, `no component "x"`},
		{"language", app, func(o *Options) { o.Plan.Components[0].Language = "rust" }, "is rust, not go"},
		{"directory", app, func(o *Options) { o.Plan.Components[0].Path = "gone" }, "directory gone is missing"},
		{"newer Go", map[string]string{"go.mod": "module example.com/shop\n\ngo 1.999\n", "main.go": mainFile}, nil, "use a newer Go image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, "src", tt.files, "")
			if tt.change != nil {
				tt.change(&o)
			}
			if _, err := run(t, o); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	o := options(t, "src", app, "")
	o.Go = "no-such-go"
	if _, err := run(t, o); err == nil || result.IsInput(err) || !strings.Contains(err.Error(), "running the go command") {
		t.Errorf("without a go command: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, options(t, "src", app, "")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStringVariables(t *testing.T) {
	for src, want := range map[string]string{
		"var version string":                         "version",
		"var version = \"dev\"":                      "version",
		"var version string = `x`":                   "version",
		"var (\n\tversion, commit = \"a\", \"b\"\n)": "version commit",
		"var version, date string":                   "version date",
		"var version int":                            "",
		"const version = \"x\"":                      "",
		"var version = f()":                          "",
		"var version = 1":                            "",
		"func f() { var version string }":            "",
		"var version mystring":                       "",
	} {
		dir := t.TempDir()
		writeTree(t, dir, map[string]string{"main.go": "package main\n\n" + src + "\n", "a_test.go": "package main\n\nvar commit string\n", "b.go": "broken"})
		if got := strings.Join(stringVariables(dir, "version", "commit", "date"), " "); got != want {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]cause{
		"./main.go:3:1: undefined: x": causeSource,
		"go: x@v1: Get \"https://proxy.golang.org/x\": dial tcp: lookup proxy.golang.org: no such host":                         causeWorld,
		"go: x@v1: reading https://proxy.golang.org/x: 502 Bad Gateway":                                                         causeWorld,
		"go: x@v1: reading https://proxy.golang.org/x/@v/v1.info: 404 Not Found":                                                causeInput,
		"verifying x@v1: checksum mismatch\n\tdownloaded: h1:a\n\tgo.sum: h1:b\n\nSECURITY ERROR":                               causeChecksum,
		"go: inconsistent vendoring in /src:":                                                                                   causeInput,
		"main.go:3:8: missing go.sum entry for module providing package x":                                                      causeInput,
		"go: updates to go.mod needed":                                                                                          causeInput,
		"# example.com/shop\n./main.go:3:9: cannot use \"dial tcp\" as int value":                                               causeSource,
		"# example.com/shop\nlink: signal: killed":                                                                              causeWorld,
		"write /tmp/x: no space left on device":                                                                                 causeWorld,
		"go: go.mod requires go >= 1.99 (running go 1.26.0; GOTOOLCHAIN=local)":                                                 causeInput,
		"go: x: git ls-remote -q origin: exit status 128: fatal: could not read Username: terminal prompts disabled":            causeInput,
		"go: download go1.99 for linux/amd64: toolchain not available":                                                          causeInput,
		"go: x@v1: Get \"https://proxy.example.com/x\": tls: failed to verify certificate: x509: certificate signed by unknown": causeWorld,
	} {
		if got, _ := classify(text); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func FuzzDiagnostics(f *testing.F) {
	f.Add("# example.com/shop\n./main.go:3:4: undefined: x\n\tcontinued\nmain.go:9:1: too many errors\n")
	f.Add("a.go:1: x\nb.go:99999999999999999999:1: y\n:1:1: z\n")
	f.Fuzz(func(t *testing.T, text string) {
		list := diagnostics(text, "svc")
		if len(list) > maxFindings {
			t.Errorf("%d findings", len(list))
		}
		for _, d := range list {
			r := result.Result{Schema: result.Schema, Stage: "build", Verdict: result.Fail, Findings: []result.Finding{d}}
			if err := r.Validate(); err != nil || d.Location == "" {
				t.Errorf("%+v: %v", d, err)
			}
		}
	})
}
