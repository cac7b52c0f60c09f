// Package scan looks for what is known to be wrong: vulnerabilities and licences in what is shipped, by its SBOM, and secrets and
// misconfiguration in the source. It has no credential and needs no network.
package scan

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/sarif"
	"github.com/slipwayhq/slipway/stages/vulndb"
)

// The files that the stage writes.
const (
	SARIFName = "scan.sarif"
	JSONName  = "scan.json"
	TableName = "table.txt"
	VulnsName = "vulns.json"
)

// Inputs are the stage's.
type Inputs struct {
	// SBOM is the sbom stage's directory.
	SBOM string
	// Database is a directory with Trivy's database.
	Database string
	Source   string
	Policy   config.Scan
	Now      time.Time
	Out      string
}

// Run scans and holds the findings against the policy.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	if err := os.MkdirAll(in.Out, 0o755); err != nil {
		return nil, err
	}
	meta, err := vulndb.ReadMetadata(in.Database)
	if err != nil {
		return nil, result.Inputf("vulnerability database: %w", err)
	}
	var (
		shipped             *shipped
		secrets, misconfigs []finding
		errs                = make([]error, 3)
		wg                  sync.WaitGroup
	)
	wg.Go(func() { shipped, errs[0] = scanShipped(ctx, in.SBOM, in.Database) })
	wg.Go(func() { secrets, errs[1] = scanSecrets(in.Source, in.Policy.Skip) })
	wg.Go(func() { misconfigs, errs[2] = scanMisconfiguration(ctx, in.Source, in.Policy.Skip) })
	wg.Wait()
	for i, what := range []string{"vulnerabilities", "secrets", "misconfiguration"} {
		if errs[i] != nil {
			return nil, fmt.Errorf("looking for %s: %w", what, errs[i])
		}
	}
	all := slices.Concat(shipped.vulnerabilities, licences(shipped.packages, in.Policy.Licenses), secrets, misconfigs)
	r := judge(all, in.Policy, in.Now)
	if verdict, text := vulndb.Judge(meta, time.Duration(in.Policy.MaxDatabaseAge), in.Now); verdict != result.Pass {
		r.Verdict, r.Reason, r.Summary = verdict, text, text
	}
	r.Metrics["packages"] = float64(len(shipped.packages))
	r.Inputs = slices.Concat(shipped.inputs, []result.Resource{{Name: "vulnerability database of " + meta.UpdatedAt.UTC().Format(time.RFC3339)}})
	r.Tools = tools()
	r.Files = []result.File{
		{Path: SARIFName, MediaType: "application/sarif+json"}, {Path: JSONName, MediaType: "application/json"},
		{Path: TableName, MediaType: "text/plain"}, {Path: VulnsName, MediaType: "application/json"},
	}
	return r, in.write(r, all, meta)
}

func (in Inputs) write(r *result.Result, all []finding, meta *vulndb.Metadata) error {
	if err := sarif.Write(filepath.Join(in.Out, SARIFName), "slipway-scan", r.Findings); err != nil {
		return err
	}
	for name, v := range map[string]any{JSONName: map[string]any{"findings": r.Findings}, VulnsName: predicate(all, meta, in.Now)} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(in.Out, name), append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(in.Out, TableName), []byte(table(r.Findings)), 0o644)
}

// predicate is in-toto's for vulnerability scans.
//
// Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/vuln.md
func predicate(all []finding, meta *vulndb.Metadata, now time.Time) map[string]any {
	results := []map[string]any{}
	for _, f := range all {
		if f.kind == vulnKind {
			results = append(results, map[string]any{"id": f.ID, "severity": []map[string]string{{"method": "nvd", "score": string(f.Severity)}},
				"annotations": []map[string]string{{"package": f.Location}}})
		}
	}
	at := now.UTC().Format(time.RFC3339)
	version := ""
	for _, t := range tools() {
		if t.Name == "trivy" {
			version = t.Version
		}
	}
	return map[string]any{
		"scanner": map[string]any{
			"uri": "https://github.com/aquasecurity/trivy", "version": version,
			"db":     map[string]any{"uri": "https://github.com/aquasecurity/trivy-db", "version": fmt.Sprint(meta.Version), "lastUpdate": meta.UpdatedAt.UTC().Format(time.RFC3339)},
			"result": results,
		},
		"metadata": map[string]any{"scanStartedOn": at, "scanFinishedOn": at},
	}
}

// tools names the libraries that decided, with the versions that are linked in.
func tools() []result.Tool {
	names := map[string]string{"github.com/aquasecurity/trivy": "trivy", "github.com/aquasecurity/trivy-checks": "trivy-checks",
		"github.com/aquasecurity/trivy-db": "trivy-db"}
	var out []result.Tool
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if n, ok := names[d.Path]; ok {
				out = append(out, result.Tool{Name: n, Version: d.Version})
			}
		}
	}
	return out
}

// table is the findings for people.
func table(findings []result.Finding) string {
	if len(findings) == 0 {
		return "nothing found\n"
	}
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%-9s %-18s %-20s %s\n", strings.ToUpper(string(f.Severity)), f.Status, f.ID, f.Location)
		fmt.Fprintf(&b, "%-9s %-18s %s\n", "", "", strings.ReplaceAll(f.Message, "\n", " "))
		if f.Fix != "" {
			fmt.Fprintf(&b, "%-9s %-18s fix: %s\n", "", "", f.Fix)
		}
	}
	return b.String()
}
