package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
)

// licenseFile matches the names under which licences are customarily kept.
var licenseFile = regexp.MustCompile(`(?i)^(un)?licen[cs]es?([.-].*)?$|^cop(ying|yright|yleft)([.-].*)?$|^(notice|patents|eula)([.-].*)?$|^[A-Za-z0-9.-]+-licen[cs]e([.-].*)?$`)

// docsLicense is that of a module's documentation (LICENSE.docs): a binary holds none of it.
var docsLicense = regexp.MustCompile(`(?i)[.-]docs(\.(txt|md))?$`)

// maxLicense bounds one licence file, in bytes; what is larger is no licence.
const maxLicense = 1 << 20

// copyLicenses makes a module cache that holds nothing but licence files: <escaped path>@<version>/LICENSE. It takes those between each
// linked package and its module's top, so that code copied into a dependency keeps its own licence.
func copyLicenses(dst string, packages []listed, version string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	done := map[string]bool{}
	for _, p := range packages {
		top, err := moduleTop(p)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
		for _, name := range cacheNames(p.Module, version) {
			for sub := rel; ; sub = path.Dir(sub) {
				if sub == "" {
					sub = "."
				}
				key := name + "\x00" + sub
				if !done[key] {
					done[key] = true
					if err := copyLicensesOf(filepath.Join(top, filepath.FromSlash(sub)), filepath.Join(dst, filepath.FromSlash(name), filepath.FromSlash(sub))); err != nil {
						return fmt.Errorf("licences of %s: %w", p.Module.Path, err)
					}
				}
				if sub == "." {
					break
				}
			}
		}
	}
	return nil
}

// moduleTop is the directory that stands for the module's: in the module cache, in a replacement, or under vendor.
func moduleTop(p listed) (string, error) {
	rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")
	top := p.Dir
	if rel != "" {
		suffix := filepath.FromSlash("/" + rel)
		if !strings.HasSuffix(top, suffix) {
			return "", fmt.Errorf("package %s does not lie in its module's directory", p.ImportPath)
		}
		top = strings.TrimSuffix(top, suffix)
	}
	return top, nil
}

// cacheNames are the directories under which a reader of the binary will look: the module, what replaces it, and for the main module the
// release's version beside the linker's (devel).
func cacheNames(m *listedModule, version string) []string {
	var list []string
	add := func(p, v string) {
		if escaped, err := module.EscapePath(p); err == nil && v != "" && filepath.IsLocal(v) && !strings.ContainsAny(v, `/\`) {
			list = append(list, escaped+"@"+v)
		}
	}
	switch {
	case m.Main:
		add(m.Path, version)
		add(m.Path, "(devel)")
	case m.Replace != nil:
		add(m.Path, m.Version)
		add(m.Replace.Path, m.Replace.Version)
	default:
		add(m.Path, m.Version)
	}
	return list
}

func copyLicensesOf(src, dst string) error {
	root, err := os.OpenRoot(src)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		// Links are not followed: a module has none, and a source tree's may lead anywhere.
		if !e.Type().IsRegular() || !licenseFile.MatchString(e.Name()) || docsLicense.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		if err := copyLicense(root, e.Name(), dst); err != nil {
			return err
		}
	}
	return nil
}

func copyLicense(root *os.Root, name, dst string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLicense+1))
	if err != nil {
		return err
	}
	if len(b) > maxLicense {
		return nil
	}
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dst, name), b, 0o644)
}
