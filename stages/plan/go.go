package plan

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Go finds Go modules: those that go.work uses, else the one at the top, else all.
type Go struct{}

// Language is go.
func (Go) Language() string { return "go" }

// LooksFor names go.mod.
func (Go) LooksFor() string {
	return "go.mod or go.work (in any directory but vendor, testdata and those that start with . or _)"
}

// goModule is one go.mod and what lies around it.
type goModule struct {
	dir  string
	file *modfile.File
	// dirs are the directories with Go files that belong to the module, and vendored whether it has a vendor directory.
	dirs     []string
	vendored bool
}

// goTree is what one walk over the source finds.
type goTree struct {
	modules  map[string]*goModule
	goDirs   []string
	vendors  map[string]bool
	hasWork  bool
	warnings []string
}

// Detect implements Ecosystem.
func (Go) Detect(ctx context.Context, tree *Tree, cfg *config.Config) (Detection, error) {
	t, err := walkGo(ctx, tree)
	if err != nil {
		return Detection{}, err
	}
	if len(t.modules) == 0 {
		return Detection{}, nil
	}
	t.assign()
	wanted, why, err := t.choose(tree, cfg)
	if err != nil {
		return Detection{}, err
	}
	var d Detection
	for _, w := range wanted {
		c, warnings, err := goComponent(ctx, tree, w, cfg)
		if err != nil {
			return Detection{}, err
		}
		c.Why = append([]string{why}, c.Why...)
		d.Components, d.Warnings = append(d.Components, c), append(d.Warnings, warnings...)
	}
	d.Warnings = append(d.Warnings, t.warnings...)
	return d, nil
}

func walkGo(ctx context.Context, tree *Tree) (*goTree, error) {
	t := &goTree{modules: map[string]*goModule{}, vendors: map[string]bool{}}
	err := tree.Walk(ctx, func(name string, d fs.DirEntry) error {
		base, dir := d.Name(), path.Dir(name)
		switch {
		case d.IsDir():
			if name == "." {
				return nil
			}
			if base == "vendor" {
				t.vendors[dir] = true
			}
			if base == "vendor" || base == "testdata" || base[0] == '.' || base[0] == '_' {
				return fs.SkipDir
			}
		case base == "go.mod":
			m, err := readModule(tree, name)
			if err != nil {
				return err
			}
			t.modules[dir] = m
		case base == "go.work" && dir == ".":
			t.hasWork = true
		case strings.HasSuffix(base, ".go"):
			if n := len(t.goDirs); n == 0 || t.goDirs[n-1] != dir {
				t.goDirs = append(t.goDirs, dir)
			}
		}
		return nil
	})
	return t, err
}

func readModule(tree *Tree, name string) (*goModule, error) {
	b, err := tree.ReadFile(name)
	if err != nil {
		return nil, result.Input(err)
	}
	f, err := modfile.Parse(name, b, nil)
	if err != nil {
		return nil, result.Inputf("broken go.mod: %w", err)
	}
	if f.Module == nil {
		return nil, result.Inputf("%s:1: no module directive: add one with go mod init", name)
	}
	return &goModule{dir: path.Dir(name), file: f}, nil
}

// assign gives each directory with Go files to the nearest go.mod above it.
func (t *goTree) assign() {
	slices.Sort(t.goDirs)
	t.goDirs = slices.Compact(t.goDirs)
	for _, dir := range t.goDirs {
		if m := t.moduleOf(dir); m != nil && !m.ignores(dir) {
			m.dirs = append(m.dirs, dir)
		}
	}
	for dir, m := range t.modules {
		m.vendored = t.vendors[dir]
	}
}

func (t *goTree) moduleOf(dir string) *goModule {
	for {
		if m := t.modules[dir]; m != nil || dir == "." {
			return m
		}
		dir = path.Dir(dir)
	}
}

// ignores reports whether go.mod's ignore directives leave dir out of ./...
func (m *goModule) ignores(dir string) bool {
	rel := relative(m.dir, dir)
	for _, ig := range m.file.Ignore {
		p, anchored := strings.CutPrefix(ig.Path, "./")
		p = path.Clean(p)
		if within(rel, p) || !anchored && strings.Contains("/"+rel+"/", "/"+p+"/") {
			return true
		}
	}
	return false
}

// replaces reports whether a dependency of the module is replaced by the one in dir, which makes it a part of what the module builds.
func (m *goModule) replaces(dir string) bool {
	return slices.ContainsFunc(m.file.Replace, func(r *modfile.Replace) bool {
		return r.New.Version == "" && modfile.IsDirectoryPath(r.New.Path) && path.Join(m.dir, r.New.Path) == dir
	})
}

// wantedModule is a component to be: its directory, and its name and path where the configuration gives them.
type wantedModule struct {
	dir, name string
	module    *goModule
}

