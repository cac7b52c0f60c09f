// Package keys makes the key pair that a newcomer signs with, in the format of the cosign command line.
package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

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
	private, public, err := generate(password)
	if err != nil {
		return fmt.Errorf("generating key pair: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, PrivateName), private, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, PublicName), public, 0o644)
}

// generate does what cosign's GenerateKeyPair does, with the library that cosign encrypts with. Cosign's own package brings all of
// cosign: a newcomer would wait minutes for a key.
func generate(password []byte) (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	box, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: box}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), nil
}
