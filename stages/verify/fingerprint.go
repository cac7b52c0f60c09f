package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/sigstore/sigstore/pkg/signature"
)

// fingerprint names a key: the SHA-256 of its public half, as in "openssl pkey -pubin -outform der | sha256sum".
func fingerprint(v signature.Verifier) string {
	key, err := v.PublicKey()
	if err != nil {
		return "unknown"
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}
