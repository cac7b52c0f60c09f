package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/junit"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Gates is the run as JUnit XML, one test for each stage: every CI service shows that without a setting.
func Gates(run *Run) ([]byte, error) {
	s := junit.Suite{Name: "slipway"}
	for _, st := range run.Stages {
		c := junit.Case{Class: "slipway", Name: st.Title, Elapsed: time.Duration(st.Seconds * float64(time.Second))}
		switch {
		case st.Dir == "" || st.Verdict == result.Skipped:
			c.Outcome, c.Message = junit.Skipped, st.Summary
		case !st.Verdict.OK():
			c.Outcome, c.Message, c.Output = junit.Failed, firstLine(st.Summary), said(st)
		}
		s.Elapsed += c.Elapsed
		s.Cases = append(s.Cases, c)
	}
	return junit.Marshal([]junit.Suite{s})
}

// said is why a stage did not pass.
func said(st Stage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", st.Verdict, st.Summary)
	for _, f := range counting(st.Findings) {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Severity, f.ID, f.Location, f.Message)
		if f.Fix != "" {
			fmt.Fprintf(&b, "  fix: %s\n", f.Fix)
		}
	}
	return b.String()
}
