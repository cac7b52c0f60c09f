// Package junit writes the JUnit XML that CI services show as test results.
//
// Source: https://github.com/testmoapp/junitxml
package junit

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Case is one test with how it ended.
type Case struct {
	// Class is what the test belongs to; services group by it.
	Class, Name string
	Elapsed     time.Duration
	Outcome     Outcome
	// Message is one line, Output what the test said; only failures and skips show them.
	Message, Output string
}

// Outcome is how a test ended.
type Outcome int

// The outcomes.
const (
	Passed Outcome = iota
	Failed
	Skipped
)

// Suite is a named group of tests.
type Suite struct {
	Name    string
	Elapsed time.Duration
	Cases   []Case
}

type (
	suites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Time     string   `xml:"time,attr"`
		Suites   []suite  `xml:"testsuite"`
	}
	suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	testCase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *message `xml:"failure,omitempty"`
		Skipped *message `xml:"skipped,omitempty"`
	}
	message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// Marshal is the suites as one document.
func Marshal(all []Suite) ([]byte, error) {
	var out suites
	var total time.Duration
	for _, in := range all {
		s := suite{Name: clean(in.Name), Time: seconds(in.Elapsed), Tests: len(in.Cases)}
		total += in.Elapsed
		for _, c := range in.Cases {
			x := testCase{Class: clean(c.Class), Name: clean(c.Name), Time: seconds(c.Elapsed)}
			said := &message{Message: clean(c.Message), Text: clean(c.Output)}
			switch c.Outcome {
			case Passed:
			case Failed:
				x.Failure = said
				s.Failures++
			case Skipped:
				x.Skipped = said
				s.Skipped++
			}
			s.Cases = append(s.Cases, x)
		}
		out.Tests += s.Tests
		out.Failures += s.Failures
		out.Skipped += s.Skipped
		out.Suites = append(out.Suites, s)
	}
	out.Time = seconds(total)
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// clean drops what XML cannot hold.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c == utf8.RuneError || (c < ' ' && c != '\n' && c != '\t') {
			return -1
		}
		return c
	}, s)
}
