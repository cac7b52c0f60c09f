package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Ecosystem knows one language's projects. Another language is another implementation in a file of its own, and a line in Ecosystems.
type Ecosystem interface {
	// Language is the word for it in plan.json and slipway.yaml.
	Language() string
	// LooksFor says which files reveal a project, for the message when there is none.
	LooksFor() string
	// Detect returns the components in the tree, in the order of their paths; none is no error. It reads only through the tree.
	Detect(ctx context.Context, tree *Tree, cfg *config.Config) (Detection, error)
	// Steps are what lint, test and build run for a component.
	Steps(c *Component, cfg *config.Config) []Step
}

// Detection is what an ecosystem found.
type Detection struct {
	Components []Component
	Warnings   []string
}

// Ecosystems lists the languages that Make knows.
func Ecosystems() []Ecosystem { return []Ecosystem{Go{}} }

// Options are Make's inputs beside the tree.
type Options struct {
	Config config.Config
	// Main overrides Config.Build.Main.
	Main []string
	// Source holds what is known from version control; see package source.
	Source   Source
	Warnings []string
	// Images are slipway.lock's.
	Images map[string]string
	// Ecosystems default to Ecosystems().
	Ecosystems []Ecosystem
}

// Make plans the run for the tree in dir. What is wrong with the tree or the configuration is marked as input.
func Make(ctx context.Context, dir string, o Options) (*Plan, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, result.Inputf("opening the source: %w", err)
	}
	defer root.Close()
	if len(o.Main) > 0 {
		o.Config.Build.Main = o.Main
	}
	if o.Ecosystems == nil {
		o.Ecosystems = Ecosystems()
	}
	p := &Plan{Schema: Schema, Version: Version(o.Source), Source: o.Source, Config: o.Config, Images: o.Images, Warnings: slices.Clone(o.Warnings)}
	tree := &Tree{root: root, hidden: o.Source.Ignored}
	var looked, languages []string
	for _, e := range o.Ecosystems {
		looked, languages = append(looked, e.LooksFor()), append(languages, e.Language())
		d, err := e.Detect(ctx, tree, &o.Config)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Language(), err)
		}
		p.Components, p.Warnings = append(p.Components, d.Components...), append(p.Warnings, d.Warnings...)
	}
	for _, c := range o.Config.Components {
		if c.Language != "" && !slices.Contains(languages, c.Language) {
			return nil, result.Inputf("component %s: language %q is not supported: use %s", c.Path, c.Language, strings.Join(languages, ", "))
		}
		if !slices.ContainsFunc(p.Components, func(f Component) bool { return f.Path == path.Clean(c.Path) }) {
			return nil, result.Inputf("component %s: no project there: looked for %s", c.Path, strings.Join(looked, "; "))
		}
	}
	if len(p.Components) == 0 {
		return nil, result.Inputf("no project found: looked for %s: give the directory that holds one, or list it under components in %s",
			strings.Join(looked, "; "), config.FileName)
	}
	if err := nameComponents(p.Components); err != nil {
		return nil, err
	}
	if err := chooseMains(p.Components, &o.Config); err != nil {
		return nil, err
	}
	p.Name = projectName(p, &o.Config)
	for i := range p.Components {
		c := &p.Components[i]
		if err := c.validate(); err != nil {
			return nil, result.Inputf("component %s: %w", c.Path, err)
		}
		for _, e := range o.Ecosystems {
			if e.Language() == c.Language {
				p.Steps = append(p.Steps, e.Steps(c, &o.Config)...)
			}
		}
		p.Steps = append(p.Steps, imageSteps(c, &o.Config)...)
	}
	return p, nil
}

// nameComponents makes the names unique: where two have the same, both take their path.
func nameComponents(list []Component) error {
	count := map[string]int{}
	for _, c := range list {
		count[c.Name]++
	}
	seen := map[string]string{}
	for i := range list {
		c := &list[i]
		if count[c.Name] > 1 && c.Path != "." {
			c.Name = strings.ReplaceAll(c.Path, "/", "-")
		}
		if other, ok := seen[c.Name]; ok {
			return result.Inputf("the components in %s and %s are both called %q: name them under components in %s", other, c.Path, c.Name, config.FileName)
		}
		seen[c.Name] = c.Path
	}
	return nil
}

func projectName(p *Plan, cfg *config.Config) string {
	if cfg.Name != "" {
		return cfg.Name
	}
	if len(p.Components) > 1 {
		for _, c := range p.Components {
			if c.Path == "." {
				return c.Name
			}
		}
		// The remote names the repository; the first component is only one of them.
		if name := path.Base(p.Source.Remote); p.Source.Remote != "" && nameForm.MatchString(name) {
			return name
		}
	}
	return p.Components[0].Name
}

// imageSteps follow the build in every language.
func imageSteps(c *Component, cfg *config.Config) []Step {
	if len(c.Mains) == 0 {
		return nil
	}
	platforms := strings.Join(cfg.Build.Platforms, ", ")
	scan := fmt.Sprintf("fails from severity %s", cfg.Scan.Severity)
	if n := len(cfg.Scan.Exceptions); n > 0 {
		scan += fmt.Sprintf(", %s", plural(n, "exception"))
	}
	return []Step{
		{Stage: "image", Component: c.Name, Runs: []string{fmt.Sprintf("OCI index for %s, entrypoint %s, user %s", platforms, c.Entrypoint, cfg.Build.User)},
			Why: "the build leaves static binaries"},
		{Stage: "sbom", Component: c.Name, Runs: []string{"SPDX and CycloneDX for each platform"}, Why: "an image is built"},
		{Stage: "scan", Component: c.Name, Runs: []string{"vulnerabilities and licences of the image", "secrets and misconfiguration of the source"}, Why: scan},
	}
}

// Tree reads a source tree and nothing outside it: symbolic links that leave it are errors, those to directories are not walked.
type Tree struct {
	root *os.Root
	// hidden are files and directories that count as absent.
	hidden []string
	// entries is how many entries one walk may see; 0 means maxEntries.
	entries int
}

// maxEntries bounds a walk on a hostile tree.
const maxEntries = 2_000_000

// maxFile bounds a file that is read whole, in bytes.
const maxFile = 16 << 20

// NewTree is the tree in root.
func NewTree(root *os.Root) *Tree { return &Tree{root: root} }

// Walk visits the tree in lexical order. It leaves out what f answers with fs.SkipDir, and .git always.
func (t *Tree) Walk(ctx context.Context, f func(name string, d fs.DirEntry) error) error {
	limit, seen := t.entries, 0
	if limit == 0 {
		limit = maxEntries
	}
	err := fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if seen++; seen > limit {
			return fmt.Errorf("more than %d files and directories: leave out what is not source", limit)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.Name() == ".git" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if slices.Contains(t.hidden, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return f(name, d)
	})
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return result.Inputf("reading the source: %w", err)
	}
	return err
}

// ReadFile returns the content of a regular file, at most 16 MiB.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name)
}

// Open opens a regular file.
func (t *Tree) Open(name string) (*os.File, error) {
	for _, h := range t.hidden {
		if name == h || strings.HasPrefix(name, h+"/") {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	// A named pipe would block for ever, so the kind is checked before opening.
	fi, err := t.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return t.root.Open(name)
}
