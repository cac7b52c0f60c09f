// Package promote hands a verified release on to another repository, unchanged, and records that.
package promote

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
	"github.com/slipwayhq/slipway/stages/verify"
)

// VerifierID names Slipway in a verification summary.
const VerifierID = "https://slipway.dev/verifier/v1"

// RecordInputs are the record stage's.
type RecordInputs struct {
	// Verification is the verify stage's directory.
	Verification string
	From, To     string
	Now          time.Time
	Out          string
}

// record is the predicate of a promotion.
type record struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Digest      string `json:"digest"`
	Time        string `json:"time"`
	// Policy is what the release had to bring, Evidence what it brought.
	Policy   verify.Policy     `json:"policy"`
	Evidence []verify.Evidence `json:"evidence"`
	// Previous are the promotions that came before, by the digests of their attestations: a chain.
	Previous []string `json:"previous,omitempty"`
}

// Record writes the unsigned statements of a promotion: the record itself, and a SLSA verification summary.
func Record(in RecordInputs) (*result.Result, error) {
	r, err := result.Read(in.Verification)
	if err != nil {
		return nil, result.Inputf("reading the verification: %w", err)
	}
	if r.Verdict != result.Pass {
		return nil, result.Inputf("the verification's verdict is %s: a release that was not verified is not promoted", r.Verdict)
	}
	data, err := os.ReadFile(filepath.Join(in.Verification, verify.FileName))
	if err != nil {
		return nil, result.Inputf("reading the verification: %w", err)
	}
	var v verify.Verification
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, result.Inputf("reading the verification: %s: %w", verify.FileName, err)
	}
	if v.Reference != in.From {
		return nil, result.Inputf("the verification is of %s, not of %s", v.Reference, in.From)
	}
	now := in.Now.UTC().Format(time.RFC3339)
	p := record{Source: in.From, Destination: in.To, Digest: v.Digest, Time: now, Policy: v.Policy}
	for _, e := range v.Evidence {
		if !e.OK {
			continue
		}
		p.Evidence = append(p.Evidence, e)
		if e.Type == statement.Promotion {
			p.Previous = append(p.Previous, e.Digest)
		}
	}
	algorithm, hex, _ := strings.Cut(v.Digest, ":")
	subject := []result.Resource{{Name: in.To, Digest: map[string]string{algorithm: hex}}}
	policy, err := json.Marshal(v.Policy)
	if err != nil {
		return nil, err
	}
	summary := map[string]any{
		"verifier":           map[string]string{"id": VerifierID},
		"timeVerified":       v.Time,
		"resourceUri":        in.From,
		"policy":             map[string]any{"uri": "https://slipway.dev/policy/v1", "digest": map[string]string{"sha256": sha256Hex(policy)}},
		"verificationResult": "PASSED",
		"verifiedLevels":     []string{"SLSA_BUILD_LEVEL_1"},
		"slsaVersion":        "1.0",
	}
	dir := filepath.Join(in.Out, "statements")
	if err := errors.Join(write(dir, "promotion.json", subject, statement.Promotion, p), write(dir, "verification-summary.json", subject, statement.Summary, summary)); err != nil {
		return nil, err
	}
	return &result.Result{
		Verdict: result.Pass,
		Summary: fmt.Sprintf("%s from %s to %s", v.Digest, in.From, in.To),
		Outputs: map[string]string{"digest": v.Digest},
	}, nil
}

func write(dir, name string, subject []result.Resource, predicateType string, predicate any) error {
	s, err := statement.New(subject, predicateType, predicate)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}
