// Package keys makes the key pair that a newcomer signs with, in the format of the cosign command line.
package keys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sigstore/cosign/v2/pkg/cosign"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The files that Write makes.
const (
	PrivateName = "cosign.key"
	PublicName  = "cosign.pub"
)

// ErrNoPassword refuses a private key that anybody who finds it can use.
var ErrNoPassword = errors.New("the password is empty: give one, such as --password env:COSIGN_PASSWORD")

// Write makes an ECDSA P-256 key pair in dir: the private key encrypted with password and readable by its owner only.
func Write(dir string, password []byte) error {
	password = bytes.TrimRight(password, "\r\n")
	if len(password) == 0 {
		return result.Input(ErrNoPassword)
	}
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return fmt.Errorf("generating key pair: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, PrivateName), pair.PrivateBytes, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, PublicName), pair.PublicBytes, 0o644)
}
