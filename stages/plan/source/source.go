// Package source says where a tree came from: its digest, and what git knows about it.
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// Describe reads the tree in dir once: for its digest and to compare it with the commit. What git ignores is no part of it. What git cannot tell is a warning, not an
// error: the plan works without.
func Describe(ctx context.Context, dir string) (plan.Source, []string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return plan.Source{}, nil, result.Inputf("opening the source: %w", err)
	}
	defer root.Close()
	var warnings []string
	g, err := openGit(root, dir)
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	c := &comparison{head: map[string]gitEntry{}}
	var s plan.Source
	if g != nil {
		s = g.source
		if c, err = g.compare(); err != nil {
			warnings = append(warnings, fmt.Sprintf("comparing the source with the commit: %v: it counts as changed", err))
			s.Dirty = true
		}
	}
	digest := &treeDigest{h: sha256.New()}
	err = plan.NewTree(root).Walk(ctx, func(name string, d fs.DirEntry) error {
		if g != nil && c != nil && name != "." && c.leavesOut(root, name, d.IsDir()) {
			s.Ignored = append(s.Ignored, name)
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 && !strings.Contains(name, "/") {
			s.Links = append(s.Links, name)
		}
		e, ok, err := hashEntry(root, name, d)
		if err != nil {
			return err
		}
		if !ok {
			warnings = append(warnings, fmt.Sprintf("%s is neither a file nor a link and is left out", name))
			return nil
		}
		digest.add(e)
		if g != nil && c != nil {
			c.see(e)
		}
		return nil
	})
	if err != nil {
		return plan.Source{}, nil, err
	}
	s.Digest, s.License = digest.String(), license(root)
	if g != nil && c != nil {
		if changes := c.changes(); len(changes) > 0 {
			s.Dirty = true
			warnings = append(warnings, describeChanges(s.Commit, changes))
		}
	}
	return s, warnings, nil
}

func describeChanges(commit string, changes []string) string {
	const shown = 5
	more := ""
	if len(changes) > shown {
		more = fmt.Sprintf(" and %d more", len(changes)-shown)
		changes = changes[:shown]
	}
	return fmt.Sprintf("the source is not exactly commit %s: %s%s: commit or ignore them", commit[:12], strings.Join(changes, ", "), more)
}

// maxChanges bounds the list of what differs; the rest is only counted as one more.
const maxChanges = 1000

// comparison holds the commit's files while the tree passes by.
type comparison struct {
	head map[string]gitEntry
	// dirs are those that hold one of head's files.
	dirs map[string]bool
	// fileMode says whether the executable bit counts (core.fileMode).
	fileMode bool
	exclude  []gitignore.Pattern
	ignored  map[string]bool
	matchers map[string][]gitignore.Pattern
	changed  []string
	blob     func(name string) ([]byte, error)
}

type gitEntry struct {
	mode, blob string
	seen       bool
}

func (c *comparison) note(s string) {
	if len(c.changed) < maxChanges {
		c.changed = append(c.changed, s)
	}
}

// leavesOut reports whether git ignores name and the commit holds nothing of it: a fresh clone would not have it.
func (c *comparison) leavesOut(root *os.Root, name string, isDir bool) bool {
	if isDir {
		return !c.dirs[name] && c.isIgnored(root, name, true)
	}
	_, committed := c.head[name]
	return !committed && c.isIgnored(root, name, false)
}

func (c *comparison) see(e entry) {
	h, ok := c.head[e.path]
	if !ok {
		c.note(e.path + " (new)")
		return
	}
	h.seen = true
	c.head[e.path] = h
	if h.blob != e.blob && !c.isLFS(h, e) || c.fileMode && h.mode != e.mode || (h.mode == modeLink) != (e.mode == modeLink) {
		c.note(e.path + " (changed)")
	}
}

// changes lists what differs, with what the tree lacks last.
func (c *comparison) changes() []string {
	for name, h := range c.head {
		if !h.seen {
			c.note(name + " (missing)")
		}
	}
	return c.changed
}

// isLFS reports whether the commit holds a Git LFS pointer to what lies in the tree.
func (c *comparison) isLFS(h gitEntry, e entry) bool {
	b, err := c.blob(h.blob)
	return err == nil && strings.HasPrefix(string(b), "version https://git-lfs.github.com/spec/v1\n") &&
		strings.Contains(string(b), "\noid sha256:"+e.sha256+"\n")
}

// isIgnored applies the .gitignore files between the top and name, and .git/info/exclude.
func (c *comparison) isIgnored(root *os.Root, name string, directory bool) bool {
	parts := strings.Split(name, "/")
	patterns := append([]gitignore.Pattern(nil), c.exclude...)
	for i := range parts {
		patterns = append(patterns, c.patterns(root, parts[:i])...)
		p := strings.Join(parts[:i+1], "/")
		isDir := directory || i < len(parts)-1
		ignored, known := false, false
		if isDir {
			ignored, known = c.ignored[p], hasKey(c.ignored, p)
		}
		if !known {
			ignored = gitignore.NewMatcher(patterns).Match(parts[:i+1], isDir)
			if isDir {
				c.ignored[p] = ignored
			}
		}
		if ignored {
			return true
		}
	}
	return false
}

func hasKey(m map[string]bool, k string) bool { _, ok := m[k]; return ok }

// patterns are those of the .gitignore in one directory.
func (c *comparison) patterns(root *os.Root, domain []string) []gitignore.Pattern {
	dir := strings.Join(domain, "/")
	if p, ok := c.matchers[dir]; ok {
		return p
	}
	name := ".gitignore"
	if dir != "" {
		name = dir + "/" + name
	}
	var list []gitignore.Pattern
	b, err := plan.NewTree(root).ReadFile(name)
	if err == nil {
		list = parsePatterns(string(b), domain)
	} else if !errors.Is(err, fs.ErrNotExist) {
		list = nil
	}
	c.matchers[dir] = list
	return list
}

func parsePatterns(text string, domain []string) []gitignore.Pattern {
	var list []gitignore.Pattern
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, gitignore.ParsePattern(line, append([]string(nil), domain...)))
		}
	}
	return list
}
