// Package keyring opens the keys that releases are signed and verified with: PEM files and key management services.
package keyring

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"        // awskms://
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure"      // azurekms://
	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp"        // gcpkms://
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault" // hashivault://
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// maxKey bounds a key file in bytes.
const maxKey = 1 << 20

// Signer opens a private key: a PEM file (cosign's own encrypted form, PKCS#8, PKCS#1 or SEC 1), or a key management service's URI.
func Signer(ctx context.Context, key string, password []byte) (signature.Signer, error) {
	if isKMS(key) {
		s, err := kms.Get(ctx, key, crypto.SHA256)
		return s, explainKMS(key, err)
	}
	data, err := read(key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, result.Inputf("the private key is not PEM: give a key made by key-pair or by cosign generate-key-pair")
	}
	if strings.Contains(block.Type, "ENCRYPTED") {
		s, err := cosign.LoadPrivateKey(data, password, nil)
		if err != nil {
			return nil, result.Inputf("the private key does not open: check its password: %w", err)
		}
		return s, nil
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(data, cryptoutils.StaticPasswordFunc(password))
	if err != nil {
		return nil, result.Inputf("reading the private key: %w", err)
	}
	s, err := signature.LoadSigner(private, crypto.SHA256)
	return s, result.Input(err)
}

// Verifier opens a public key: a PEM file, or a key management service's URI.
func Verifier(ctx context.Context, key string) (signature.Verifier, error) {
	if isKMS(key) {
		v, err := kms.Get(ctx, key, crypto.SHA256)
		return v, explainKMS(key, err)
	}
	data, err := read(key)
	if err != nil {
		return nil, err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(data)
	if err != nil {
		return nil, result.Inputf("reading the public key: %w: give the cosign.pub that belongs to the private key", err)
	}
	v, err := signature.LoadVerifier(public, crypto.SHA256)
	return v, result.Input(err)
}

// Fingerprint names a key: the SHA-256 of its public half, as in "openssl pkey -pubin -outform der | sha256sum".
func Fingerprint(ctx context.Context, key signature.PublicKeyProvider) (string, error) {
	public, err := key.PublicKey(options.WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("asking for the public key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(der)), nil
}

func isKMS(key string) bool { return strings.Contains(key, "://") }

func explainKMS(key string, err error) error {
	if err == nil {
		return nil
	}
	scheme, _, _ := strings.Cut(key, "://")
	if _, ok := errors.AsType[*kms.ProviderNotFoundError](err); ok {
		return result.Inputf("unknown key management service %q: use one of %s", scheme, strings.Join(kms.SupportedProviders(), ", "))
	}
	return fmt.Errorf("opening the key at %s: %w", scheme, err)
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, result.Inputf("reading the key: %w", err)
	}
	if info.Size() > maxKey {
		return nil, result.Inputf("the key has %d bytes: that is no key", info.Size())
	}
	data, err := os.ReadFile(path)
	return data, result.Input(err)
}
