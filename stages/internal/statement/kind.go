package statement

import (
	"encoding/json"
	"maps"
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

// ParseKind resolves a short name; the URI of a predicate type is its own.
func ParseKind(name string) (Kind, error) {
	if k, ok := kinds[name]; ok {
		return k, nil
	}
	if !strings.Contains(name, "://") {
		return Kind{}, result.Inputf("unknown evidence %q: use a predicate type's URI or one of %s", name,
			strings.Join(KindNames(), ", "))
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
		return k.Stage
	}
	return k.PredicateType
}
