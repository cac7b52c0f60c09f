// Package result is the contract between a stage program and whatever runs it: one result.json in one directory, one exit code.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Schema names the version of the result.json format.
const Schema = "https://slipway.dev/schema/result/v1"

// FileName is where a stage writes its result, relative to its output directory.
const FileName = "result.json"

// Verdict says what a stage decided. The zero value is not a valid verdict, so a forgotten one is never a pass.
type Verdict string

// The verdicts. Only Pass and Skipped let a pipeline go on.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	Skipped      Verdict = "skipped"
)

// OK reports whether a gate may open on v.
func (v Verdict) OK() bool { return v == Pass || v == Skipped }

func (v Verdict) valid() bool {
	return slices.Contains([]Verdict{Pass, Fail, Inconclusive, Skipped}, v)
}

// Severity orders findings; it uses the words of the vulnerability databases.
type Severity string

// The severities, lowest first.
const (
	Unknown  Severity = "unknown"
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

var severities = []Severity{Unknown, Info, Low, Medium, High, Critical}

// ParseSeverity accepts the words above in any case.
func ParseSeverity(s string) (Severity, error) {
	v := Severity(strings.ToLower(s))
	if !slices.Contains(severities, v) {
		return "", fmt.Errorf("unknown severity %q: use one of unknown, info, low, medium, high, critical", s)
	}
	return v, nil
}

// Rank is the position of s in the order above; an unknown word ranks as Unknown.
func (s Severity) Rank() int { return max(0, slices.Index(severities, s)) }

// Result is what a stage reports. Equal inputs give equal bytes: it holds no wall-clock time.
type Result struct {
	Schema  string  `json:"schema"`
	Stage   string  `json:"stage"`
	Verdict Verdict `json:"verdict"`
	// Summary is one line for people, without the stage's name in front.
	Summary string `json:"summary"`
	// Reason says why a stage was skipped or is inconclusive.
	Reason   string    `json:"reason,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	// Metrics are figures worth a place on the report: "tests": 42, "coverage": 81.5 (percent).
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Inputs are what the verdict is about, by digest.
	Inputs []Resource `json:"inputs,omitempty"`
	// Tools are what decided it, by name and version.
	Tools []Tool `json:"tools,omitempty"`
	// Files lists what lies beside result.json, relative to it.
	Files []File `json:"files,omitempty"`
	// Outputs are named values for the next stages, such as "digest" or "reference".
	Outputs map[string]string `json:"outputs,omitempty"`
	// Error is set when the stage could not run: exit 2 or 3.
	Error string `json:"error,omitempty"`
}

// Finding is one thing that a person may want to mend.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	// Location is "path", "path:line" or "path:line:column" in the source, or a package URL.
	Location string `json:"location,omitempty"`
	// Fix is what to do about it.
	Fix string `json:"fix,omitempty"`
	URL string `json:"url,omitempty"`
	// Status is "" when the finding counts towards the verdict, otherwise why it does not: "excepted", "below-threshold", "unfixed".
	Status string `json:"status,omitempty"`
	// Note carries an exception's reason and expiry, or other context.
	Note string `json:"note,omitempty"`
}

// Resource is an input named by its digest, as in an in-toto resource descriptor.
type Resource struct {
	Name   string            `json:"name"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// Tool is a program or library that took part, with the version that ran.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// File is an output beside result.json.
type File struct {
	Path string `json:"path"`
	// MediaType is the format's registered or customary type, for example application/sarif+json.
	MediaType string `json:"mediaType"`
}

// Validate reports what makes r unfit to be written or trusted.
func (r *Result) Validate() error {
	switch {
	case r.Schema != Schema:
		return fmt.Errorf("schema %q is not %q", r.Schema, Schema)
	case r.Stage == "":
		return errors.New("stage is empty")
	case !r.Verdict.valid():
		return fmt.Errorf("verdict %q is none of pass, fail, inconclusive, skipped", r.Verdict)
	case r.Verdict == Skipped && r.Reason == "":
		return errors.New("verdict is skipped without a reason")
	}
	for i, f := range r.Findings {
		if f.ID == "" || !slices.Contains(severities, f.Severity) {
			return fmt.Errorf("finding %d: id %q, severity %q", i, f.ID, f.Severity)
		}
	}
	for _, f := range r.Files {
		if !filepath.IsLocal(f.Path) {
			return fmt.Errorf("file %q lies outside the result directory", f.Path)
		}
	}
	return nil
}

// Write puts r into dir as result.json, whole or not at all.
func (r *Result) Write(dir string) error {
	r.Schema = Schema
	if err := r.Validate(); err != nil {
		return fmt.Errorf("invalid result: %w", err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".result-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, werr := tmp.Write(append(b, '\n'))
	if err := errors.Join(werr, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, FileName))
}

// Read loads and validates the result.json in dir.
func Read(dir string) (*Result, error) {
	p := filepath.Join(dir, FileName)
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	r, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return r, nil
}

// Parse decodes and validates the bytes of a result.json.
func Parse(b []byte) (*Result, error) {
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return &r, nil
}
