package report

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/sarif"
)

// forms makes a run that failed in every way, and returns where its reports are.
func forms(t *testing.T) string {
	t.Helper()
	sarifFile := []result.File{{Path: "x.sarif", MediaType: sarifType}}
	lint := &result.Result{Stage: "lint", Verdict: result.Fail, Summary: "2 problems", Files: sarifFile, Findings: []result.Finding{
		{ID: "errcheck", Severity: result.Medium, Message: "not | checked", Location: "cmd/a.go:7:2"},
		{ID: "errcheck", Severity: result.Medium, Message: "not | checked", Location: "cmd/a.go:9:2"}}}
	scan := &result.Result{Stage: "scan", Verdict: result.Fail, Summary: "bad", Files: sarifFile, Findings: []result.Finding{
		{ID: "CVE-2026-1", Severity: result.High, Message: "y v1: overflow", Location: "pkg:golang/example.com/x/y@v1.2.3?distro=debian-12", Fix: "update y", URL: "https://example.com/1"},
		{ID: "CVE-2026-2", Severity: result.High, Message: "not called", Location: "pkg:golang/example.com/z@v1", Status: "excepted"},
		{ID: "license-GPL-3.0", Severity: result.Medium, Message: "licence", Location: "pkg:golang/example.com/z@v1"},
		{ID: "KSV001", Severity: result.Low, Message: "root", Location: "k8s/app.yaml:3", Status: "below-threshold"}}}
	in := write(t, map[string]*result.Result{"lint": lint, "scan": scan, "test": {Stage: "test", Verdict: result.Fail, Summary: "1 failed",
		Findings: []result.Finding{{ID: "TestX", Severity: result.High, Message: "got <script>\n@everyone\n| a | b |"}}}},
		StageRun{Stage: "lint", Title: "Lint", Dir: "lint", Seconds: 1.5}, StageRun{Stage: "scan", Title: "Scan", Dir: "scan", Start: 2, Seconds: 3},
		StageRun{Stage: "test", Title: "Test", Dir: "test"}, StageRun{Stage: "sign", Title: "Sign", NotRun: "earlier"})
	for stage, r := range map[string]*result.Result{"lint": lint, "scan": scan} {
		if err := sarif.Write(filepath.Join(in.Results, stage, "x.sarif"), "slipway-"+stage, r.Findings); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Files {
		if _, err := os.Stat(filepath.Join(in.Out, f.Path)); err != nil {
			t.Errorf("the result names %s: %v", f.Path, err)
		}
	}
	return in.Out
}

func read(t *testing.T, dir, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestServicesForms(t *testing.T) {
	dir := forms(t)

	var issues []codeIssue
	read(t, dir, "gl-code-quality-report.json", &issues)
	if len(issues) != 2 || issues[0].Fingerprint == issues[1].Fingerprint || issues[0].Location != (codeLocation{"cmd/a.go", codeLines{7}}) || issues[0].Severity != "major" {
		t.Errorf("code quality: %+v", issues)
	}

	var security securityReport
	read(t, dir, "gl-container-scanning-report.json", &security)
	if len(security.Vulnerabilities) != 1 {
		t.Fatalf("container scanning: %+v", security.Vulnerabilities)
	}
	v := security.Vulnerabilities[0]
	if v.Name != "CVE-2026-1" || v.Severity != "High" || v.Location.Dependency.Package["name"] != "example.com/x/y" || v.Location.Dependency.Version != "v1.2.3" ||
		v.Location.OperatingSystem != "debian-12" || v.Identifiers[0].Type != "cve" || security.Scan.Status != "success" {
		t.Errorf("container scanning: %+v", security)
	}

	var code struct {
		Runs []struct {
			Tool              struct{ Driver struct{ Name string } }
			AutomationDetails struct{ ID string }
			Results           []json.RawMessage
		}
	}
	read(t, dir, "findings.sarif", &code)
	if len(code.Runs) != 2 || code.Runs[0].AutomationDetails.ID != "slipway/lint/" || len(code.Runs[1].Results) != 4 {
		t.Errorf("SARIF: %+v", code)
	}

	var gates struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "gates.xml"))
	if err == nil {
		err = xml.Unmarshal(data, &gates)
	}
	if err != nil || gates.Tests != 4 || gates.Failures != 3 || gates.Skipped != 1 {
		t.Errorf("gates: %+v, %v", gates, err)
	}
}

// What a project's tests print must not become a table's column, a tag or a mention.
func TestMarkdownIsTame(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(forms(t), "summary.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	for _, want := range []string{"| ❌ | Lint | 1.5 s | 2 problems |", "| ➖ | Sign | | not run: earlier |", `not \| checked`, "&lt;script\\>", "&#64;everyone"} {
		if !strings.Contains(s, want) {
			t.Errorf("%q is not in\n%s", want, s)
		}
	}
	if strings.Contains(s, "<script") || strings.Contains(s, "@everyone") {
		t.Errorf("not tame:\n%s", s)
	}
}

func TestMarkdownIsBounded(t *testing.T) {
	st := Stage{StageRun: StageRun{Stage: "lint", Title: "Lint", Dir: "lint"}, Verdict: result.Fail}
	for range 10_000 {
		st.Findings = append(st.Findings, result.Finding{ID: "x", Severity: result.High, Message: "m"})
	}
	if s := Markdown(&Run{Stages: []Stage{st}}); len(s) > 10_000 || !strings.Contains(s, "9950 more") {
		t.Errorf("%d bytes:\n%s", len(s), s[max(0, len(s)-200):])
	}
}

// A run in which no scan ran says nothing about vulnerabilities, not that there are none.
func TestNoScanNoReport(t *testing.T) {
	in := write(t, map[string]*result.Result{"lint": {Stage: "lint", Verdict: result.Pass, Summary: "fine"}}, StageRun{Stage: "lint", Title: "Lint", Dir: "lint"})
	if _, err := Make(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(in.Out, "gl-container-scanning-report.json")); !os.IsNotExist(err) {
		t.Errorf("there is a report without a scan: %v", err)
	}
}
