package plan

import (
	"fmt"
	"strings"
	"time"
)

// Text is the plan for people: what was found, why, and what will run.
func (p *Plan) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", p.Name, p.Version)
	p.sourceText(&b)
	for i := range p.Components {
		c := &p.Components[i]
		fmt.Fprintf(&b, "\n%s (%s, %s)\n", c.Name, c.Language, c.Path)
		fmt.Fprintf(&b, "  found      %s\n", c.found())
		for _, m := range c.Mains {
			note := ""
			if m.Binary == c.Entrypoint {
				note = "  <- the image starts this one"
			}
			fmt.Fprintf(&b, "  program    %-16s %s%s\n", m.Binary, m.Dir, note)
		}
		if c.Undecided != "" {
			fmt.Fprintf(&b, "  undecided  %s\n", strings.ReplaceAll(c.Undecided, "\n", "\n             "))
		}
		for j, w := range c.Why {
			label := "why"
			if j > 0 {
				label = ""
			}
			fmt.Fprintf(&b, "  %-10s %s\n", label, w)
		}
		p.stepsText(&b, c.Name)
	}
	p.stepsText(&b, "")
	for i, w := range p.Warnings {
		if i == 0 {
			b.WriteString("\nwarnings\n")
		}
		fmt.Fprintf(&b, "  - %s\n", w)
	}
	return b.String()
}

func (p *Plan) sourceText(b *strings.Builder) {
	s := p.Source
	if s.Commit != "" {
		fmt.Fprintf(b, "  commit     %s", s.Commit[:min(12, len(s.Commit))])
		if s.Ref != "" {
			fmt.Fprintf(b, " on %s", strings.TrimPrefix(strings.TrimPrefix(s.Ref, "refs/heads/"), "refs/tags/"))
		}
		fmt.Fprintf(b, ", %s", s.Time.UTC().Format(time.RFC3339))
		if s.Dirty {
			b.WriteString(", with changes that are not committed")
		}
		b.WriteByte('\n')
	} else {
		b.WriteString("  commit     unknown\n")
	}
	if s.Remote != "" {
		fmt.Fprintf(b, "  remote     %s\n", s.Remote)
	}
	if s.License != "" {
		fmt.Fprintf(b, "  licence    %s\n", s.License)
	}
	if s.Digest != "" {
		fmt.Fprintf(b, "  source     %s\n", s.Digest)
	}
	if len(s.Ignored) > 0 {
		const shown = 5
		fmt.Fprintf(b, "  left out   %s", strings.Join(s.Ignored[:min(shown, len(s.Ignored))], ", "))
		if more := len(s.Ignored) - shown; more > 0 {
			fmt.Fprintf(b, " and %d more", more)
		}
		b.WriteString(": git ignores it\n")
	}
}

func (p *Plan) stepsText(b *strings.Builder, component string) {
	title := false
	for _, s := range p.Steps {
		if s.Component != component {
			continue
		}
		if !title {
			b.WriteString("  will run\n")
			title = true
		}
		fmt.Fprintf(b, "    %-8s (%s)\n", s.Stage, s.Why)
		for _, r := range s.Runs {
			fmt.Fprintf(b, "             %s\n", r)
		}
	}
}

// found is one line: "Go 1.25.0, 12 packages, 5 with tests".
func (c *Component) found() string {
	parts := []string{plural(c.Packages, "package"), fmt.Sprintf("%d with tests", c.TestPackages)}
	if c.LanguageVersion != "" {
		parts = append([]string{c.Language + " " + c.LanguageVersion}, parts...)
	}
	if c.Toolchain != "" {
		parts = append(parts, "toolchain "+c.Toolchain)
	}
	if c.Cgo {
		parts = append(parts, "uses cgo")
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