// choose says which modules are components, and why.
func (t *goTree) choose(tree *Tree, cfg *config.Config) ([]wantedModule, string, error) {
	if len(cfg.Components) > 0 {
		var list []wantedModule
		for _, c := range cfg.Components {
			dir := path.Clean(c.Path)
			m := t.moduleOf(dir)
			if c.Language != "" && c.Language != (Go{}).Language() || m == nil || !slices.ContainsFunc(m.dirs, func(d string) bool { return within(d, dir) }) {
				continue
			}
			list = append(list, wantedModule{dir: dir, name: c.Name, module: m})
		}
		return list, config.FileName + " lists it under components", nil
	}
	if t.hasWork {
		return t.fromWork(tree)
	}
	if m := t.modules["."]; m != nil {
		for _, dir := range t.dirs() {
			if dir != "." && !m.replaces(dir) {
				t.warnings = append(t.warnings, fmt.Sprintf("the nested module %s is not part of the plan: add it to go.work, or list it under components in %s",
					path.Join(dir, "go.mod"), config.FileName))
			}
		}
		return []wantedModule{{dir: ".", module: m}}, "go.mod stands at the top of the source", nil
	}
	var list []wantedModule
	for _, dir := range t.dirs() {
		list = append(list, wantedModule{dir: dir, module: t.modules[dir]})
	}
	return list, "no go.mod stands at the top, so each module is a component", nil
}

func (t *goTree) dirs() []string {
	var list []string
	for dir := range t.modules {
		list = append(list, dir)
	}
	slices.Sort(list)
	return list
}

func (t *goTree) fromWork(tree *Tree) ([]wantedModule, string, error) {
	const name = "go.work"
	b, err := tree.ReadFile(name)
	if err != nil {
		return nil, "", result.Input(err)
	}
	w, err := modfile.ParseWork(name, b, nil)
	if err != nil {
		return nil, "", result.Inputf("broken go.work: %w", err)
	}
	var list []wantedModule
	for _, u := range w.Use {
		dir := path.Clean(u.Path)
		m := t.modules[dir]
		if m == nil {
			return nil, "", result.Inputf("%s:%d: use %s: no go.mod there inside the source: check it out, or take the line out", name, u.Syntax.Start.Line, u.Path)
		}
		list = append(list, wantedModule{dir: dir, module: m})
	}
	if len(list) == 0 {
		return nil, "", result.Inputf("%s: uses no module: add one with go work use", name)
	}
	slices.SortFunc(list, func(a, b wantedModule) int { return strings.Compare(a.dir, b.dir) })
	return list, "go.work uses it", nil
}

func goComponent(ctx context.Context, tree *Tree, w wantedModule, cfg *config.Config) (Component, []string, error) {
	mod := w.module.file
	c := Component{
		Name: w.name, Path: w.dir, Language: (Go{}).Language(), Module: mod.Module.Mod.Path,
		Why: []string{fmt.Sprintf("%s:%d: module %s", path.Join(w.module.dir, "go.mod"), mod.Module.Syntax.Start.Line, mod.Module.Mod.Path)},
	}
	if c.Name == "" {
		c.Name = lastElement(path.Join(c.Module, relative(w.module.dir, w.dir)))
	}
	if mod.Go != nil {
		c.LanguageVersion = mod.Go.Version
		c.Why = append(c.Why, fmt.Sprintf("%s:%d: go %s", path.Join(w.module.dir, "go.mod"), mod.Go.Syntax.Start.Line, mod.Go.Version))
	}
	if mod.Toolchain != nil {
		c.Toolchain = mod.Toolchain.Name
	}
	if w.module.vendored {
		c.Why = append(c.Why, "dependencies come from the vendor directory")
	}
	var warnings []string
	firstCgo := ""
	scan := newPackageScanner(tree, cfg)
	for _, dir := range w.module.dirs {
		if !within(dir, w.dir) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return c, nil, err
		}
		p, err := scan.scan(dir)
		if err != nil {
			warnings = append(warnings, err.Error())
			continue
		}
		if p.empty {
			continue
		}
		c.Packages++
		if p.tests {
			c.TestPackages++
		}
		if p.cgo && firstCgo == "" {
			firstCgo = dir
		}
		if p.main {
			rel := relative(w.dir, dir)
			importPath := path.Join(c.Module, relative(w.module.dir, dir))
			m := Main{Package: importPath, Dir: "./" + rel, Binary: lastElement(importPath)}
			if rel == "." {
				m.Dir = "."
			}
			c.Mains = append(c.Mains, m)
		}
	}
	if c.TestPackages > 0 {
		c.TestFramework = "go test"
	}
	if firstCgo != "" {
		c.Cgo = true
		c.Why = append(c.Why, fmt.Sprintf("cgo is used in %s: the image is built without it (CGO_ENABLED=0)", firstCgo))
	}
	if len(c.Mains) == 0 {
		c.Why = append(c.Why, "no main package: a library, so no image is built")
	}
	return c, warnings, nil
}

// goPackage is what matters of one directory.
type goPackage struct {
	empty, main, tests, cgo bool
}

// packageScanner reads directories as the go command does for the build: Linux, the first platform's architecture, the build tags.
type packageScanner struct {
	tree *Tree
	ctxt build.Context
}

