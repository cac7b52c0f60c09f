package test

import "github.com/slipwayhq/slipway/stages/internal/junit"

// JUnit is the report as JUnit XML, one suite for each package.
func (r *Report) JUnit() ([]byte, error) {
	failedPackages := map[string]bool{}
	for _, f := range r.Failures() {
		if f.Name == "" {
			failedPackages[f.Package] = true
		}
	}
	var suites []junit.Suite
	at := map[string]int{}
	for _, c := range r.Cases {
		i, known := at[c.Package]
		if !known {
			i, at[c.Package] = len(suites), len(suites)
			suites = append(suites, junit.Suite{Name: c.Package})
		}
		s := &suites[i]
		if c.Name == "" {
			s.Elapsed = c.Elapsed
			if !failedPackages[c.Package] {
				continue
			}
			c.Name = "(package)"
		}
		j := junit.Case{Class: c.Package, Name: c.Name, Elapsed: c.Elapsed}
		switch c.Outcome {
		case "fail":
			j.Outcome, j.Message, j.Output = junit.Failed, "failed", c.Output
		case "skip":
			j.Outcome, j.Message, j.Output = junit.Skipped, "skipped", c.Output
		}
		s.Cases = append(s.Cases, j)
	}
	return junit.Marshal(suites)
}
