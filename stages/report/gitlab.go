package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// codeIssue is a finding as GitLab shows it beside the code.
//
// Source: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
type codeIssue struct {
	Description string       `json:"description"`
	CheckName   string       `json:"check_name"`
	Fingerprint string       `json:"fingerprint"`
	Severity    string       `json:"severity"`
	Location    codeLocation `json:"location"`
}

type codeLocation struct {
	Path  string    `json:"path"`
	Lines codeLines `json:"lines"`
}

type codeLines struct {
	Begin int `json:"begin"`
}

var codeSeverities = map[result.Severity]string{result.Critical: "blocker", result.High: "critical", result.Medium: "major", result.Low: "minor",
	result.Info: "info", result.Unknown: "info"}

// CodeQuality is every finding that counts and has a place in the source, as GitLab's code quality report.
func CodeQuality(run *Run) ([]byte, error) {
	issues := []codeIssue{}
	seen := map[string]int{}
	for _, st := range run.Stages {
		for _, f := range counting(st.Findings) {
			file, line := place(f.Location)
			if file == "" {
				continue
			}
			// The line is no part of the fingerprint: what moves within a file is no new issue. The same one a second time is.
			key := strings.Join([]string{st.Stage, f.ID, file, f.Message}, "\x00")
			seen[key]++
			issues = append(issues, codeIssue{Description: f.Message, CheckName: f.ID, Fingerprint: fingerprint(key, strconv.Itoa(seen[key])),
				Severity: codeSeverities[f.Severity], Location: codeLocation{file, codeLines{line}}})
		}
	}
	return indented(issues)
}

// place splits "path:line:column"; a package URL, or no location, has no place in the source.
func place(location string) (file string, line int) {
	parts := strings.Split(location, ":")
	if location == "" || parts[0] == "pkg" || path.IsAbs(parts[0]) {
		return "", 0
	}
	line = 1
	if len(parts) > 1 {
		if n, err := strconv.Atoi(parts[1]); err == nil && n > 0 {
			line = n
		}
	}
	return parts[0], line
}

func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// securityReport is GitLab's container scanning report.
//
// Source: https://gitlab.com/gitlab-org/security-products/security-report-schemas, version 15
type securityReport struct {
	Version         string          `json:"version"`
	Scan            securityScan    `json:"scan"`
	Vulnerabilities []vulnerability `json:"vulnerabilities"`
}

type securityScan struct {
	Analyzer  scanner `json:"analyzer"`
	Scanner   scanner `json:"scanner"`
	StartTime string  `json:"start_time"`
	EndTime   string  `json:"end_time"`
	Status    string  `json:"status"`
	Type      string  `json:"type"`
}

type scanner struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	URL     string            `json:"url"`
	Version string            `json:"version"`
	Vendor  map[string]string `json:"vendor"`
}

type vulnerability struct {
	ID          string                `json:"id"`
	Name        string                `json:"name"`
	Description string                `json:"description"`
	Severity    string                `json:"severity"`
	Solution    string                `json:"solution,omitempty"`
	Identifiers []identifier          `json:"identifiers"`
	Links       []map[string]string   `json:"links,omitempty"`
	Location    vulnerabilityLocation `json:"location"`
}

type identifier struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
	URL   string `json:"url,omitempty"`
}

type vulnerabilityLocation struct {
	Dependency      dependency `json:"dependency"`
	OperatingSystem string     `json:"operating_system"`
	Image           string     `json:"image"`
}

type dependency struct {
	Package map[string]string `json:"package"`
	Version string            `json:"version"`
}

// ContainerScanning is what is known to be wrong with the packages in the image, as GitLab's container scanning report. What an exception covers is
// left out. It is nil when no scan ran: an empty report would say that there is nothing.
func ContainerScanning(run *Run) ([]byte, error) {
	i := slices.IndexFunc(run.Stages, func(s Stage) bool { return s.Stage == "scan" && s.Dir != "" })
	if i < 0 {
		return nil, nil
	}
	st := run.Stages[i]
	version := "unknown"
	for _, t := range st.Tools {
		if t.Name == "slipway" {
			version = t.Version
		}
	}
	by := scanner{ID: "slipway", Name: "Slipway", URL: "https://github.com/slipwayhq/slipway", Version: version, Vendor: map[string]string{"name": "Slipway"}}
	rep := securityReport{Version: "15.2.1", Vulnerabilities: []vulnerability{}, Scan: securityScan{Analyzer: by, Scanner: by, Status: "success",
		Type: "container_scanning", StartTime: run.at(st.Start), EndTime: run.at(st.Start + st.Seconds)}}
	if !st.Verdict.OK() && st.Verdict != result.Fail {
		rep.Scan.Status = "failure"
	}
	image := run.Name
	for _, r := range run.References {
		image = r.Reference
	}
	for _, f := range st.Findings {
		p, err := packageurl.FromString(f.Location)
		if err != nil || f.Status == "excepted" || strings.HasPrefix(f.ID, "license-") || f.ID == "unsupported-distribution" {
			continue
		}
		v := vulnerability{ID: fingerprint(f.ID, f.Location), Name: f.ID, Description: f.Message, Severity: gitlabSeverity(f.Severity), Solution: f.Fix,
			Identifiers: []identifier{{Type: identifierType(f.ID), Name: f.ID, Value: f.ID, URL: f.URL}},
			Location: vulnerabilityLocation{Image: image, OperatingSystem: cmp.Or(p.Qualifiers.Map()["distro"], "unknown"),
				Dependency: dependency{Package: map[string]string{"name": path.Join(p.Namespace, p.Name)}, Version: p.Version}}}
		if f.URL != "" {
			v.Links = []map[string]string{{"url": f.URL}}
		}
		rep.Vulnerabilities = append(rep.Vulnerabilities, v)
	}
	return indented(rep)
}

// at is a moment of the run in the form that GitLab wants, or the epoch when the run does not say when it began.
func (r *Run) at(seconds float64) string {
	began, err := time.Parse(time.RFC3339, r.Started)
	if err != nil {
		began = time.Unix(0, 0)
	}
	return began.UTC().Add(time.Duration(seconds * float64(time.Second))).Format("2006-01-02T15:04:05")
}

func gitlabSeverity(s result.Severity) string {
	if s == "" {
		return "Unknown"
	}
	return strings.ToUpper(string(s[:1])) + string(s[1:])
}

// identifierType is the catalogue that an identifier is from: "cve", "ghsa", "go".
func identifierType(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	return strings.ToLower(prefix)
}

func indented(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
