package build

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Module is a Go module that is linked into a binary.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	// Sum is go.sum's h1: hash; the main module has none.
	Sum     string  `json:"sum,omitempty"`
	Main    bool    `json:"main,omitempty"`
	Replace *Module `json:"replace,omitempty"`
}

// linkedModules reads what the linker recorded in the binaries: that, not go.mod, is what runs.
func linkedModules(out string, binaries []Binary) ([]Module, error) {
	found := map[string]Module{}
	for _, b := range binaries {
		info, err := buildinfo.ReadFile(filepath.Join(out, filepath.FromSlash(b.Path)))
		if err != nil {
			return nil, fmt.Errorf("reading the build information of %s: %w", b.Path, err)
		}
		if info.Main.Path != "" {
			m := fromDebug(&info.Main)
			m.Main = true
			found[m.Path] = m
		}
		for _, d := range info.Deps {
			found[d.Path] = fromDebug(d)
		}
	}
	var list []Module
	for _, m := range found {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

func fromDebug(d *debug.Module) Module {
	m := Module{Path: d.Path, Version: d.Version, Sum: d.Sum}
	if d.Replace != nil {
		r := fromDebug(d.Replace)
		m.Replace = &r
	}
	return m
}

// listed is what go list -json prints of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *listedModule
}

type listedModule struct {
	Path, Version, Dir string
	Main               bool
	Replace            *listedModule
}

// dependencies lists the packages behind the programs, on all platforms. It is also the first command that needs the network: what fails
// here has not been compiled yet.
func (b *builder) dependencies(ctx context.Context) ([]listed, *result.Result, error) {
	var all []listed
	seen := map[string]bool{}
	for _, p := range b.platforms {
		args := []string{"list", "-deps", "-json=ImportPath,Dir,Standard,Module"}
		args = append(args, b.flags()...)
		for _, m := range b.component.Mains {
			args = append(args, m.Dir)
		}
		out, err := b.goCommand(ctx, p, args...)
		if ce, ok := asCommandError(err); ok {
			r, err := b.judge([]*commandError{ce})
			return nil, r, err
		}
		if err != nil {
			return nil, nil, fmt.Errorf("listing dependencies: %w", err)
		}
		dec := json.NewDecoder(bytes.NewReader(out))
		for {
			var l listed
			if err := dec.Decode(&l); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, nil, fmt.Errorf("reading go list: %w", err)
			}
			if !l.Standard && l.Module != nil && !seen[l.ImportPath] {
				seen[l.ImportPath] = true
				all = append(all, l)
			}
		}
	}
	return all, nil, nil
}
