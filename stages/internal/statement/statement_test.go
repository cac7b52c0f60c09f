package statement

import (
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestAbout(t *testing.T) {
	s, err := New([]result.Resource{{Name: "app", Digest: map[string]string{"sha256": "ab"}}}, Test, map[string]string{"result": "PASSED"})
	if err != nil {
		t.Fatal(err)
	}
	for digest, want := range map[string]bool{"sha256:ab": true, "sha256:cd": false, "sha512:ab": false, "ab": false, "sha256:": false, "": false} {
		if got := s.About(digest); got != want {
			t.Errorf("About(%q) = %v, want %v", digest, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	const good = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"ab"}}],"predicateType":"x://y","predicate":{}}`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"not JSON":          "{",
		"other type":        strings.Replace(good, "Statement/v1", "Statement/v9", 1),
		"no predicate type": strings.Replace(good, "x://y", "", 1),
		"no subject":        strings.Replace(good, `{"name":"a","digest":{"sha256":"ab"}}`, "", 1),
		"no digest":         strings.Replace(good, `"sha256":"ab"`, "", 1),
		"no predicate":      strings.Replace(good, `,"predicate":{}`, "", 1),
	} {
		if _, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseKind(t *testing.T) {
	for name, want := range map[string]Kind{"scan": {PredicateType: Scan}, "test": {Test, "test"}, "lint": {Test, "lint"}, Test: {Test, "test"},
		"report:licences": {Test, "licences"}, "https://example.com/x": {PredicateType: "https://example.com/x"}} {
		if got, err := ParseKind(name); err != nil || got != want {
			t.Errorf("ParseKind(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"scann", "report:", "report:test", "report:../x", "report:A"} {
		if _, err := ParseKind(name); !result.IsInput(err) {
			t.Errorf("%q: error = %v, want an input error", name, err)
		}
	}
}

func TestKind(t *testing.T) {
	for predicate, want := range map[string]string{`{"stage":"lint"}`: "lint", `{"stage":"test"}`: "test", `{}`: "test", `[]`: "test", `{"stage":"fuzz"}`: "report:fuzz"} {
		s := &Statement{PredicateType: Test, Predicate: []byte(predicate)}
		if got := s.Kind().String(); got != want {
			t.Errorf("%s is about %q, want %q", predicate, got, want)
		}
	}
	if got := (&Statement{PredicateType: SPDX, Predicate: []byte(`{"stage":"lint"}`)}).Kind(); got != (Kind{PredicateType: SPDX}) {
		t.Errorf("SPDX is about %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"ab"}}],"predicateType":"x","predicate":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if len(s.Subject) == 0 || s.PredicateType == "" {
			t.Errorf("accepted %q", data)
		}
		s.About("sha256:ab")
	})
}

func TestClaim(t *testing.T) {
	claim := func(predicate any) string {
		t.Helper()
		s, err := New([]result.Resource{{Name: "app", Digest: map[string]string{"sha256": "ab"}}}, Test, predicate)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Claim()
		if err != nil {
			t.Fatal(err)
		}
		return string(c)
	}
	type m map[string]any
	said := claim(m{"result": "PASSED", "time": "2026-01-01T00:00:00Z", "slipway": m{"time": "2026-01-01T00:00:00Z"}})
	for name, tt := range map[string]struct {
		predicate any
		same      bool
	}{
		"said again later": {m{"result": "PASSED", "time": "2026-01-02T00:00:00Z", "slipway": m{"time": "2026-01-01T00:00:00Z"}}, true},
		"said of later":    {m{"result": "PASSED", "time": "2026-01-01T00:00:00Z", "slipway": m{"time": "2026-01-02T00:00:00Z"}}, false},
		"something else":   {m{"result": "FAILED", "time": "2026-01-01T00:00:00Z", "slipway": m{"time": "2026-01-01T00:00:00Z"}}, false},
	} {
		if got := claim(tt.predicate) == said; got != tt.same {
			t.Errorf("%s: same claim = %v, want %v", name, got, tt.same)
		}
	}
}
