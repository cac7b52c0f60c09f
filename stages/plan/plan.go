// Package plan looks at a source tree and says what to run: what was found, why, and which steps follow from it.
//
// Every later stage takes its policy from the plan, never from slipway.yaml itself, so that a run has one set of decisions.
package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Schema names the version of the plan.json format.
const Schema = "https://slipway.dev/schema/plan/v1"

// The files that the plan stage writes.
const (
	FileName     = "plan.json"
	TextFileName = "plan.txt"
)

// maxSize bounds what Read takes into memory, in bytes.
const maxSize = 16 << 20

// Plan is what one run does. Equal sources give equal plans.
type Plan struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// Version is the exact semantic version tag on the commit, else 0.0.0-<12 digits of the commit>, else dev.
	Version    string      `json:"version"`
	Source     Source      `json:"source"`
	Components []Component `json:"components"`
	Steps      []Step      `json:"steps"`
	// Config is the effective configuration: slipway.yaml over the defaults, then the flags.
	Config config.Config `json:"config"`
	// Images are the digests that slipway.lock pins base images to, by reference with tag.
	Images   map[string]string `json:"images,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
}

// Source is what is known about where the tree came from. Everything but Digest is empty without git.
type Source struct {
	// Commit is the hexadecimal name of HEAD.
	Commit string `json:"commit,omitempty"`
	// Ref is the branch or tag that HEAD stands on, in full: refs/heads/main.
	Ref string `json:"ref,omitempty"`
	// Tags on the commit, sorted.
	Tags []string `json:"tags,omitempty"`
	// Time is the committer's, in UTC; Epoch is the same in Unix seconds and is what SOURCE_DATE_EPOCH means.
	Time  time.Time `json:"time"`
	Epoch int64     `json:"epoch"`
	// Dirty says that the tree is not exactly the commit's.
	Dirty bool `json:"dirty"`
	// Ignored is what lies in the tree and is no part of it, because git ignores it: files, and directories with everything below.
	Ignored []string `json:"ignored,omitempty"`
	// Links are the symbolic links at the top of the tree.
	Links []string `json:"links,omitempty"`
	// Remote is origin's URL without credentials.
	Remote string `json:"remote,omitempty"`
	// License is the SPDX ID of the licence file at the top; empty when it is missing, unknown, or holds several.
	License string `json:"license,omitempty"`
	// Digest is sha256:<hex> over the tree's paths, modes and contents without .git and what is ignored.
	Digest string `json:"digest"`
}

// Component is a part of the tree that is linted, tested and built on its own.
type Component struct {
	Name string `json:"name"`
	// Path is the component's directory, with slashes, relative to the source; "." is the source itself.
	Path     string `json:"path"`
	Language string `json:"language"`
	// LanguageVersion is what the component asks for at least, and Toolchain the exact one that it prefers; both may be empty.
	LanguageVersion string `json:"languageVersion,omitempty"`
	Toolchain       string `json:"toolchain,omitempty"`
	// Module is the ecosystem's name for the component: for Go the module path.
	Module       string `json:"module,omitempty"`
	Packages     int    `json:"packages"`
	TestPackages int    `json:"testPackages"`
	// TestFramework is what runs the tests; empty without tests.
	TestFramework string `json:"testFramework,omitempty"`
	// Cgo says that some package needs a C compiler.
	Cgo bool `json:"cgo"`
	// Mains are the programs that will be built; none for a library.
	Mains []Main `json:"mains,omitempty"`
	// Entrypoint is the binary that the image runs; empty when nothing is built.
	Entrypoint string `json:"entrypoint,omitempty"`
	// Undecided says why nothing is built although there are programs, and what decides it.
	Undecided string `json:"undecided,omitempty"`
	// Why lists the evidence in the tree for what is said above.
	Why []string `json:"why"`
}

// Main is a program.
type Main struct {
	Package string `json:"package"`
	// Dir is relative to the component and starts with ./
	Dir string `json:"dir"`
	// Binary is the name of the executable.
	Binary string `json:"binary"`
}

// Step is one stage that will run for one component, or for the whole run when Component is empty.
type Step struct {
	Stage     string   `json:"stage"`
	Component string   `json:"component,omitempty"`
	Runs      []string `json:"runs"`
	Why       string   `json:"why"`
}

// Read loads the plan.json at path. Its errors are marked as input.
func Read(path string) (*Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, result.Inputf("reading the plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, result.Inputf("reading the plan: %w", err)
	}
	p, err := Parse(b)
	if err != nil {
		return nil, result.Inputf("plan %s: %w", path, err)
	}
	return p, nil
}

// Parse decodes and checks the bytes of a plan.json.
func Parse(b []byte) (*Plan, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("larger than %d bytes", maxSize)
	}
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	if p.Schema != Schema {
		return nil, fmt.Errorf("schema %q is not %q: make the plan with the same Slipway", p.Schema, Schema)
	}
	if len(p.Components) == 0 {
		return nil, fmt.Errorf("no components")
	}
	for i := range p.Components {
		if err := p.Components[i].validate(); err != nil {
			return nil, fmt.Errorf("component %q: %w", p.Components[i].Name, err)
		}
	}
	return &p, nil
}

// Component returns the component called name. An empty name means the only component, or among several the only one that builds a
// program.
func (p *Plan) Component(name string) (*Component, error) {
	var candidates []*Component
	for i := range p.Components {
		c := &p.Components[i]
		if c.Name == name || name == "" {
			candidates = append(candidates, c)
		}
	}
	if name == "" && len(candidates) > 1 {
		building := slices.DeleteFunc(slices.Clone(candidates), func(c *Component) bool { return len(c.Mains) == 0 })
		if len(building) == 1 {
			candidates = building
		}
	}
	switch {
	case len(candidates) == 1:
		return candidates[0], nil
	case len(candidates) == 0:
		return nil, result.Inputf("the plan has no component %q: it has %s", name, strings.Join(p.names(), ", "))
	}
	return nil, result.Inputf("the plan has several components: choose one with -component: %s", strings.Join(p.names(), ", "))
}

func (p *Plan) names() []string {
	var s []string
	for i := range p.Components {
		s = append(s, p.Components[i].Name)
	}
	return s
}

// JSON is the content of plan.json.
func (p *Plan) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
