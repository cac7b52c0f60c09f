// Package report turns what the stages of a run left behind into something to read: a text for the terminal, JSON for programs, and one
// self-contained HTML page for people.
package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The schemas of what is read and written.
const (
	InputSchema = "https://slipway.dev/schema/run-input/v1"
	Schema      = "https://slipway.dev/schema/run/v1"
)

// maxInput bounds a file that is read, in bytes.
const maxInput = 64 << 20

// Input is run.json: what ran, when, and where its results are.
type Input struct {
	Schema     string      `json:"schema"`
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	Commit     string      `json:"commit"`
	Started    string      `json:"started"`
	Stages     []StageRun  `json:"stages"`
	Digest     string      `json:"digest"`
	References []Reference `json:"references"`
}

// StageRun is one stage on the time line.
type StageRun struct {
	Stage string `json:"stage"`
	Title string `json:"title"`
	// Dir is relative to the results; empty when the stage did not run.
	Dir     string  `json:"dir,omitempty"`
	Start   float64 `json:"startSeconds"`
	Seconds float64 `json:"seconds"`
	NotRun  string  `json:"notRun,omitempty"`
	// ExitCode is the stage program's.
	ExitCode int `json:"exitCode"`
}

// Reference is where the release went.
type Reference struct {
	// Kind is published or promoted.
	Kind      string `json:"kind"`
	Reference string `json:"reference"`
}

// Run is summary.json.
type Run struct {
	Schema  string         `json:"schema"`
	Name    string         `json:"name"`
	Version string         `json:"version"`
	Commit  string         `json:"commit"`
	Started string         `json:"started"`
	Verdict result.Verdict `json:"verdict"`
	// ExitCode is what a program that stands for the whole run ends with: 0 when every gate opened, else that of the stage that decided.
	ExitCode   int         `json:"exitCode"`
	Summary    string      `json:"summary"`
	Digest     string      `json:"digest"`
	References []Reference `json:"references"`
	Stages     []Stage     `json:"stages"`
}

// Stage is a stage of the run with its result.
type Stage struct {
	StageRun
	// Verdict is empty when the stage did not run.
	Verdict  result.Verdict     `json:"verdict,omitempty"`
	Summary  string             `json:"summary"`
	Findings []result.Finding   `json:"findings,omitempty"`
	Metrics  map[string]float64 `json:"metrics,omitempty"`
	Tools    []result.Tool      `json:"tools,omitempty"`
	Inputs   []result.Resource  `json:"inputs,omitempty"`
}

// Inputs are the stage's.
type Inputs struct {
	// Run is the run.json file, Results the directory that its dirs are relative to.
	Run, Results string
	Out          string
}

// Make reads a run and writes its reports. The verdict is the run's.
func Make(_ context.Context, in Inputs) (*result.Result, error) {
	data, err := os.ReadFile(in.Run)
	if err != nil {
		return nil, result.Input(err)
	}
	input, err := ParseInput(data)
	if err != nil {
		return nil, result.Inputf("%s: %w", in.Run, err)
	}
	root, err := os.OpenRoot(in.Results)
	if err != nil {
		return nil, result.Input(err)
	}
	defer root.Close()
	run := collect(input, root)
	details := readDetails(root, input)
	if err := os.MkdirAll(in.Out, 0o755); err != nil {
		return nil, err
	}
	files, err := render(run, details, root)
	if err != nil {
		return nil, err
	}
	r := &result.Result{Verdict: run.Verdict, Summary: run.Summary}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(in.Out, f.Path), f.content, 0o644); err != nil {
			return nil, err
		}
		r.Files = append(r.Files, f.File)
	}
	if run.Verdict != result.Pass {
		r.Reason = run.Summary
	}
	return r, nil
}

// file is one that the stage writes.
type file struct {
	result.File
	content []byte
}

// render is the run in every form: for people, for programs, and for the CI services that show such files on their pages.
func render(run *Run, d details, root *os.Root) ([]file, error) {
	forms := []struct {
		path, mediaType string
		content         func() ([]byte, error)
	}{
		{"report.html", "text/html", func() ([]byte, error) {
			var page bytes.Buffer
			err := HTML(&page, run, d)
			return page.Bytes(), err
		}},
		{"summary.txt", "text/plain", func() ([]byte, error) { return []byte(Text(run)), nil }},
		{"summary.md", "text/markdown", func() ([]byte, error) { return []byte(Markdown(run)), nil }},
		{"summary.json", "application/json", func() ([]byte, error) { return indented(run) }},
		{"gates.xml", "application/xml", func() ([]byte, error) { return Gates(run) }},
		{"findings.sarif", sarifType, func() ([]byte, error) { return CodeScanning(run, root) }},
		{"gl-code-quality-report.json", "application/json", func() ([]byte, error) { return CodeQuality(run) }},
		{"gl-container-scanning-report.json", "application/json", func() ([]byte, error) { return ContainerScanning(run) }},
	}
	var files []file
	for _, f := range forms {
		content, err := f.content()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		if content != nil {
			files = append(files, file{result.File{Path: f.path, MediaType: f.mediaType}, content})
		}
	}
	return files, nil
}

