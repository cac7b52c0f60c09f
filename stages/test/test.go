// Package test runs a Go project's tests and reports them.
package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/tools/cover"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// Inputs are the stage's.
type Inputs struct {
	Source string
	Plan   *plan.Plan
	// Component's name; empty means all.
	Component string
	// Go is the go command.
	Go  string
	Out string
}

// Run tests every component that is asked for.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	var all Report
	var profiles []*cover.Profile
	var xmls [][]byte
	race := false
	if err := os.MkdirAll(in.Out, 0o755); err != nil {
		return nil, err
	}
	for i, c := range in.Plan.Components {
		if c.Language != "go" || (in.Component != "" && c.Name != in.Component) {
			continue
		}
		r, p, raced, err := in.component(ctx, c, i)
		if err != nil {
			return nil, err
		}
		race = race || raced
		all.Cases = append(all.Cases, r.Cases...)
		all.Noise += r.Noise
		profiles = append(profiles, p...)
		doc, err := Cobertura(p, c.Module, c.Path, in.Plan.Source.Epoch)
		if err != nil {
			return nil, err
		}
		xmls = append(xmls, doc)
	}
	if len(xmls) == 0 {
		return nil, result.Inputf("there is no Go component %q in the plan", in.Component)
	}
	junit, err := all.JUnit()
	if err != nil {
		return nil, err
	}
	files := []result.File{{Path: "junit.xml", MediaType: "application/xml"}}
	if err := os.WriteFile(filepath.Join(in.Out, "junit.xml"), junit, 0o644); err != nil {
		return nil, err
	}
	for i, doc := range xmls {
		name := "cobertura.xml"
		if i > 0 {
			name = fmt.Sprintf("cobertura-%d.xml", i+1)
		}
		if err := os.WriteFile(filepath.Join(in.Out, name), doc, 0o644); err != nil {
			return nil, err
		}
		files = append(files, result.File{Path: name, MediaType: "application/xml"})
	}
	source, err := filepath.Abs(in.Source)
	if err != nil {
		return nil, err
	}
	res := judge(&all, Coverage(profiles), in.Plan.Config.Test.Coverage, race, source)
	res.Files = files
	if v, err := exec.CommandContext(ctx, in.Go, "env", "GOVERSION").Output(); err == nil {
		res.Tools = []result.Tool{{Name: "go", Version: strings.TrimSpace(string(v))}}
	}
	return res, nil
}

// component runs go test in one component's folder.
func (in Inputs) component(ctx context.Context, c plan.Component, i int) (*Report, []*cover.Profile, bool, error) {
	cfg := in.Plan.Config.Test
	race, err := in.race(ctx, cfg.Race)
	if err != nil {
		return nil, nil, false, err
	}
	suffix := ""
	if i > 0 {
		suffix = fmt.Sprintf("-%d", i+1)
	}
	profile, err := filepath.Abs(filepath.Join(in.Out, "coverage"+suffix+".out"))
	if err != nil {
		return nil, nil, false, err
	}
	args := []string{"test", "-json", "-covermode=atomic", "-coverprofile=" + profile, "-timeout=" + time.Duration(cfg.Timeout).String()}
	if race {
		args = append(args, "-race")
	}
	if len(cfg.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(cfg.Tags, ","))
	}
	cmd := exec.CommandContext(ctx, in.Go, append(args, cfg.Packages...)...)
	cmd.Dir = filepath.Join(in.Source, filepath.FromSlash(c.Path))
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+map[bool]string{true: "1", false: "0"}[race || c.Cgo])
	cmd.WaitDelay = 10 * time.Second
	var stderr tailWriter
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, false, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, false, fmt.Errorf("starting go test: %w", err)
	}
	log, err := os.Create(filepath.Join(in.Out, "test"+suffix+".json"))
	if err != nil {
		return nil, nil, false, err
	}
	defer log.Close()
	report, perr := Parse(io.TeeReader(stdout, log))
	werr := cmd.Wait()
	if err := errors.Join(ctx.Err(), perr); err != nil {
		return nil, nil, false, err
	}
	report.Noise += stderr.String()
	if err := downloadFailure(report); err != nil {
		return nil, nil, false, err
	}
	if werr != nil && len(report.Failures()) == 0 {
		return nil, nil, false, result.Inputf("go test in %s: %w: %s", c.Path, werr, strings.TrimSpace(report.Noise))
	}
	profiles, err := readProfile(profile)
	return report, profiles, race, err
}

