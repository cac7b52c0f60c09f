package report

import (
	"fmt"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// maxListed bounds the findings in the Markdown: services refuse a summary of more than a megabyte.
const maxListed = 50

// marks are what a person finds first in a column.
var marks = map[result.Verdict]string{result.Pass: "✅", result.Fail: "❌", result.Inconclusive: "⚠️", result.Skipped: "➖"}

// Markdown is what CI services show on a run's own page: GitHub's job summary, Azure's, a comment on a merge request.
func Markdown(run *Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s %s: %s\n\n", marks[run.Verdict], cell(strings.TrimSpace(run.Name+" "+run.Version)), cell(run.Summary))
	b.WriteString("| | Stage | | |\n|---|---|---:|---|\n")
	for _, s := range run.Stages {
		if s.Dir == "" {
			fmt.Fprintf(&b, "| ➖ | %s | | not run: %s |\n", cell(s.Title), cell(s.Summary))
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f s | %s |\n", marks[s.Verdict], cell(s.Title), s.Seconds, cell(firstLine(s.Summary)))
	}
	listed, more := 0, 0
	for _, s := range run.Stages {
		if s.Verdict.OK() || s.Dir == "" {
			continue
		}
		fmt.Fprintf(&b, "\n### %s: %s\n", cell(s.Title), cell(firstLine(s.Summary)))
		for i, f := range counting(s.Findings) {
			if listed == maxListed {
				more += len(counting(s.Findings)) - i
				break
			}
			listed++
			fmt.Fprintf(&b, "\n- **%s** %s %s: %s", f.Severity, cell(f.ID), cell(f.Location), cell(f.Message))
			if f.Fix != "" {
				fmt.Fprintf(&b, " *%s*", cell(f.Fix))
			}
		}
		b.WriteString("\n")
	}
	if more > 0 {
		fmt.Fprintf(&b, "\n... and %d more: see report.html\n", more)
	}
	if run.Digest != "" {
		fmt.Fprintf(&b, "\nDigest: %s\n", cell(run.Digest))
	}
	for _, r := range run.References {
		fmt.Fprintf(&b, "\n%s: %s\n", cell(r.Kind), cell(r.Reference))
	}
	return b.String()
}

// cell keeps a text what it is: within one line, and without a meaning in Markdown or HTML. What a project's tests print lands here.
func cell(s string) string {
	var b strings.Builder
	for _, c := range strings.Join(strings.Fields(s), " ") {
		switch {
		case c < ' ':
			continue
		case c == '<':
			b.WriteString("&lt;")
			continue
		case c == '&':
			b.WriteString("&amp;")
			continue
		case c == '@': // mentions nobody
			b.WriteString("&#64;")
			continue
		case strings.ContainsRune("\\`*_[]|#~!>", c):
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
