package build

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// cause sorts what the go command complains about by who can mend it.
type cause int

const (
	causeSource   cause = iota // the code: a failing verdict
	causeChecksum              // somebody changed a module: a failing verdict, critical
	causeInput                 // go.mod, go.sum, toolchain: wrong input
	causeWorld                 // network, proxy, disk
)

// phrases are looked for in this order in what the go command printed. The go command has no codes for them.
var phrases = []struct {
	cause cause
	words []string
	fix   string
	// compiling says that it can also happen while the compiler and the linker run.
	compiling bool
}{
	{causeChecksum, []string{"checksum mismatch", "SECURITY ERROR"},
		"a dependency is not what go.sum recorded: find out who changed it before you touch go.sum", false},
	{causeInput, []string{"requires go >=", "toolchain not available", "invalid go version", "unknown directive", "download go1"},
		"use a newer Go image, or lower the go directive", false},
	{causeInput, []string{"inconsistent vendoring"}, "run go mod vendor and commit the result", false},
	{causeWorld, []string{"dial tcp", "no such host", "connection refused", "connection reset", "i/o timeout", "TLS handshake", "proxyconnect",
		"Bad Gateway", "Service Unavailable", "Gateway Timeout", "Internal Server Error", "Too Many Requests", "x509: ", "unexpected EOF",
		"deadline exceeded", "Temporary failure", "network is unreachable", "Client.Timeout", "server misbehaving"},
		"check the network and GOPROXY, then run again", false},
	{causeWorld, []string{"no space left on device", "cannot allocate memory", "signal: killed"}, "give the build more disk or memory", true},
	{causeInput, []string{"missing go.sum entry", "updates to go.mod needed", "updates to go.sum needed", "go.mod file indicates"},
		"run go mod tidy and commit go.mod and go.sum", false},
	{causeInput, []string{"module lookup disabled", "reading file://", "404 Not Found", "410 Gone", "unknown revision", "invalid version", "terminal prompts disabled",
		"403 Forbidden", "401 Unauthorized", "unrecognized import path", "errors parsing go.mod", "cannot find main module", "malformed module path"},
		"check the module's path and version in go.mod, and whether the build may read it", false},
}

// classify says who can mend what text complains about. Once the compiler ran, which shows by a line "# import/path", the network has done
// its part, and its words may be the source's own.
func classify(text string) (cause, string) {
	compiled := strings.HasPrefix(text, "# ") || strings.Contains(text, "\n# ")
	for _, p := range phrases {
		if compiled && !p.compiling {
			continue
		}
		if slices.ContainsFunc(p.words, func(w string) bool { return strings.Contains(text, w) }) {
			return p.cause, p.fix
		}
	}
	return causeSource, ""
}

// maxFindings bounds what one broken build reports.
const maxFindings = 200

// judge turns failed commands into a failing result or an error. The worst cause wins: where the network failed, the code has not been
// judged.
func (b *builder) judge(failures []*commandError) (*result.Result, error) {
	r := &result.Result{Verdict: result.Fail, Tools: []result.Tool{{Name: "go", Version: b.goVersion}}}
	seen := map[string]bool{}
	for _, f := range failures {
		c, fix := classify(f.stderr)
		switch c {
		case causeWorld:
			return nil, fmt.Errorf("%w: %s", f, fix)
		case causeInput:
			return nil, result.Inputf("%w: %s", f, fix)
		case causeChecksum:
			r.Findings = append(r.Findings, result.Finding{ID: "checksum-mismatch", Severity: result.Critical, Location: "go.sum",
				Message: checksumLine(f.stderr), Fix: fix})
			r.Summary = "a dependency does not match go.sum"
			return r, nil
		}
		for _, d := range diagnostics(f.stderr, b.component.Path) {
			if key := d.Location + d.Message; !seen[key] && len(r.Findings) < maxFindings {
				seen[key] = true
				r.Findings = append(r.Findings, d)
			}
		}
	}
	if len(r.Findings) == 0 {
		for _, f := range failures {
			r.Findings = append(r.Findings, result.Finding{ID: "go-build", Severity: result.High, Message: firstLines(f.stderr, 10)})
		}
	}
	noun := "error"
	if len(r.Findings) > 1 {
		noun = "errors"
	}
	r.Summary = fmt.Sprintf("%s does not compile: %d %s", b.component.Name, len(r.Findings), noun)
	return r, nil
}

func checksumLine(text string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "checksum mismatch") {
			return strings.TrimSpace(line)
		}
	}
	return firstLines(text, 3)
}

var diagnosticForm = regexp.MustCompile(`^(\S[^:]*\.(?:go|s|mod|work)):(\d+)(?::(\d+))?: (.+)$`)

// diagnostics reads the compiler's lines "path:line:column: message"; lines that start with a tab continue the message. The location is
// relative to the source.
func diagnostics(text, component string) []result.Finding {
	var list []result.Finding
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, "\t"); ok && len(list) > 0 && len(list[len(list)-1].Message) < 1000 {
			list[len(list)-1].Message += "; " + strings.TrimSpace(rest)
			continue
		}
		m := diagnosticForm.FindStringSubmatch(strings.TrimPrefix(line, "vet: "))
		if m == nil || m[4] == "too many errors" {
			continue
		}
		loc := path.Join(component, m[1])
		if path.IsAbs(m[1]) {
			loc = m[1]
		}
		loc += ":" + m[2]
		if m[3] != "" {
			loc += ":" + m[3]
		}
		f := result.Finding{ID: "go-build", Severity: result.High, Message: m[4], Location: loc}
		if strings.Contains(m[4], "no required module provides package") {
			f.Fix = "run go get for it and commit go.mod and go.sum"
		}
		list = append(list, f)
		if len(list) >= maxFindings {
			break
		}
	}
	return list
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(strings.TrimSpace(text), "\n", n+1)
	if len(lines) > n {
		lines = append(lines[:n], "...")
	}
	return strings.Join(lines, "\n")
}
