package plan

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// validate refuses names and paths that would leave the place where later stages put them.
func (c *Component) validate() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name %q: use letters, digits, '.', '_' and '-'", c.Name)
	}
	if !local(c.Path) {
		return fmt.Errorf("path %q lies outside the source", c.Path)
	}
	entrypoint := c.Entrypoint == ""
	for _, m := range c.Mains {
		if !nameForm.MatchString(m.Binary) {
			return fmt.Errorf("binary name %q: use letters, digits, '.', '_' and '-'", m.Binary)
		}
		if m.Dir != "." && !strings.HasPrefix(m.Dir, "./") || !local(m.Dir) {
			return fmt.Errorf("main directory %q must start with ./ and stay inside the component", m.Dir)
		}
		entrypoint = entrypoint || m.Binary == c.Entrypoint
	}
	if !entrypoint {
		return fmt.Errorf("entrypoint %q is none of the binaries", c.Entrypoint)
	}
	return nil
}

func local(p string) bool {
	return filepath.IsLocal(filepath.FromSlash(p)) && !strings.ContainsAny(p, "\\\x00")
}