func newPackageScanner(tree *Tree, cfg *config.Config) *packageScanner {
	arch := "amd64"
	if len(cfg.Build.Platforms) > 0 {
		if p, err := config.ParsePlatform(cfg.Build.Platforms[0]); err == nil {
			arch = p.Arch
		}
	}
	return &packageScanner{tree: tree, ctxt: build.Context{
		GOOS: "linux", GOARCH: arch, Compiler: "gc", CgoEnabled: true,
		BuildTags:   cfg.Build.Tags,
		ReleaseTags: build.Default.ReleaseTags,
		JoinPath:    path.Join,
		IsAbsPath:   path.IsAbs,
		IsDir: func(name string) bool {
			fi, err := tree.root.Stat(name)
			return err == nil && fi.IsDir()
		},
		HasSubdir: func(_, _ string) (string, bool) { return "", false },
		ReadDir: func(name string) ([]fs.FileInfo, error) {
			entries, err := fs.ReadDir(tree.root.FS(), name)
			if err != nil {
				return nil, err
			}
			var list []fs.FileInfo
			for _, e := range entries {
				// Following a link here keeps to the tree: the root refuses those that leave it.
				if fi, err := tree.root.Stat(path.Join(name, e.Name())); err == nil && fi.Mode().IsRegular() {
					list = append(list, fi)
				}
			}
			return list, nil
		},
		OpenFile: func(name string) (io.ReadCloser, error) { return tree.Open(name) },
	}}
}

func (s *packageScanner) scan(dir string) (goPackage, error) {
	p, err := s.ctxt.ImportDir(dir, 0)
	if _, ok := errors.AsType[*build.NoGoError](err); ok {
		return goPackage{empty: len(p.TestGoFiles)+len(p.XTestGoFiles) == 0, tests: true}, nil
	}
	if err != nil {
		return goPackage{}, fmt.Errorf("package in %s: %w", dir, err)
	}
	g := goPackage{tests: len(p.TestGoFiles)+len(p.XTestGoFiles) > 0, cgo: len(p.CgoFiles) > 0}
	if p.Name == "main" {
		// What is built is built without cgo, so a main function in a cgo file does not count.
		g.main = slices.ContainsFunc(p.GoFiles, func(name string) bool { return s.hasMain(path.Join(dir, name)) })
	}
	return g, nil
}

// hasMain reports whether a file declares func main. One with a syntax error counts: it is the compiler that shall complain.
func (s *packageScanner) hasMain(name string) bool {
	b, err := s.tree.ReadFile(name)
	if err != nil {
		return false
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, b, parser.SkipObjectResolution)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Recv == nil && fn.Name.Name == "main"
	})
}

// Steps implements Ecosystem.
func (Go) Steps(c *Component, cfg *config.Config) []Step {
	lint := Step{Stage: "lint", Component: c.Name, Runs: []string{}, Why: "a Go module; lint.tools chooses them"}
	commands := map[string]string{"gofmt": "gofmt -l .", "vet": "go vet ./...", "golangci-lint": "golangci-lint run ./...",
		"mod-tidy": "go mod tidy -diff", "mod-verify": "go mod verify"}
	for _, t := range cfg.Lint.Tools {
		lint.Runs = append(lint.Runs, commands[t])
	}
	args := []string{"go", "test", "-json", "-coverprofile=coverage.out"}
	if cfg.Test.Race != "off" {
		args = append(args, "-race")
	}
	if len(cfg.Test.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(cfg.Test.Tags, ","))
	}
	test := Step{Stage: "test", Component: c.Name, Runs: []string{strings.Join(append(args, cfg.Test.Packages...), " ")},
		Why: plural(c.TestPackages, "package") + " with tests"}
	if c.TestPackages == 0 {
		test.Why = "no test files were found: it will say so"
	}
	if cfg.Test.Coverage > 0 {
		test.Why += fmt.Sprintf("; coverage must reach %g %%", cfg.Test.Coverage)
	}
	steps := []Step{lint, test}
	if len(c.Mains) == 0 {
		return steps
	}
	b := Step{Stage: "build", Component: c.Name, Why: plural(len(c.Mains), "main package")}
	var dirs []string
	for _, m := range c.Mains {
		dirs = append(dirs, m.Dir)
	}
	for _, p := range cfg.Build.Platforms {
		b.Runs = append(b.Runs, fmt.Sprintf("go build -trimpath %s (%s, CGO_ENABLED=0)", strings.Join(dirs, " "), p))
	}
	return append(steps, b)
}

// lastElement is the name that the go command gives a binary: the import path's last element that is no major version.
func lastElement(importPath string) string {
	prefix, _, ok := module.SplitPathVersion(importPath)
	if !ok {
		prefix = importPath
	}
	return path.Base(prefix)
}

// relative is dir as seen from base, which contains it.
func relative(base, dir string) string {
	if base == "." || dir == base {
		if dir == base {
			return "."
		}
		return dir
	}
	return strings.TrimPrefix(dir, base+"/")
}

func within(dir, base string) bool {
	return base == "." || dir == base || strings.HasPrefix(dir, base+"/")
}

func readLimited(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return b, nil
}
