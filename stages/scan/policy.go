package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// kind is what a finding is about.
type kind string

const (
	vulnKind   kind = "vulnerability"
	licence    kind = "licence"
	secretKind kind = "secret"
	misconfig  kind = "misconfiguration"
	unjudged   kind = "unjudged"
)

// finding is a result.Finding with what the policy needs to know.
type finding struct {
	result.Finding
	kind kind
	// pkg is the package's name, path the file's; one of them is set.
	pkg, path string
	fixable   bool
	allowed   bool
}

// Why a finding does not count towards the verdict.
const (
	statusExcepted = "excepted"
	statusBelow    = "below-threshold"
	statusUnfixed  = "unfixed"
	statusAllowed  = "allowed"
	statusUnused   = "unused-exception"
)

// judge holds findings against the policy.
func judge(all []finding, policy config.Scan, now time.Time) *result.Result {
	r := &result.Result{Verdict: result.Pass, Metrics: map[string]float64{}}
	threshold, err := result.ParseSeverity(policy.Severity)
	if err != nil {
		threshold = result.Low // the configuration was checked; whatever else comes here must not open the gate
	}
	today := now.UTC().Truncate(24 * time.Hour)
	used := make([]bool, len(policy.Exceptions))
	failing := 0
	for _, f := range all {
		f.Status = status(f, policy, threshold)
		for i, e := range policy.Exceptions {
			if !matches(e, f) {
				continue
			}
			used[i] = true
			expiry := e.Expires.Format(time.DateOnly)
			if today.After(e.Expires.Time) {
				f.Note = fmt.Sprintf("the exception in slipway.yaml:%d expired on %s", e.Line, expiry)
				continue
			}
			f.Status, f.Note = statusExcepted, fmt.Sprintf("until %s: %s", expiry, e.Reason)
		}
		if f.Status == "" {
			failing++
		}
		r.Metrics[string(f.Severity)]++
		r.Findings = append(r.Findings, f.Finding)
	}
	for i, e := range policy.Exceptions {
		if today.After(e.Expires.Time) {
			failing++
			r.Findings = append(r.Findings, result.Finding{ID: e.ID, Severity: result.High, Location: fmt.Sprintf("slipway.yaml:%d", e.Line),
				Message: "the exception expired on " + e.Expires.Format(time.DateOnly), Fix: "mend the finding, or decide again and set a later date"})
		} else if !used[i] {
			r.Findings = append(r.Findings, result.Finding{ID: e.ID, Severity: result.Low, Status: statusUnused, Location: fmt.Sprintf("slipway.yaml:%d", e.Line),
				Message: "the exception matches nothing", Fix: "remove it"})
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b result.Finding) int {
		return cmp.Or(b.Severity.Rank()-a.Severity.Rank(), strings.Compare(a.ID, b.ID), strings.Compare(a.Location, b.Location))
	})
	r.Metrics["failing"] = float64(failing)
	r.Summary = fmt.Sprintf("%d found, %d of them count (severity %s and above)", len(r.Findings), failing, threshold)
	if failing > 0 {
		r.Verdict = result.Fail
	}
	return r
}

func status(f finding, policy config.Scan, threshold result.Severity) string {
	switch {
	case f.allowed:
		return statusAllowed
	case f.Severity == result.Unknown && (f.kind == vulnKind || f.kind == unjudged):
		return "" // nobody said that it is harmless
	case f.Severity.Rank() < threshold.Rank():
		return statusBelow
	case policy.FixableOnly && f.kind == vulnKind && !f.fixable:
		return statusUnfixed
	}
	return ""
}

func matches(e config.Exception, f finding) bool {
	if e.ID != f.ID {
		return false
	}
	if e.Package != "" && e.Package != f.pkg && !strings.HasPrefix(f.Location, e.Package+"@") {
		return false
	}
	if e.Path == "" {
		return true
	}
	ok, err := doublestar.Match(e.Path, f.path)
	return err == nil && ok
}

// skipped reports whether the policy leaves path out of the source scans.
func skipped(path string, globs []string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := doublestar.Match(strings.TrimSuffix(g, "/"), path)
		if err == nil && !ok {
			ok, err = doublestar.Match(strings.TrimSuffix(g, "/")+"/**", path)
		}
		return err == nil && ok
	})
}
