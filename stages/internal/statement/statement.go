// Package statement reads and writes in-toto Statement v1: what is claimed about a digest.
//
// Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
package statement

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Type is the _type of every statement.
const Type = "https://in-toto.io/Statement/v1"

// The predicate types on the street.
const (
	SPDX       = "https://spdx.dev/Document"
	CycloneDX  = "https://cyclonedx.org/bom"
	Scan       = "https://in-toto.io/attestation/vulns/v0.2"
	Test       = "https://in-toto.io/attestation/test-result/v0.1"
	Provenance = "https://slsa.dev/provenance/v1"
	Summary    = "https://slsa.dev/verification_summary/v1"
	Promotion  = "https://slipway.dev/attestations/promotion/v1"
	Deployment = "https://slipway.dev/attestations/deployment/v1"
)

// Statement is a claim about its subjects.
type Statement struct {
	Type          string            `json:"_type"`
	Subject       []result.Resource `json:"subject"`
	PredicateType string            `json:"predicateType"`
	Predicate     json.RawMessage   `json:"predicate"`
}

// Verdict is what Slipway adds to the predicates of scan and test: in-toto lets readers ignore what they do not know.
type Verdict struct {
	Verdict result.Verdict     `json:"verdict"`
	Summary string             `json:"summary"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Time is when it was decided, RFC 3339 in UTC.
	Time string `json:"time"`
}

// VerdictKey is where a predicate holds the Verdict.
const VerdictKey = "slipway"

// New makes a statement; predicate is anything that encoding/json takes.
func New(subject []result.Resource, predicateType string, predicate any) (*Statement, error) {
	raw, err := json.Marshal(predicate)
	if err != nil {
		return nil, fmt.Errorf("encoding predicate %s: %w", predicateType, err)
	}
	s := &Statement{Type: Type, Subject: subject, PredicateType: predicateType, Predicate: raw}
	return s, s.Validate()
}

// Parse decodes a statement from outside.
func Parse(data []byte) (*Statement, error) {
	var s Statement
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decoding statement: %w", err)
	}
	return &s, s.Validate()
}

// Validate reports what makes s no statement.
func (s *Statement) Validate() error {
	switch {
	case s.Type != Type && s.Type != "https://in-toto.io/Statement/v0.1":
		return fmt.Errorf("statement has _type %q, want %q", s.Type, Type)
	case s.PredicateType == "":
		return errors.New("statement has no predicateType")
	case len(s.Subject) == 0:
		return errors.New("statement has no subject")
	case len(s.Predicate) == 0:
		return errors.New("statement has no predicate")
	}
	for i, r := range s.Subject {
		if len(r.Digest) == 0 {
			return fmt.Errorf("subject %d of the statement has no digest", i)
		}
	}
	return nil
}

// Claim is the statement as JSON without the predicate's own time and timeVerified: a promotion done twice is one promotion. The times
// that count, those of a scan or a test, lie deeper and stay.
func (s *Statement) Claim() ([]byte, error) {
	var predicate map[string]any
	if err := json.Unmarshal(s.Predicate, &predicate); err != nil {
		return nil, fmt.Errorf("decoding predicate %s: %w", s.PredicateType, err)
	}
	delete(predicate, "time")
	delete(predicate, "timeVerified")
	return json.Marshal(map[string]any{"subject": s.Subject, "predicateType": s.PredicateType, "predicate": predicate})
}

// About reports whether digest ("sha256:<hex>") is among the subjects.
func (s *Statement) About(digest string) bool {
	algorithm, hex, ok := strings.Cut(digest, ":")
	return ok && slices.ContainsFunc(s.Subject, func(r result.Resource) bool { return hex != "" && r.Digest[algorithm] == hex })
}
