// Package signed is what the sign stage hands to publish and promote: signatures on disk, and their way into a registry.
package signed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Dir is the sign stage's directory, relative to its output directory.
const Dir = "signed"

// PublicKeyName is the file with the public key that belongs to the signatures.
const PublicKeyName = "key.pub"

const bundleName = "bundle.json"

// Bundle is a signature of a digest and signed statements about it.
type Bundle struct {
	Digest string `json:"digest"`
	// Payload is cosign's simple signing document, Signature its signature in base64.
	Payload      []byte        `json:"payload"`
	Signature    string        `json:"signature"`
	Attestations []Attestation `json:"attestations"`
	PublicKey    []byte        `json:"publicKey"`
}

// Attestation is a DSSE envelope around an in-toto statement.
type Attestation struct {
	PredicateType string          `json:"predicateType"`
	Envelope      json.RawMessage `json:"envelope"`
}

// Write puts b into dir.
func (b *Bundle) Write(dir string) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, PublicKeyName), b.PublicKey, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, bundleName), data, 0o644)
}

// Read loads the bundle in dir.
func Read(dir string) (*Bundle, error) {
	data, err := os.ReadFile(filepath.Join(dir, bundleName))
	if err != nil {
		return nil, result.Inputf("reading signatures: %w", err)
	}
	b, err := Parse(data)
	if err != nil {
		return nil, result.Inputf("reading signatures: %s: %w", bundleName, err)
	}
	return b, nil
}

// Parse decodes a bundle.
func Parse(data []byte) (*Bundle, error) {
	var b Bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(b.Digest, "sha256:") || len(b.Payload) == 0 || b.Signature == "" {
		return nil, fmt.Errorf("it lacks a digest, a payload or a signature")
	}
	return &b, nil
}
