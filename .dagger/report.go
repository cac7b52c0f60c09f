package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"dagger/slipway/internal/dagger"
)

// What a stage found, also when it failed: the verdict, a summary, and files in the formats that other tools read.
type Report struct {
	// The stage's name.
	Stage string
	// pass, fail, inconclusive or skipped.
	Verdict string
	// One line for people.
	Summary string
	// result.json and the files beside it (SARIF, JUnit, SPDX, ...).
	Files *dagger.Directory
	// +private
	Details string
	// +private
	Outputs string
}

// The exit codes of a stage program; see stages/internal/result.
const (
	exitPass  = 0
	exitFail  = 1
	exitInput = 2
	exitWorld = 3
)

// inputError is the caller's to mend, and was found before any program ran.
type inputError struct{ error }

func inputf(format string, args ...any) error { return inputError{fmt.Errorf(format, args...)} }

// exitCode is what a stage that ended with an error, or with a report, stands for.
func exitCode(r *Report, err error) int {
	var (
		failed *stageError
		input  inputError
	)
	switch {
	case errors.As(err, &failed):
		return failed.code
	case errors.As(err, &input):
		return exitInput
	case err != nil:
		return exitWorld
	case !r.ok():
		return exitFail
	}
	return exitPass
}

// stageResult is the part of result.json that this layer reads.
type stageResult struct {
	Verdict  string `json:"verdict"`
	Summary  string `json:"summary"`
	Reason   string `json:"reason"`
	Error    string `json:"error"`
	Findings []struct {
		ID       string `json:"id"`
		Severity string `json:"severity"`
		Message  string `json:"message"`
		Location string `json:"location"`
		Fix      string `json:"fix"`
		Note     string `json:"note"`
		Status   string `json:"status"`
	} `json:"findings"`
	Outputs map[string]string `json:"outputs"`
}

// Print the summary when the verdict passes, fail with the findings when it does not.
func (r *Report) Gate() (string, error) {
	if r.ok() {
		return fmt.Sprintf("%s: %s: %s", r.Stage, r.Verdict, r.Summary), nil
	}
	return "", errors.New(r.text())
}

// The stage's result.json.
func (r *Report) Json(ctx context.Context) (string, error) {
	return r.Files.File("result.json").Contents(ctx)
}

func (r *Report) ok() bool { return r.Verdict == "pass" || r.Verdict == "skipped" }

func (r *Report) text() string {
	s := fmt.Sprintf("%s: %s: %s", r.Stage, r.Verdict, r.Summary)
	if r.Details != "" {
		s += "\n" + r.Details
	}
	return s
}

// output is a named value that the stage hands to the next ones.
func (r *Report) output(name string) (string, error) {
	var m map[string]string
	if err := json.Unmarshal([]byte(r.Outputs), &m); err != nil {
		return "", fmt.Errorf("%s: reading outputs: %w", r.Stage, err)
	}
	if m[name] == "" {
		return "", fmt.Errorf("%s: result.json has no output %q", r.Stage, name)
	}
	return m[name], nil
}

// stageError is wrong input or a failing world: the stage could not decide. Its report goes with it.
type stageError struct {
	report *Report
	code   int
	text   string
}

func (e *stageError) Error() string { return e.text }

// run executes a stage program and reads its result. A failing verdict is a report, not an error; wrong input and a failing world are
// errors.
func run(ctx context.Context, stage string, ctr *dagger.Container, args []string) (*Report, error) {
	e := execute(ctx, ctr, append(args, "-out", "/out"))
	if e.err == nil && e.code == exitWorld {
		// The engine remembers executions, also those that the network failed. Ask once more, so that it is not an old failure
		// that is reported.
		e = execute(ctx, fresh(ctr), append(args, "-out", "/out"))
	}
	return e.report(ctx, stage)
}

// once is run for what must not happen a second time by itself.
func once(ctx context.Context, stage string, ctr *dagger.Container, args []string) (*Report, error) {
	return execute(ctx, ctr, append(args, "-out", "/out")).report(ctx, stage)
}

// report reads what the program left.
func (e *execution) report(ctx context.Context, stage string) (*Report, error) {
	if e.err != nil {
		return nil, fmt.Errorf("%s: %w", stage, e.err)
	}
	if e.missing != nil {
		return nil, fmt.Errorf("%s: ended with exit code %d and no result: %s", stage, e.code, cmp.Or(e.said(ctx), e.missing.Error()))
	}
	var res stageResult
	if err := json.Unmarshal([]byte(e.result), &res); err != nil {
		return nil, fmt.Errorf("%s: reading result.json: %w", stage, err)
	}
	out, err := json.Marshal(res.Outputs)
	if err != nil {
		return nil, err
	}
	r := &Report{Stage: stage, Verdict: res.Verdict, Summary: res.Summary, Files: e.done.Directory("/out"), Details: details(res), Outputs: string(out)}
	if e.code != exitPass && e.code != exitFail {
		said := e.said(ctx)
		if said == "" {
			said = fmt.Sprintf("%s: ended with exit code %d: %s", stage, e.code, res.Error)
		}
		return nil, &stageError{report: r, code: e.code, text: said}
	}
	if r.ok() != (e.code == exitPass) {
		return nil, fmt.Errorf("%s: exit code %d contradicts the verdict %q", stage, e.code, res.Verdict)
	}
	return r, nil
}

// execution is a stage program that has ended.
type execution struct {
	done   *dagger.Container
	code   int
	result string
	// missing says why there is no result, err why the program could not even run.
	missing, err error
}

// execute asks for the exit code and the result at the same time: each question to the engine costs as much as a small program.
func execute(ctx context.Context, ctr *dagger.Container, args []string) *execution {
	e := &execution{done: ctr.WithExec(args, dagger.ContainerWithExecOpts{Expect: dagger.ReturnTypeAny})}
	var wg sync.WaitGroup
	wg.Go(func() { e.code, e.err = e.done.ExitCode(ctx) })
	wg.Go(func() { e.result, e.missing = e.done.Directory("/out").File("result.json").Contents(ctx) })
	wg.Wait()
	return e
}

// said is what the program wrote for people.
func (e *execution) said(ctx context.Context) string {
	text, err := e.done.Stderr(ctx)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text)
}

// maxDetails bounds what is printed to a terminal; the files hold everything.
const maxDetails = 20

func details(res stageResult) string {
	var b strings.Builder
	n := 0
	for _, f := range res.Findings {
		if f.Status != "" {
			continue
		}
		if n++; n > maxDetails {
			continue
		}
		fmt.Fprintf(&b, "  %-8s %s", f.Severity, f.ID)
		if f.Location != "" {
			fmt.Fprintf(&b, "  %s", f.Location)
		}
		fmt.Fprintf(&b, "\n           %s\n", f.Message)
		if f.Fix != "" {
			fmt.Fprintf(&b, "           fix: %s\n", f.Fix)
		}
		for line := range strings.Lines(f.Note) { // such as the last lines of a log
			fmt.Fprintf(&b, "           | %s\n", strings.TrimRight(line, "\n"))
		}
	}
	if n > maxDetails {
		fmt.Fprintf(&b, "  ... and %d more: see result.json\n", n-maxDetails)
	}
	return strings.TrimRight(b.String(), "\n")
}