// ParseInput decodes a run.json.
func ParseInput(data []byte) (*Input, error) {
	var in Input
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	if in.Schema != InputSchema {
		return nil, fmt.Errorf("schema %q is not %q", in.Schema, InputSchema)
	}
	for _, s := range in.Stages {
		if s.Stage == "" || (s.Dir != "" && !filepath.IsLocal(s.Dir)) {
			return nil, fmt.Errorf("stage %q with dir %q", s.Stage, s.Dir)
		}
	}
	return &in, nil
}

// collect reads each stage's result. One that cannot be read is inconclusive.
func collect(in *Input, root *os.Root) *Run {
	run := &Run{Schema: Schema, Name: in.Name, Version: in.Version, Commit: in.Commit, Started: in.Started, Digest: in.Digest,
		References: in.References, Verdict: result.Pass}
	ran, bad, blocked := 0, "", false
	for _, s := range in.Stages {
		st := Stage{StageRun: s}
		if s.Dir == "" {
			st.Summary = s.NotRun
			blocked = blocked || s.NotRun == ""
		} else {
			ran++
			r, err := readResult(root, s.Dir)
			if err != nil {
				r = &result.Result{Verdict: result.Inconclusive, Summary: err.Error()}
			}
			st.Verdict, st.Summary, st.Findings, st.Metrics, st.Tools, st.Inputs = r.Verdict, r.Summary, r.Findings, r.Metrics, r.Tools, r.Inputs
			if !r.Verdict.OK() && (bad == "" || r.Verdict == result.Fail && run.Verdict != result.Fail) {
				bad, run.Verdict, run.ExitCode = st.Title, r.Verdict, max(1, s.ExitCode)
			}
		}
		run.Stages = append(run.Stages, st)
	}
	switch {
	case bad != "":
		run.Summary = fmt.Sprintf("%s did not pass", bad)
	case ran == 0 || blocked:
		run.Verdict, run.ExitCode, run.Summary = result.Inconclusive, 1, "stages are missing without a reason"
	default:
		run.Summary = fmt.Sprintf("%d stages passed", ran)
	}
	return run
}

func readResult(root *os.Root, dir string) (*result.Result, error) {
	data, err := readFile(root, filepath.Join(dir, result.FileName))
	if err != nil {
		return nil, err
	}
	return result.Parse(data)
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxInput)
	}
	return data, nil
}

// counting are the findings that count towards the verdict.
func counting(findings []result.Finding) []result.Finding {
	var out []result.Finding
	for _, f := range findings {
		if f.Status == "" {
			out = append(out, f)
		}
	}
	return out
}

// maxShown bounds the findings of a stage in the text.
const maxShown = 10

// Text is what a person sees in a terminal.
func Text(run *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s: %s\n\n", run.Name, run.Version, strings.ToUpper(string(run.Verdict)), run.Summary)
	for _, s := range run.Stages {
		if s.Dir == "" {
			fmt.Fprintf(&b, "  %-7s %-24s %7s  not run: %s\n", "-", s.Title, "", s.Summary)
			continue
		}
		fmt.Fprintf(&b, "  %-7s %-24s %6.1fs  %s\n", mark(s.Verdict), s.Title, s.Seconds, firstLine(s.Summary))
	}
	for _, s := range run.Stages {
		if s.Verdict.OK() || s.Dir == "" {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s\n", s.Title, s.Summary)
		found := counting(s.Findings)
		for i, f := range found {
			if i == maxShown {
				fmt.Fprintf(&b, "  ... and %d more: see report.html\n", len(found)-maxShown)
				break
			}
			fmt.Fprintf(&b, "  %-8s %s  %s\n           %s\n", f.Severity, f.ID, f.Location, strings.ReplaceAll(f.Message, "\n", "\n           "))
			if f.Fix != "" {
				fmt.Fprintf(&b, "           fix: %s\n", f.Fix)
			}
		}
	}
	if run.Digest != "" {
		fmt.Fprintf(&b, "\n  digest     %s\n", run.Digest)
	}
	for _, r := range run.References {
		fmt.Fprintf(&b, "  %-10s %s\n", r.Kind, r.Reference)
	}
	return b.String()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func mark(v result.Verdict) string {
	if v == result.Inconclusive {
		return "unclear"
	}
	return string(v)
}
