// Package attest writes down what was proved about an image, as in-toto statements about its digest. It signs nothing.
package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
	"github.com/slipwayhq/slipway/stages/plan"
)

// StatementsDir is where the statements lie, relative to the output directory.
const StatementsDir = "statements"

// maxPredicate bounds a file that becomes a predicate, in bytes.
const maxPredicate = 256 << 20

// Inputs are the stage's.
type Inputs struct {
	Layout  string
	Plan    *plan.Plan
	Version string
	// SBOM is the sbom stage's directory.
	SBOM string
	// Results are directories of other stages by their names: scan, lint, test and build are Slipway's own.
	Results map[string]string
	// Reports are directories with a result.json of other people's stages, by their names; they become test results.
	Reports map[string]string
	// Bases are the images that took part in the build, as NAME@sha256:HEX.
	Bases []string
	Now   time.Time
	Out   string
}

// Run writes the statements.
func Run(_ context.Context, in Inputs) (*result.Result, error) {
	idx, err := oci.Index(in.Layout)
	if err != nil {
		return nil, err
	}
	digest, err := idx.Digest()
	if err != nil {
		return nil, err
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	w := &writer{in: in, index: subject(in.Plan.Name, digest), platforms: map[string]result.Resource{}}
	for _, m := range manifest.Manifests {
		if m.Platform != nil {
			w.platforms[platformDir(*m.Platform)] = subject(in.Plan.Name+" "+m.Platform.String(), m.Digest)
		}
	}
	if err := os.MkdirAll(filepath.Join(in.Out, StatementsDir), 0o755); err != nil {
		return nil, err
	}
	if err := w.sboms(); err != nil {
		return nil, err
	}
	if err := w.provenance(); err != nil {
		return nil, err
	}
	for _, stage := range slices.Sorted(maps.Keys(in.Results)) {
		switch stage {
		case "build": // it is part of the provenance
		case "scan":
			err = w.scan(in.Results[stage])
		default:
			err = w.test(stage, in.Results[stage])
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Reports)) {
		if err := w.report(name, in.Reports[name]); err != nil {
			return nil, err
		}
	}
	r := &result.Result{
		Verdict: result.Pass,
		Summary: fmt.Sprintf("%d statements about %s", len(w.files), digest),
		Inputs:  []result.Resource{w.index},
		Outputs: map[string]string{"digest": digest.String()},
	}
	for _, f := range w.files {
		r.Files = append(r.Files, result.File{Path: f, MediaType: "application/vnd.in-toto+json"})
	}
	return r, nil
}

func subject(name string, d v1.Hash) result.Resource {
	return result.Resource{Name: name, Digest: map[string]string{d.Algorithm: d.Hex}}
}

func platformDir(p v1.Platform) string { return strings.ReplaceAll(p.String(), "/", "-") }

// writer collects statements about one image.
type writer struct {
	in        Inputs
	index     result.Resource
	platforms map[string]result.Resource // by os-arch
	files     []string
}

func (w *writer) all() []result.Resource {
	subjects := []result.Resource{w.index}
	for _, k := range slices.Sorted(maps.Keys(w.platforms)) {
		subjects = append(subjects, w.platforms[k])
	}
	return subjects
}

func (w *writer) write(name string, subjects []result.Resource, predicateType string, predicate any) error {
	s, err := statement.New(subjects, predicateType, predicate)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := StatementsDir + "/" + name + ".json"
	w.files = append(w.files, path)
	return os.WriteFile(filepath.Join(w.in.Out, filepath.FromSlash(path)), data, 0o644)
}

// sboms states each platform's bill of materials about the index and about that platform's manifest.
func (w *writer) sboms() error {
	for _, platform := range slices.Sorted(maps.Keys(w.platforms)) {
		subjects := []result.Resource{w.index, w.platforms[platform]}
		for _, f := range []struct{ kind, predicateType string }{{"spdx", statement.SPDX}, {"cdx", statement.CycloneDX}} {
			doc, err := readJSON(filepath.Join(w.in.SBOM, platform, "sbom."+f.kind+".json"))
			if err != nil {
				return result.Inputf("SBOM of %s: %w", platform, err)
			}
			if err := w.write("sbom-"+f.kind+"-"+platform, subjects, f.predicateType, doc); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan states the vulnerabilities that were found, and the verdict over them.
func (w *writer) scan(dir string) error {
	r, err := result.Read(dir)
	if err != nil {
		return result.Inputf("scan result: %w", err)
	}
	predicate := map[string]json.RawMessage{}
	data, err := readJSON(filepath.Join(dir, "vulns.json"))
	if err != nil {
		return result.Inputf("scan result: %w", err)
	}
	if err := json.Unmarshal(data, &predicate); err != nil {
		return result.Inputf("scan result: vulns.json: %w", err)
	}
	if predicate[statement.VerdictKey], err = json.Marshal(w.verdict(r)); err != nil {
		return err
	}
	return w.write("scan", w.all(), statement.Scan, predicate)
}

func (w *writer) verdict(r *result.Result) statement.Verdict {
	return statement.Verdict{Verdict: r.Verdict, Summary: r.Summary, Metrics: r.Metrics, Time: w.in.Now.UTC().Format(time.RFC3339)}
}

// test states how a check of the source ended.
//
// Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
func (w *writer) test(stage, dir string) error {
	r, err := result.Read(dir)
	if err != nil {
		return result.Inputf("%s result: %w", stage, err)
	}
	outcome := "FAILED"
	switch r.Verdict {
	case result.Pass:
		outcome = "PASSED"
	case result.Skipped, result.Inconclusive:
		outcome = "WARNED"
	case result.Fail:
	}
	failed := []string{}
	for _, f := range r.Findings {
		if f.Status == "" {
			failed = append(failed, f.ID)
		}
	}
	return w.write(stage, w.all(), statement.Test, map[string]any{
		"result":             outcome,
		"configuration":      []result.Resource{w.source()},
		"failedTests":        failed,
		"stage":              stage,
		"tools":              r.Tools,
		statement.VerdictKey: w.verdict(r),
	})
}

// report states how somebody else's check of the image ended.
func (w *writer) report(name, dir string) error {
	if err := statement.CheckReportName(name); err != nil {
		return err
	}
	r, err := result.Read(dir)
	if err != nil {
		return result.Inputf("report %s: %w", name, err)
	}
	if r.Stage != name {
		return result.Inputf("report %s: its %s is the one of the stage %q", name, result.FileName, r.Stage)
	}
	return w.test(name, dir)
}

// source names the tree that was built.
func (w *writer) source() result.Resource {
	src := w.in.Plan.Source
	r := result.Resource{Name: w.in.Plan.Name, Digest: map[string]string{}}
	if src.Commit != "" {
		r.Digest["gitCommit"] = src.Commit
	}
	if src.Remote != "" {
		r.URI = "git+" + src.Remote
		if src.Ref != "" {
			r.URI += "@" + src.Ref
		}
	}
	if algorithm, hex, ok := strings.Cut(src.Digest, ":"); ok {
		r.Digest[algorithm] = hex
	}
	return r
}

func readJSON(path string) (json.RawMessage, error) {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is missing", filepath.Base(path))
		}
		return nil, err
	}
	if info.Size() > maxPredicate {
		return nil, fmt.Errorf("%s has %d bytes, and %d are allowed", filepath.Base(path), info.Size(), maxPredicate)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%s is not JSON", filepath.Base(path))
	}
	return data, nil
}
