package lint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// command runs a tool and returns its standard output and exit code. err is set only when it could not run.
func command(ctx context.Context, dir, name string, args ...string) (stdout string, code int, err error) {
	out, _, code, err := capture(ctx, dir, name, args...)
	return out, code, err
}

func capture(ctx context.Context, dir, name string, args ...string) (stdout, stderr string, code int, err error) {
	return outcome(ctx, dir, exec.CommandContext(ctx, name, args...))
}

// outcome runs cmd, made with ctx, in dir.
func outcome(ctx context.Context, dir string, cmd *exec.Cmd) (stdout, stderr string, code int, err error) {
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", "", 0, ctx.Err()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if exit.ExitCode() < 0 {
			return "", "", 0, fmt.Errorf("it was killed: %w", err)
		}
		return o.String(), e.String(), exit.ExitCode(), nil
	}
	return o.String(), e.String(), 0, err
}

// gofmt lists the files of the component's own module that gofmt would change.
func gofmt(ctx context.Context, in Inputs, dir string) ([]result.Finding, error) {
	files, err := goFiles(dir)
	if err != nil {
		return nil, err
	}
	goroot, _, err := command(ctx, dir, in.Go, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	program := filepath.Join(strings.TrimSpace(goroot), "bin", "gofmt")
	var findings []result.Finding
	const batch = 500 // files at a time, below the limit on a command line
	for len(files) > 0 {
		n := min(batch, len(files))
		out, stderr, code, err := capture(ctx, dir, program, append([]string{"-l"}, files[:n]...)...)
		if err != nil {
			return nil, err
		}
		files = files[n:]
		for name := range strings.Lines(out) {
			findings = append(findings, result.Finding{ID: "gofmt", Severity: result.Low, Location: filepath.ToSlash(strings.TrimSpace(name)) + ":1",
				Message: "the file is not formatted", Fix: "gofmt -w " + strings.TrimSpace(name)})
		}
		if code != 0 {
			found := positions("gofmt", stderr, result.High)
			if len(found) == 0 {
				return nil, fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(stderr))
			}
			findings = append(findings, found...)
		}
	}
	return findings, nil
}

// goFiles are those that "go list ./..." would look at, and those behind build constraints.
func goFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == "." {
				return nil
			}
			if n := d.Name(); n == "vendor" || n == "testdata" || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "_") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if d.Type().IsRegular() && strings.HasSuffix(rel, ".go") {
			files = append(files, rel)
		}
		return nil
	})
	return files, err
}

var position = regexp.MustCompile(`^(?:vet: )?(\S+?\.go:\d+(?::\d+)?):? (.*)$`)

// positions are the lines of the form file:line:column: message.
func positions(id, text string, severity result.Severity) []result.Finding {
	var findings []result.Finding
	for line := range strings.Lines(text) {
		if m := position.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			findings = append(findings, result.Finding{ID: id, Severity: severity, Location: strings.TrimPrefix(m[1], "./"), Message: m[2]})
		}
	}
	return findings
}

func vet(ctx context.Context, in Inputs, dir string) ([]result.Finding, error) {
	cmd := exec.CommandContext(ctx, in.Go, "vet", "./...")
	cmd.Env = append(os.Environ(), "GOGC=400") // it compiles: collecting garbage less often spares a sixth of the time
	_, stderr, code, err := outcome(ctx, dir, cmd)
	if err != nil || code == 0 {
		return nil, err
	}
	findings := positions("vet", stderr, result.High)
	if len(findings) == 0 {
		return nil, goError(code, stderr)
	}
	return findings, nil
}

// unreachable is how the go command says that a module could not be fetched, and that it is the network's fault.
var unreachable = regexp.MustCompile(`dial tcp|i/o timeout|connection refused|connection reset|no such host|TLS handshake timeout`)

// goError is a go command's complaint that is not about a line of code.
func goError(code int, stderr string) error {
	text := strings.TrimSpace(stderr)
	if unreachable.MatchString(text) {
		return errors.New(text)
	}
	return result.Inputf("exit code %d: %s", code, text)
}

func modTidy(ctx context.Context, in Inputs, dir string) ([]result.Finding, error) {
	stdout, stderr, code, err := capture(ctx, dir, in.Go, "mod", "tidy", "-diff")
	if err != nil || code == 0 {
		return nil, err
	}
	if !strings.HasPrefix(stdout, "diff ") {
		return nil, goError(code, stderr)
	}
	return []result.Finding{{ID: "mod-tidy", Severity: result.Medium, Location: "go.mod:1", Message: "go.mod or go.sum is not tidy:\n" + head(stdout),
		Fix: "go mod tidy"}}, nil
}

func modVerify(ctx context.Context, in Inputs, dir string) ([]result.Finding, error) {
	stdout, stderr, code, err := capture(ctx, dir, in.Go, "mod", "verify")
	if err != nil || code == 0 {
		return nil, err
	}
	text := stdout + stderr
	if unreachable.MatchString(text) {
		return nil, errors.New(strings.TrimSpace(text))
	}
	return []result.Finding{{ID: "mod-verify", Severity: result.Critical, Location: "go.sum:1", Message: head(text),
		Fix: "find out who changed the module: go clean -modcache, and look at go.sum's history"}}, nil
}

// golangciReport is the part of golangci-lint's JSON that is read.
type golangciReport struct {
	Issues []struct {
		FromLinter string
		Text       string
		Severity   string
		Pos        struct {
			Filename     string
			Line, Column int
		}
	}
	Report struct {
		Error string
	}
}

func golangci(ctx context.Context, in Inputs, dir string) ([]result.Finding, error) {
	if in.Golangci == "" {
		return nil, result.Inputf("flag -golangci is missing")
	}
	stdout, stderr, code, err := capture(ctx, dir, in.Golangci, "run", "--output.json.path=stdout", "--output.text.path=", "--show-stats=false",
		"--issues-exit-code=1", "--max-issues-per-linter=0", "--max-same-issues=0", "--timeout=30m", "./...")
	if err != nil {
		return nil, err
	}
	if code > 1 {
		return nil, result.Inputf("golangci-lint: exit code %d: %s", code, head(strings.TrimSpace(stderr)))
	}
	findings, err := parseGolangci([]byte(stdout))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, head(stderr))
	}
	if code == 1 && len(findings) == 0 {
		return nil, fmt.Errorf("it found something and did not say what: %s", head(stderr))
	}
	return findings, nil
}

// parseGolangci reads the report of "golangci-lint run --output.json.path".
func parseGolangci(data []byte) ([]result.Finding, error) {
	var report golangciReport
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&report); err != nil {
		return nil, fmt.Errorf("reading golangci-lint's report: %w", err)
	}
	if report.Report.Error != "" {
		return nil, errors.New(report.Report.Error)
	}
	var findings []result.Finding
	for _, i := range report.Issues {
		severity, err := result.ParseSeverity(i.Severity)
		if err != nil {
			severity = result.Medium // a linter that gives none, or "error" and "warning"
		}
		f := result.Finding{ID: i.FromLinter, Severity: severity, Message: i.Text}
		if f.ID == "" {
			f.ID = "golangci-lint"
		}
		if i.Pos.Filename != "" {
			f.Location = filepath.ToSlash(i.Pos.Filename) + ":" + strconv.Itoa(i.Pos.Line)
			if i.Pos.Column > 0 {
				f.Location += ":" + strconv.Itoa(i.Pos.Column)
			}
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// maxLines of a tool's complaint go into a message.
const maxLines = 20

func head(text string) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) > maxLines {
		all = append(all[:maxLines], "...")
	}
	return strings.Join(all, "\n")
}
