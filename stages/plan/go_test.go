package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	mainFile = "package main\n\nfunc main() {}\n"
	goMod    = "module example.com/shop\n\ngo 1.25.0\n"
)

// writeTree makes files in a new directory; a value "-> target" makes a symbolic link.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(target, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with returns files with some of them changed.
func with(files map[string]string, more ...string) map[string]string {
	m := maps.Clone(files)
	for pair := range slices.Chunk(more, 2) {
		m[pair[0]] = pair[1]
	}
	return m
}

func makePlan(t testing.TB, files map[string]string, yaml string, mains ...string) (*Plan, error) {
	t.Helper()
	cfg, err := config.Parse("slipway.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return Make(t.Context(), writeTree(t, files), Options{Config: cfg, Main: mains})
}

func mustPlan(t testing.TB, files map[string]string, yaml string) *Plan {
	t.Helper()
	p, err := makePlan(t, files, yaml)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// programs writes a component's mains as "dir=binary", the entrypoint with a star.
func programs(c Component) []string {
	var list []string
	for _, m := range c.Mains {
		s := m.Dir + "=" + m.Binary
		if m.Binary == c.Entrypoint {
			s += "*"
		}
		list = append(list, s)
	}
	return list
}

func TestDetectGoModule(t *testing.T) {
	p := mustPlan(t, map[string]string{
		"go.mod":                      goMod + "toolchain go1.25.5\nreplace example.com/log => ./internal/log\n",
		"cmd/shop/main.go":            mainFile,
		"cmd/shop/main_test.go":       "package main\n",
		"price/price.go":              "package price\n",
		"price/price_x_test.go":       "package price_test\n",
		"onlytests/a_test.go":         "package onlytests\n",
		"sqlite/sqlite.go":            "package sqlite\n\nimport \"C\"\n",
		"windows/main_windows.go":     mainFile,
		"gen/gen.go":                  "//go:build ignore\n\n" + mainFile,
		"method/m.go":                 "package main\n\ntype t int\n\nfunc (t) main() {}\n",
		"vendor/x/main.go":            mainFile,
		"testdata/go.mod":             "broken {",
		"testdata/main.go":            mainFile,
		"_old/main.go":                mainFile,
		".hidden/main.go":             mainFile,
		"nested/go.mod":               "module example.com/nested\n",
		"nested/main.go":              mainFile,
		"internal/log/go.mod":         "module example.com/log\n",
		"internal/log/log.go":         "package log\n",
		"web/node_modules/x/index.js": "",
		".git/config":                 "",
		".git/x.go":                   mainFile,
	}, "")
	c := p.Components[0]
	if len(p.Components) != 1 || p.Name != "shop" || p.Version != "dev" {
		t.Errorf("name %q, version %q, %d components", p.Name, p.Version, len(p.Components))
	}
	why := c.Why
	c.Why = nil
	want := Component{Name: "shop", Path: ".", Language: "go", LanguageVersion: "1.25.0", Toolchain: "go1.25.5", Module: "example.com/shop",
		Packages: 5, TestPackages: 3, TestFramework: "go test", Cgo: true,
		Mains:      []Main{{Package: "example.com/shop/cmd/shop", Dir: "./cmd/shop", Binary: "shop"}},
		Entrypoint: "shop"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	for _, w := range []string{"go.mod:1: module example.com/shop", "go.mod:3: go 1.25.0", "cgo is used in sqlite", "the vendor directory"} {
		if !strings.Contains(strings.Join(why, "\n"), w) {
			t.Errorf("why lacks %q: %q", w, why)
		}
	}
	if w := strings.Join(p.Warnings, "\n"); !strings.Contains(w, "nested/go.mod is not part of the plan") || strings.Contains(w, "internal/log") {
		t.Errorf("warnings %q", p.Warnings)
	}
	var stages []string
	for _, s := range p.Steps {
		stages = append(stages, s.Stage)
	}
	if !slices.Equal(stages, []string{"lint", "test", "build", "image", "sbom", "scan"}) {
		t.Errorf("steps %v", stages)
	}
}

func TestMains(t *testing.T) {
	two := map[string]string{"go.mod": goMod, "cmd/api/main.go": mainFile, "cmd/worker/main.go": mainFile}
	tests := []struct {
		name  string
		files map[string]string
		yaml  string
		flags []string
		want  []string
		err   string
		// undecided is what is said where nothing is built.
		undecided string
	}{
		{name: "at the top", files: map[string]string{"go.mod": goMod, "main.go": mainFile}, want: []string{".=shop*"}},
		{name: "major version", files: map[string]string{"go.mod": "module example.com/shop/v2\n", "main.go": mainFile}, want: []string{".=shop*"}},
		{name: "gopkg.in version", files: map[string]string{"go.mod": "module gopkg.in/shop.v2\n", "main.go": mainFile}, want: []string{".=shop*"}},
		{name: "major version in a directory", files: map[string]string{"go.mod": goMod, "cmd/api/v3/main.go": mainFile}, want: []string{"./cmd/api/v3=api*"}},
		{name: "library", files: map[string]string{"go.mod": goMod, "shop.go": "package shop\n"}},
		{name: "named as the module", files: with(two, "cmd/shop/main.go", mainFile), want: []string{"./cmd/api=api", "./cmd/shop=shop*", "./cmd/worker=worker"}},
		{name: "two without a hint", files: two, undecided: "component shop has 2 programs and none is called \"shop\": set build.main"},
		{name: "both are listed", files: two, undecided: "  ./cmd/api (api)\n  ./cmd/worker (worker)"},
		{name: "a library with examples", files: map[string]string{"go.mod": goMod, "a.go": "package shop\n", "examples/a/main.go": mainFile, "example/b/main.go": mainFile}},
		{name: "build.main", files: two, yaml: "build: {main: [cmd/worker]}", want: []string{"./cmd/worker=worker*"}},
		{name: "flag wins", files: two, yaml: "build: {main: [cmd/worker]}", flags: []string{"./cmd/api"}, want: []string{"./cmd/api=api*"}},
		{name: "flag on nothing", files: two, flags: []string{"./cmd/apy"}, err: "build.main \"./cmd/apy\" is no main package: there are\n  ./cmd/api (api)"},
		{name: "entrypoint", files: two, yaml: "build: {entrypoint: api}", want: []string{"./cmd/api=api*", "./cmd/worker=worker"}},
		{name: "entrypoint of nothing", files: two, yaml: "build: {entrypoint: x}", err: `build.entrypoint "x" is none of the programs`},
		{name: "named by the component", files: two, yaml: "components: [{path: ., name: worker}]", want: []string{"./cmd/api=api", "./cmd/worker=worker*"}},
		{name: "same binary twice", files: with(two, "tool/api/main.go", mainFile, "x/api/main.go", mainFile), undecided: `./cmd/api and ./x/api both build a binary "api"`},
		{name: "examples and tools stay aside", files: with(two, "cmd/worker/main.go", "package worker", "examples/x/main.go", mainFile, "internal/tools/gen/main.go", mainFile),
			want: []string{"./cmd/api=api*"}},
		{name: "a program called demo", files: map[string]string{"go.mod": goMod, "cmd/demo/main.go": mainFile}, want: []string{"./cmd/demo=demo*"}},
		{name: "a program called as its module", files: map[string]string{"go.mod": "module example.com/test\n", "test/main.go": mainFile}, want: []string{"./test=test*"}},
		{name: "an example's programs", files: map[string]string{"go.mod": goMod, "a.go": "package shop\n", "example/cmd/x/main.go": mainFile}},
		{name: "a tool by name", files: with(two, "tools/gen/main.go", mainFile), yaml: "build: {main: [tools/gen]}", want: []string{"./tools/gen=gen*"}},
		{name: "only a tool", files: map[string]string{"go.mod": goMod, "tools/gen/main.go": mainFile}, want: []string{"./tools/gen=gen*"}},
		{name: "build tag off", files: map[string]string{"go.mod": goMod, "main.go": "//go:build pro\n\n" + mainFile}},
		{name: "build tag on", files: map[string]string{"go.mod": goMod, "main.go": "//go:build pro\n\n" + mainFile}, yaml: "build: {tags: [pro]}", want: []string{".=shop*"}},
		{name: "other architecture", files: map[string]string{"go.mod": goMod, "main_arm64.go": mainFile}, yaml: "build: {platforms: [linux/arm64]}", want: []string{".=shop*"}},
		{name: "syntax error is the compiler's", files: map[string]string{"go.mod": goMod, "main.go": "package main\n\nfunc main() {\n"}, want: []string{".=shop*"}},
		{name: "main needs cgo", files: map[string]string{"go.mod": goMod, "main.go": "package main\n\nimport \"C\"\n\nfunc main() {}\n"}},
		{name: "link inside the tree", files: map[string]string{"go.mod": goMod, "main.go": "-> src/real.txt", "src/real.txt": mainFile}, want: []string{".=shop*"}},
		{name: "link out of the tree", files: map[string]string{"go.mod": goMod, "a.go": "package shop\n", "main.go": "-> /etc/hostname"}},
		{name: "ignore directive", files: map[string]string{"go.mod": goMod + "ignore ./gen\n", "gen/main.go": mainFile, "a.go": "package shop\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := makePlan(t, tt.files, tt.yaml, tt.flags...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !result.IsInput(err) {
					t.Errorf("got %v\nwant %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := programs(p.Components[0]); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := p.Components[0].Undecided; (got == "") != (tt.undecided == "") || !strings.Contains(got, tt.undecided) {
				t.Errorf("undecided: got %q\nwant %q", got, tt.undecided)
			}
		})
	}
}

func TestComponents(t *testing.T) {
	monorepo := map[string]string{
		"api/go.mod": "module example.com/shop/api\n", "api/main.go": mainFile,
		"web/go.mod": "module example.com/shop/web\n", "web/main.go": mainFile,
		"lib/go.mod": "module example.com/shop/lib\n", "lib/lib.go": "package lib\n",
	}
	tests := []struct {
		name  string
		files map[string]string
		yaml  string
		want  []string
		err   string
	}{
		{name: "no top module: all", files: monorepo, want: []string{"api=api", "lib=lib", "web=web"}},
		{name: "go.work chooses", files: with(monorepo, "go.work", "go 1.25.0\n\nuse (\n\t./web\n\t./api\n)\n"), want: []string{"api=api", "web=web"}},
		{name: "go.work with the top", files: with(monorepo, "go.work", "use .\nuse ./lib\n", "go.mod", goMod, "a.go", "package shop\n"), want: []string{".=shop", "lib=lib"}},
		{name: "go.work on nothing", files: with(monorepo, "go.work", "use ./gone\n"), err: "go.work:1: use ./gone: no go.mod there"},
		{name: "go.work outside", files: with(monorepo, "go.work", "use ../x\n"), err: "go.work:1: use ../x: no go.mod there"},
		{name: "go.work without use", files: with(monorepo, "go.work", "go 1.25.0\n"), err: "go.work: uses no module"},
		{name: "broken go.work", files: with(monorepo, "go.work", "use (\n"), err: "broken go.work: go.work:"},
		{name: "listed", files: monorepo, yaml: "components: [{path: web, name: front}, {path: ./api}]", want: []string{"web=front", "api=api"}},
		{name: "part of a module", files: map[string]string{"go.mod": goMod, "a/main.go": mainFile, "b/main.go": mainFile}, yaml: "components: [{path: a}]", want: []string{"a=a"}},
		{name: "listed on nothing", files: monorepo, yaml: "components: [{path: docs}]", err: "component docs: no project there: looked for go.mod"},
		{name: "other language", files: monorepo, yaml: "components: [{path: web, language: cobol}]", err: `language "cobol" is not supported: use go`},
		{name: "same last element", files: map[string]string{"a/go.mod": "module x.org/a/app\n", "a/m.go": "package a\n", "b/go.mod": "module x.org/b/app\n", "b/m.go": "package b\n"},
			want: []string{"a=a", "b=b"}},
		{name: "broken go.mod", files: map[string]string{"sub/go.mod": "module example.com/x\n\nrequire (\n\tfoo\n)\n"}, err: "broken go.mod: sub/go.mod:4:"},
		{name: "no module directive", files: map[string]string{"go.mod": "go 1.25.0\n"}, err: "go.mod:1: no module directive"},
		{name: "go.mod leads out", files: map[string]string{"go.mod": "-> /etc/hostname"}, err: "path escapes"},
		{name: "nothing", files: map[string]string{"README.md": "", "main.go": mainFile}, err: "no project found: looked for go.mod or go.work"},
		{name: "hostile name", files: map[string]string{"go.mod": "module example.com/..\n"}, err: `component .: name "."`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := makePlan(t, tt.files, tt.yaml)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !result.IsInput(err) {
					t.Errorf("got %v\nwant %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range p.Components {
				got = append(got, c.Path+"="+c.Name)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBrokenPackageIsAWarning(t *testing.T) {
	p := mustPlan(t, map[string]string{"go.mod": goMod, "a.go": "package a\n", "b.go": "package b\n", "cmd/shop/main.go": mainFile}, "")
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "found packages a (a.go) and b (b.go)") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

func TestWalkIsBounded(t *testing.T) {
	root, err := os.OpenRoot(writeTree(t, map[string]string{"a": "", "b": "", "c": ""}))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := &Tree{root: root, entries: 3}
	err = tree.Walk(t.Context(), func(string, os.DirEntry) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "more than 3 files") || !result.IsInput(err) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.Walk(ctx, func(string, os.DirEntry) error { return nil }); !errors.Is(err, context.Canceled) || result.IsInput(err) {
		t.Errorf("cancelled: %v", err)
	}
}

func BenchmarkMakeTenThousandFiles(b *testing.B) {
	files := map[string]string{"go.mod": goMod, "cmd/shop/main.go": mainFile}
	for i := range 10_000 {
		files[fmt.Sprintf("pkg%d/f%d.go", i/20, i)] = fmt.Sprintf("package pkg%d\n\nimport \"fmt\"\n\nvar X%d = fmt.Sprint()\n", i/20, i)
	}
	dir := writeTree(b, files)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Make(b.Context(), dir, Options{Config: config.Default()}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzGoMod(f *testing.F) {
	f.Add("module example.com/shop\n", "use .\n")
	f.Add("module \"a b\"\nignore ./x\n", "use ../..\n")
	f.Add("module a/..\n", "go 1.x\n")
	f.Fuzz(func(t *testing.T, mod, work string) {
		p, err := makePlan(t, map[string]string{"go.mod": mod, "go.work": work, "main.go": mainFile}, "")
		if err != nil {
			if !result.IsInput(err) {
				t.Errorf("not an input error: %v", err)
			}
			return
		}
		b, err := p.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b); err != nil {
			t.Errorf("the plan does not read back: %v", err)
		}
	})
}
