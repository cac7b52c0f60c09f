package keyring

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/keys"
)

func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func encode(t *testing.T, blockType string) func(der []byte, err error) string {
	return func(der []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return file(t, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
	}
}

// TestSigner signs with every kind of key file that people have, and verifies with its public half.
func TestSigner(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cosign := t.TempDir()
	if err := keys.Write(cosign, []byte("pw")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ path, password string }{
		"cosign's own": {filepath.Join(cosign, keys.PrivateName), "pw"},
		"ECDSA PKCS#8": {encode(t, "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(ec)), ""},
		"Ed25519":      {encode(t, "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(ed)), ""},
		"RSA PKCS#8":   {encode(t, "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(rs)), ""},
		"SEC 1":        {encode(t, "EC PRIVATE KEY")(x509.MarshalECPrivateKey(ec)), ""},
		"RSA PKCS#1":   {encode(t, "RSA PRIVATE KEY")(x509.MarshalPKCS1PrivateKey(rs), nil), ""},
	} {
		t.Run(name, func(t *testing.T) {
			signer, err := Signer(t.Context(), tt.path, []byte(tt.password))
			if err != nil {
				t.Fatal(err)
			}
			sig, err := signer.SignMessage(strings.NewReader("message"))
			if err != nil {
				t.Fatal(err)
			}
			public, err := signer.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := Verifier(t.Context(), encode(t, "PUBLIC KEY")(x509.MarshalPKIXPublicKey(public)))
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.VerifySignature(bytes.NewReader(sig), strings.NewReader("message")); err != nil {
				t.Error(err)
			}
			if err := verifier.VerifySignature(bytes.NewReader(sig), strings.NewReader("another")); err == nil {
				t.Error("the signature holds for another message")
			}
			a, err := Fingerprint(t.Context(), signer)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := Fingerprint(t.Context(), verifier); err != nil || a != b || len(a) != len("sha256:")+64 {
				t.Errorf("fingerprints %s and %s, %v", a, b, err)
			}
		})
	}
}

func TestWrongKeys(t *testing.T) {
	cosign := t.TempDir()
	if err := keys.Write(cosign, []byte("pw")); err != nil {
		t.Fatal(err)
	}
	private, public := filepath.Join(cosign, keys.PrivateName), filepath.Join(cosign, keys.PublicName)
	sign := func(path, password string) error {
		_, err := Signer(t.Context(), path, []byte(password))
		return err
	}
	verify := func(path string) error {
		_, err := Verifier(t.Context(), path)
		return err
	}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"missing file":            {sign("/nonexistent/cosign.key", ""), "/nonexistent/cosign.key"},
		"wrong password":          {sign(private, "wrong"), "password"},
		"no password":             {sign(private, ""), "password"},
		"not PEM":                 {sign(file(t, []byte("hello")), ""), "not PEM"},
		"empty":                   {sign(file(t, nil), ""), "not PEM"},
		"public instead":          {sign(public, ""), "private key"},
		"too large":               {sign(file(t, make([]byte, maxKey+1)), ""), "no key"},
		"unknown service":         {sign("carrierpigeon://coop", ""), "carrierpigeon"},
		"private instead":         {verify(private), "cosign.pub"},
		"unknown service, verify": {verify("carrierpigeon://coop"), "awskms"},
	} {
		if !result.IsInput(tt.err) || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want an input error about %q", name, tt.err, tt.want)
		}
	}
}

func FuzzSigner(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Signer(t.Context(), file(t, data), nil); err != nil && !result.IsInput(err) {
			t.Errorf("a broken key is the caller's to mend: %v", err)
		}
	})
}
