// Package sarif writes findings as SARIF 2.1.0, which code scanning services show beside the code.
//
// Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
package sarif

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

type (
	log struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []run  `json:"runs"`
	}
	run struct {
		Tool    tool    `json:"tool"`
		Results []entry `json:"results"`
	}
	tool struct {
		Driver driver `json:"driver"`
	}
	driver struct {
		Name           string `json:"name"`
		InformationURI string `json:"informationUri"`
		Rules          []rule `json:"rules"`
	}
	rule struct {
		ID         string         `json:"id"`
		HelpURI    string         `json:"helpUri,omitempty"`
		Properties map[string]any `json:"properties,omitempty"`
	}
	entry struct {
		RuleID       string        `json:"ruleId"`
		Level        string        `json:"level"`
		Message      text          `json:"message"`
		Locations    []location    `json:"locations,omitempty"`
		Suppressions []suppression `json:"suppressions,omitempty"`
	}
	text struct {
		Text string `json:"text"`
	}
	location struct {
		PhysicalLocation physical `json:"physicalLocation"`
	}
	physical struct {
		ArtifactLocation artifact `json:"artifactLocation"`
		Region           *region  `json:"region,omitempty"`
	}
	artifact struct {
		URI string `json:"uri"`
	}
	region struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	suppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification,omitempty"`
	}
)

// scores are what GitHub reads as security-severity.
var scores = map[result.Severity]string{result.Critical: "9.5", result.High: "8.0", result.Medium: "5.5", result.Low: "2.0"}

// Write writes findings to path. A finding whose status says that it does not count is suppressed.
func Write(path, toolName string, findings []result.Finding) error {
	r := run{Tool: tool{driver{Name: toolName, InformationURI: "https://github.com/slipwayhq/slipway", Rules: []rule{}}}, Results: []entry{}}
	known := map[string]bool{}
	for _, f := range findings {
		if !known[f.ID] {
			known[f.ID] = true
			ru := rule{ID: f.ID, HelpURI: f.URL}
			if s, ok := scores[f.Severity]; ok {
				ru.Properties = map[string]any{"security-severity": s}
			}
			r.Tool.Driver.Rules = append(r.Tool.Driver.Rules, ru)
		}
		e := entry{RuleID: f.ID, Level: level(f.Severity), Message: text{message(f)}}
		if f.Location != "" {
			e.Locations = []location{locate(f.Location)}
		}
		if f.Status != "" {
			e.Suppressions = []suppression{{Kind: "external", Justification: strings.TrimSpace(f.Status + " " + f.Note)}}
		}
		r.Results = append(r.Results, e)
	}
	b, err := json.MarshalIndent(log{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []run{r}}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func message(f result.Finding) string {
	if f.Fix == "" {
		return f.Message
	}
	return f.Message + "\nfix: " + f.Fix
}

func level(s result.Severity) string {
	switch s {
	case result.Critical, result.High:
		return "error"
	case result.Medium:
		return "warning"
	case result.Low, result.Info, result.Unknown:
	}
	return "note"
}

// locate understands path, path:line and path:line:column; a package URL stands for itself.
func locate(s string) location {
	p := physical{ArtifactLocation: artifact{URI: s}}
	if strings.HasPrefix(s, "pkg:") {
		p.ArtifactLocation.URI = "go.mod" // a package has no line of its own: its manifest has
		return location{p}
	}
	parts := strings.Split(s, ":")
	if len(parts) > 1 {
		if line, err := strconv.Atoi(parts[1]); err == nil && line > 0 {
			p.ArtifactLocation.URI, p.Region = parts[0], &region{StartLine: line}
			if len(parts) > 2 {
				p.Region.StartColumn, _ = strconv.Atoi(parts[2]) // absent when it is no number
			}
		}
	}
	return location{p}
}