// race says whether to look for data races: they need cgo and a C compiler.
func (in Inputs) race(ctx context.Context, want string) (bool, error) {
	if want == "off" {
		return false, nil
	}
	out, err := exec.CommandContext(ctx, in.Go, "env", "CC").Output()
	if err != nil {
		return false, fmt.Errorf("go env CC: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) > 0 {
		if _, err := exec.LookPath(fields[0]); err == nil {
			return true, nil
		}
	}
	if want == "on" {
		return false, result.Inputf("test.race is on, and there is no C compiler: use an image that has one, or set test.race to auto")
	}
	return false, nil
}

// unreachable is how the go command says that a module could not be fetched, and that it is the network's fault.
var unreachable = regexp.MustCompile(`dial tcp|i/o timeout|connection refused|connection reset|no such host|TLS handshake timeout|50[0-9] `)

func downloadFailure(r *Report) error {
	var text strings.Builder
	text.WriteString(r.Noise)
	for _, f := range r.Failures() {
		if strings.Contains(f.Output, "[setup failed]") {
			text.WriteString(f.Output)
		}
	}
	for line := range strings.Lines(text.String()) {
		if unreachable.MatchString(line) && strings.Contains(line, "http") {
			return fmt.Errorf("fetching modules: %s", strings.TrimSpace(line))
		}
	}
	return nil
}

func readProfile(path string) ([]*cover.Profile, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || len(bytes.TrimSpace(data)) == 0 {
		return nil, nil // nothing was built, so nothing was covered
	}
	if err != nil {
		return nil, err
	}
	return cover.ParseProfilesFromReader(bytes.NewReader(data))
}

// judge holds the report against the policy.
func judge(r *Report, covered, threshold float64, race bool, source string) *result.Result {
	tests, failed, skipped := r.Counts()
	res := &result.Result{
		Verdict: result.Pass,
		Metrics: map[string]float64{"tests": float64(tests), "failed": float64(failed), "skipped": float64(skipped), "coverage": round(covered)},
	}
	for _, f := range r.Failures() {
		res.Findings = append(res.Findings, finding(f, source))
	}
	detector := "with the race detector"
	if !race {
		detector = "without the race detector"
	}
	res.Summary = fmt.Sprintf("%d tests, %d failed, %d skipped, %.1f %% of statements covered, %s", tests, failed, skipped, covered, detector)
	switch {
	case len(res.Findings) > 0:
		res.Verdict = result.Fail
	case tests == 0:
		res.Verdict, res.Reason = result.Skipped, "the project has no tests"
		res.Summary = res.Reason
	case covered < threshold:
		res.Verdict = result.Fail
		res.Findings = append(res.Findings, result.Finding{ID: "coverage", Severity: result.High,
			Message: fmt.Sprintf("%.1f %% of statements are covered, and test.coverage asks for %.1f %%", covered, threshold),
			Fix:     "add tests, or lower test.coverage in slipway.yaml"})
	}
	return res
}

func round(f float64) float64 { return float64(int(f*10+0.5)) / 10 }

var location = regexp.MustCompile(`(?m)^\s*(\S+\.go):(\d+)`)

// maxLines of a failing test's output go into its finding; the JUnit file has the rest.
const maxLines = 10

// finding says where and why a test failed. Locations become relative to the source.
func finding(c Case, source string) result.Finding {
	f := result.Finding{ID: strings.TrimSuffix(c.Package+"."+c.Name, "."), Severity: result.High}
	var lines []string
	for line := range strings.Lines(c.Output) {
		line = strings.TrimRight(line, "\r\n")
		if t := strings.TrimSpace(line); t == "" || strings.HasPrefix(t, "=== ") || strings.HasPrefix(t, "FAIL") {
			continue
		}
		if strings.HasPrefix(line, "panic:") {
			lines = nil // what came before is not what killed it, and the stack comes after
		}
		lines = append(lines, strings.ReplaceAll(line, source+string(filepath.Separator), ""))
	}
	switch {
	case len(lines) == 0:
		lines = []string{"it failed without a word"}
	case len(lines) > maxLines && strings.HasPrefix(lines[0], "panic:"):
		lines = lines[:maxLines]
	case len(lines) > maxLines:
		lines = lines[len(lines)-maxLines:]
	}
	f.Message = strings.Join(lines, "\n")
	for _, m := range location.FindAllStringSubmatch(c.Output, -1) {
		name, inside := strings.CutPrefix(m[1], source+string(filepath.Separator))
		if inside || !filepath.IsAbs(name) { // neither the standard library's nor a dependency's
			f.Location = filepath.ToSlash(name) + ":" + m[2]
			break
		}
	}
	return f
}

type tailWriter struct{ tail }

func (w *tailWriter) Write(p []byte) (int, error) {
	w.add(string(p))
	return len(p), nil
}
