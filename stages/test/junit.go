package test

import (
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The JUnit elements that CI systems read.
//
// Source: https://github.com/testmoapp/junitxml
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit is the report as JUnit XML, one suite for each package.
func (r *Report) JUnit() ([]byte, error) {
	suites := map[string]*junitSuite{}
	var order []string
	var total float64
	failedPackages := map[string]bool{}
	for _, f := range r.Failures() {
		if f.Name == "" {
			failedPackages[f.Package] = true
		}
	}
	out := junitSuites{}
	for _, c := range r.Cases {
		s := suites[c.Package]
		if s == nil {
			s = &junitSuite{Name: c.Package, Time: "0.000"}
			suites[c.Package] = s
			order = append(order, c.Package)
		}
		if c.Name == "" {
			s.Time = fmt.Sprintf("%.3f", c.Elapsed.Seconds())
			total += c.Elapsed.Seconds()
			if !failedPackages[c.Package] {
				continue
			}
			c.Name = "(package)"
		}
		j := junitCase{Class: c.Package, Name: c.Name, Time: fmt.Sprintf("%.3f", c.Elapsed.Seconds())}
		s.Tests++
		out.Tests++
		switch c.Outcome {
		case "fail":
			j.Failure = &junitMessage{Message: "failed", Text: clean(c.Output)}
			s.Failures++
			out.Failures++
		case "skip":
			j.Skipped = &junitMessage{Message: "skipped", Text: clean(c.Output)}
			s.Skipped++
			out.Skipped++
		}
		s.Cases = append(s.Cases, j)
	}
	for _, name := range order {
		out.Suites = append(out.Suites, *suites[name])
	}
	out.Time = fmt.Sprintf("%.3f", total)
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

// clean drops what XML cannot hold.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || (c < ' ' && c != '\n' && c != '\t') {
			return -1
		}
		return c
	}, s)
}
