package statement

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Kind is what evidence is about: a predicate type and, of test results, the stage whose result it is. A linter's good result is no
// test's.
type Kind struct {
	PredicateType string
	Stage         string
}

// kinds are those with short names, as in slipway.yaml.
var kinds = map[string]Kind{
	"spdx":       {PredicateType: SPDX},
	"cyclonedx":  {PredicateType: CycloneDX},
	"scan":       {PredicateType: Scan},
	"test":       {PredicateType: Test, Stage: "test"},
	"lint":       {PredicateType: Test, Stage: "lint"},
	"provenance": {PredicateType: Provenance},
	"promotion":  {PredicateType: Promotion},
}

// KindNames are the short names, sorted.
func KindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// ReportPrefix stands before the name of a team's own report, where evidence is named.
const ReportPrefix = "report:"

// reportName is what a report may be called: it becomes a file's name and a word in slipway.yaml.
var reportName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// own are the stages whose results have a meaning of their own here.
var own = []string{"build", "lint", "scan", "test"}

// CheckReportName reports why a team's own report cannot be called name.
func CheckReportName(name string) error {
	switch {
	case !reportName.MatchString(name):
		return result.Inputf("a report named %q: a name has small letters, digits and dashes, begins with a letter, and is at most 63 long", name)
	case slices.Contains(own, name):
		return result.Inputf("a report named %q: that is the result of a stage of Slipway's own", name)
	}
	return nil
}

// ParseKind resolves a short name; the URI of a predicate type is its own.
func ParseKind(name string) (Kind, error) {
	if k, ok := kinds[name]; ok {
		return k, nil
	}
	if report, ok := strings.CutPrefix(name, ReportPrefix); ok {
		if err := CheckReportName(report); err != nil {
			return Kind{}, err
		}
		return Kind{PredicateType: Test, Stage: report}, nil
	}
	if !strings.Contains(name, "://") {
		return Kind{}, result.Inputf("unknown evidence %q: use one of %s, %sNAME for a report of your own, or a predicate type's URI", name,
			strings.Join(KindNames(), ", "), ReportPrefix)
	}
	if name == Test {
		return kinds["test"], nil
	}
	return Kind{PredicateType: name}, nil
}

// Kind tells what s is about. A test result that names no stage is the tests'.
func (s *Statement) Kind() Kind {
	k := Kind{PredicateType: s.PredicateType}
	if s.PredicateType != Test {
		return k
	}
	var p struct {
		Stage string `json:"stage"`
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil || p.Stage == "" {
		p.Stage = "test"
	}
	k.Stage = p.Stage
	return k
}

// String is the short name, if there is one.
func (k Kind) String() string {
	for name, known := range kinds {
		if known == k {
			return name
		}
	}
	if k.Stage != "" {
		return ReportPrefix + k.Stage
	}
	return k.PredicateType
}
