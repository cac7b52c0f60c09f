package attest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// Names in the provenance that consumers compare.
const (
	BuildType = "https://slipway.dev/build/v1"
	BuilderID = "https://slipway.dev/builder/v1"
)

// descriptor is SLSA's ResourceDescriptor.
type descriptor struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// buildFacts is the part of the build stage's build.json that the provenance repeats.
type buildFacts struct {
	GoVersion string   `json:"goVersion"`
	Flags     []string `json:"flags"`
	Modules   []struct {
		Path    string `json:"path"`
		Version string `json:"version"`
		Sum     string `json:"sum"`
	} `json:"modules"`
}

// provenance says what was built from what, with which parameters and tools.
//
// Source: https://slsa.dev/spec/v1.0/provenance
func (w *writer) provenance() error {
	var facts buildFacts
	if dir, ok := w.in.Results["build"]; ok {
		data, err := os.ReadFile(filepath.Join(dir, "build.json"))
		if err != nil {
			return result.Inputf("build result: %w", err)
		}
		if err := json.Unmarshal(data, &facts); err != nil {
			return result.Inputf("build result: build.json: %w", err)
		}
	}
	src := w.source()
	dependencies := []descriptor{{Name: "source", URI: src.URI, Digest: src.Digest}}
	for _, base := range w.in.Bases {
		name, digest, ok := strings.Cut(base, "@")
		algorithm, hex, ok2 := strings.Cut(digest, ":")
		if !ok || !ok2 || hex == "" {
			return result.Inputf("flag -base %q: want NAME@sha256:HEX", base)
		}
		dependencies = append(dependencies, descriptor{Name: "base", URI: "docker://" + name, Digest: map[string]string{algorithm: hex}})
	}
	for _, m := range facts.Modules {
		d := descriptor{URI: "pkg:golang/" + m.Path + "@" + m.Version}
		if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
			d.Digest = map[string]string{"dirHash1": sum}
		}
		dependencies = append(dependencies, d)
	}
	mains := []string{}
	for _, c := range w.in.Plan.Components {
		for _, m := range c.Mains {
			mains = append(mains, m.Package)
		}
	}
	version := w.in.Version
	if version == "" {
		version = w.in.Plan.Version
	}
	now := w.in.Now.UTC().Format(time.RFC3339)
	return w.write("provenance", w.all(), statement.Provenance, map[string]any{
		"buildDefinition": map[string]any{
			"buildType": BuildType,
			"externalParameters": map[string]any{
				"source":    src.URI,
				"version":   version,
				"platforms": w.in.Plan.Config.Build.Platforms,
				"packages":  mains,
			},
			"internalParameters":   map[string]any{"goVersion": facts.GoVersion, "flags": facts.Flags, "dirty": w.in.Plan.Source.Dirty},
			"resolvedDependencies": dependencies,
		},
		"runDetails": map[string]any{
			"builder":  map[string]any{"id": BuilderID, "version": map[string]string{"slipway": self()}},
			"metadata": map[string]any{"startedOn": now, "finishedOn": now},
		},
	})
}

// self is the version of this program's module.
func self() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
