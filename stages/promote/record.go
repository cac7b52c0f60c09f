// Package promote hands a verified release on to another repository, unchanged, and records that.
package promote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// RecordDir is where Record writes, relative to its output directory.
const RecordDir = "statements"

// Record writes the unsigned statements of a promotion to a reference that a verification allows: the record itself, and a SLSA
// verification summary.
func Record(v *verify.Verification, to string, at time.Time, out string) error {
	now := at.UTC().Format(time.RFC3339)
	p := record{Source: v.Reference, Destination: to, Digest: v.Digest, Time: now, Policy: v.Policy}
	for _, e := range v.Evidence {
		if !e.OK {
			continue
		}
		p.Evidence = append(p.Evidence, e)
		if e.Type == statement.Promotion {
			p.Previous = append(p.Previous, e.Digest)
		}
	}
	algorithm, sum, _ := strings.Cut(v.Digest, ":")
	subject := []result.Resource{{Name: to, Digest: map[string]string{algorithm: sum}}}
	policy, err := json.Marshal(v.Policy)
	if err != nil {
		return err
	}
	summary := map[string]any{
		"verifier":           map[string]string{"id": VerifierID},
		"timeVerified":       v.Time,
		"resourceUri":        v.Reference,
		"policy":             map[string]any{"uri": "https://slipway.dev/policy/v1", "digest": map[string]string{"sha256": sha256Hex(policy)}},
		"verificationResult": "PASSED",
		"verifiedLevels":     []string{"SLSA_BUILD_LEVEL_1"},
		"slsaVersion":        "1.0",
	}
	dir := filepath.Join(out, RecordDir)
	return errors.Join(write(dir, "promotion.json", subject, statement.Promotion, p), write(dir, "verification-summary.json", subject, statement.Summary, summary))
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

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
