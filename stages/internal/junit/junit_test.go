package junit

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

func TestMarshal(t *testing.T) {
	text, err := Marshal([]Suite{
		{Name: "a", Elapsed: time.Second, Cases: []Case{
			{Class: "a", Name: "TestGood", Outcome: Passed, Output: "not shown"},
			{Class: "a", Name: "TestBad", Outcome: Failed, Message: "failed", Output: "want <3> & got \x1b[31m4"},
		}},
		{Name: "b", Elapsed: 500 * time.Millisecond, Cases: []Case{{Class: "b", Name: "TestLater", Outcome: Skipped, Message: "not today"}}},
		{Name: "empty"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Time     string `xml:"time,attr"`
		Suites   []struct {
			Name     string   `xml:"name,attr"`
			Tests    int      `xml:"tests,attr"`
			Failures int      `xml:"failures,attr"`
			Said     []string `xml:"testcase>failure"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 3 || got.Failures != 1 || got.Skipped != 1 || got.Time != "1.500" || len(got.Suites) != 3 || got.Suites[0].Failures != 1 {
		t.Errorf("got %+v", got)
	}
	if said := got.Suites[0].Said; len(said) != 1 || said[0] != "want <3> & got [31m4" || strings.Contains(string(text), "not shown") {
		t.Errorf("it says %q", said)
	}
}

// Whatever a test prints, the document stays XML.
func FuzzMarshal(f *testing.F) {
	f.Add("plain", "<![CDATA[]]>\x00\xff")
	f.Fuzz(func(t *testing.T, name, output string) {
		text, err := Marshal([]Suite{{Name: name, Cases: []Case{{Class: name, Name: name, Outcome: Failed, Message: output, Output: output}}}})
		if err != nil {
			t.Fatal(err)
		}
		var any struct {
			XMLName xml.Name
		}
		if err := xml.Unmarshal(text, &any); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	})
}
