package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// aside names directories whose programs serve the project itself. They are built only when build.main names them, or when there is
// nothing else.
var aside = []string{"internal", "tool", "tools"}

// shown names directories whose programs show or check the project. They are built only when build.main names them: a library with
// examples is a library.
var shown = []string{"benchmark", "benchmarks", "demo", "demos", "doc", "docs", "e2e", "example", "examples", "hack", "sample", "samples",
	"script", "scripts", "test", "tests"}

// chooseMains narrows each component's programs to those that go into its image and picks the entrypoint.
func chooseMains(list []Component, cfg *config.Config) error {
	if len(cfg.Build.Main) > 0 {
		if err := keepNamed(list, cfg.Build.Main); err != nil {
			return err
		}
	} else {
		for i := range list {
			setAside(&list[i])
		}
	}
	wanted := cfg.Build.Entrypoint
	found := wanted == ""
	for i := range list {
		c := &list[i]
		if len(cfg.Build.Main) == 0 && wanted == "" {
			decide(c)
			continue
		}
		if err := sameBinary(c); err != nil {
			return err
		}
		if slices.ContainsFunc(c.Mains, func(m Main) bool { return m.Binary == wanted }) {
			c.Entrypoint, found = wanted, true
			continue
		}
		if err := entrypoint(c); err != nil && (wanted == "" || len(list) > 1) {
			return err
		}
	}
	if !found {
		return result.Inputf("build.entrypoint %q is none of the programs: there are\n%s", wanted, listMains(list))
	}
	return nil
}

// decide chooses without a word from the configuration. Where the choice is not clear, nothing is built and the component says why: its
// linters and tests have no part in it.
func decide(c *Component) {
	err := sameBinary(c)
	if err == nil {
		err = entrypoint(c)
	}
	if err != nil {
		c.Mains, c.Undecided = nil, err.Error()
	}
}

func keepNamed(list []Component, named []string) error {
	all := listMains(list)
	used := map[string]bool{}
	for i := range list {
		c := &list[i]
		var keep []Main
		for _, m := range c.Mains {
			kept := false
			for _, n := range named {
				// The same directory may be named twice, with and without ./
				if path.Clean(n) == path.Clean(m.Dir) {
					used[n], kept = true, true
				}
			}
			if kept {
				keep = append(keep, m)
				c.Why = append(c.Why, fmt.Sprintf("%s is built because build.main names it", m.Dir))
			}
		}
		c.Mains = keep
	}
	for _, n := range named {
		if !used[n] {
			if all == "" {
				return result.Inputf("build.main %q is no main package: there is none", n)
			}
			return result.Inputf("build.main %q is no main package: there are\n%s", n, all)
		}
	}
	return nil
}

func setAside(c *Component) {
	without := func(list []Main, dirs []string) (keep []Main) {
		for _, m := range list {
			// What lies below cmd is a program, whatever its name.
			above, _, _ := strings.Cut(m.Dir+"/", "/cmd/")
			named := m.Binary == c.Name || m.Binary == lastElement(c.Module)
			if named || !slices.ContainsFunc(strings.Split(above, "/"), func(e string) bool { return slices.Contains(dirs, e) }) {
				keep = append(keep, m)
			}
		}
		return keep
	}
	keep := without(c.Mains, shown)
	if others := without(keep, aside); len(others) > 0 {
		keep = others
	}
	for _, m := range c.Mains {
		if !slices.Contains(keep, m) {
			c.Why = append(c.Why, fmt.Sprintf("%s is left out of the image: it serves the project itself; name it in build.main to build it", m.Dir))
		}
	}
	c.Mains = keep
}

func sameBinary(c *Component) error {
	seen := map[string]string{}
	for _, m := range c.Mains {
		if other, ok := seen[m.Binary]; ok {
			return result.Inputf("component %s: %s and %s both build a binary %q: choose one with build.main in %s",
				c.Name, other, m.Dir, m.Binary, config.FileName)
		}
		seen[m.Binary] = m.Dir
	}
	return nil
}

// entrypoint picks the only program, or the one that has the component's or the module's name.
func entrypoint(c *Component) error {
	if len(c.Mains) == 0 {
		return nil
	}
	if len(c.Mains) == 1 {
		c.Entrypoint = c.Mains[0].Binary
		return nil
	}
	for _, name := range []string{c.Name, lastElement(c.Module)} {
		if slices.ContainsFunc(c.Mains, func(m Main) bool { return m.Binary == name }) {
			c.Entrypoint = name
			c.Why = append(c.Why, fmt.Sprintf("the entrypoint is %s because it has the component's name", name))
			return nil
		}
	}
	return result.Inputf("component %s has %d programs and none is called %q: set build.main to those that go into the image, "+
		"or build.entrypoint to the one that it starts, in %s:\n%s", c.Name, len(c.Mains), cmp.Or(lastElement(c.Module), c.Name), config.FileName,
		listMains([]Component{*c}))
}

func listMains(list []Component) string {
	var lines []string
	for _, c := range list {
		for _, m := range c.Mains {
			lines = append(lines, fmt.Sprintf("  %s (%s)", m.Dir, m.Binary))
		}
	}
	return strings.Join(lines, "\n")
}
