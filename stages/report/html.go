package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
)

//go:embed page.html.tmpl
var page string

// Limits of what the page lists; the files beside it hold everything.
const (
	maxFindings = 2000
	maxPackages = 3000
)

// details is what the page shows beside the stages' results.
type details struct {
	Packages []pkg
	Evidence []evidence
}

type pkg struct{ Name, Version, License, Platforms string }

type evidence struct {
	Type, Stage, Digest, Signer, Problem, Verdict string
	OK                                            bool
}

// Name is what people call it: "signature", "spdx", "test".
func (e evidence) Name() string {
	return statement.Kind{PredicateType: e.Type, Stage: e.Stage}.String()
}

// readDetails takes the packages from the SBOMs and the evidence from the last verification. What cannot be read is left out: the
// stages' verdicts do not come from here.
func readDetails(root *os.Root, in *Input) details {
	var d details
	packages := map[string]*pkg{}
	for _, s := range in.Stages {
		switch {
		case s.Dir == "":
		case s.Stage == "sbom":
			readPackages(root, s.Dir, packages)
		case s.Stage == "verify":
			if data, err := readFile(root, filepath.Join(s.Dir, "verification.json")); err == nil {
				var v struct {
					Evidence []evidence `json:"evidence"`
				}
				if json.Unmarshal(data, &v) == nil {
					d.Evidence = v.Evidence
				}
			}
		}
	}
	for _, p := range packages {
		d.Packages = append(d.Packages, *p)
	}
	sort.Slice(d.Packages, func(i, j int) bool {
		return d.Packages[i].Name+"\x00"+d.Packages[i].Version < d.Packages[j].Name+"\x00"+d.Packages[j].Version
	})
	return d
}

func readPackages(root *os.Root, dir string, into map[string]*pkg) {
	f, err := root.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		data, err := readFile(root, filepath.Join(dir, e.Name(), "sbom.spdx.json"))
		if err != nil {
			continue
		}
		var doc struct {
			Packages []struct {
				Name             string `json:"name"`
				Version          string `json:"versionInfo"`
				LicenseConcluded string `json:"licenseConcluded"`
				LicenseDeclared  string `json:"licenseDeclared"`
				Purpose          string `json:"primaryPackagePurpose"`
			} `json:"packages"`
		}
		if json.Unmarshal(data, &doc) != nil {
			continue
		}
		for _, p := range doc.Packages {
			if p.Purpose == "CONTAINER" {
				continue
			}
			have := into[p.Name+"@"+p.Version]
			if have == nil {
				have = &pkg{Name: p.Name, Version: p.Version}
				into[p.Name+"@"+p.Version] = have
			}
			for _, l := range []string{p.LicenseConcluded, p.LicenseDeclared} {
				if have.License == "" && l != "NOASSERTION" && l != "NONE" {
					have.License = l
				}
			}
			have.Platforms = strings.TrimPrefix(have.Platforms+", "+e.Name(), ", ")
		}
	}
}

// row is a finding with its stage.
type row struct {
	Stage string
	result.Finding
}

// bar is a stage on the time line, in percent of the run.
type bar struct {
	Stage
	Left, Width float64
}

type view struct {
	*Run
	details
	Bars            []bar
	Findings        []row
	Total           float64
	MoreFindings    int
	MorePackages    int
	Tests, Coverage string
	Counting        int
}

// HTML writes the page.
func HTML(w io.Writer, run *Run, d details) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"seconds": func(f float64) string { return fmt.Sprintf("%.1f s", f) },
		"percent": func(f float64) template.CSS { return template.CSS(fmt.Sprintf("%.3f%%", f)) }, //nolint:gosec // a number
		"digests": digests,
		"short":   short,
	}).Parse(page)
	if err != nil {
		return err
	}
	v := view{Run: run, details: d}
	for _, s := range run.Stages {
		v.Total = max(v.Total, s.Start+s.Seconds)
	}
	for _, s := range run.Stages {
		b := bar{Stage: s}
		if v.Total > 0 {
			b.Left, b.Width = 100*s.Start/v.Total, max(0.4, 100*s.Seconds/v.Total)
		}
		v.Bars = append(v.Bars, b)
		for _, f := range s.Findings {
			v.Findings = append(v.Findings, row{s.Title, f})
		}
		v.Counting += len(counting(s.Findings))
		if s.Stage == "test" && s.Metrics != nil {
			v.Tests, v.Coverage = fmt.Sprintf("%.0f", s.Metrics["tests"]), fmt.Sprintf("%.1f %%", s.Metrics["coverage"])
		}
	}
	sort.SliceStable(v.Findings, func(i, j int) bool {
		a, b := v.Findings[i], v.Findings[j]
		if (a.Status == "") != (b.Status == "") {
			return a.Status == ""
		}
		return a.Severity.Rank() > b.Severity.Rank()
	})
	if n := len(v.Findings); n > maxFindings {
		v.Findings, v.MoreFindings = v.Findings[:maxFindings], n-maxFindings
	}
	if n := len(v.Packages); n > maxPackages {
		v.Packages, v.MorePackages = v.Packages[:maxPackages], n-maxPackages
	}
	return t.Execute(w, v)
}

// longDigest is a SHA-256 in full: nobody reads more than its first digits.
var longDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// short is text with each digest abbreviated; the whole one appears when the pointer rests on it.
func short(text string) template.HTML {
	var b strings.Builder
	at := 0
	for _, m := range longDigest.FindAllStringIndex(text, -1) {
		full := text[m[0]:m[1]]
		b.WriteString(template.HTMLEscapeString(text[at:m[0]]))
		b.WriteString(`<code title="` + full + `">` + full[:len("sha256:")+12] + `…</code>`)
		at = m[1]
	}
	b.WriteString(template.HTMLEscapeString(text[at:]))
	return template.HTML(b.String()) //nolint:gosec // escaped above; a digest has no special character
}

func digests(r result.Resource) string {
	var all []string
	for a, h := range r.Digest {
		all = append(all, a+":"+h)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}
