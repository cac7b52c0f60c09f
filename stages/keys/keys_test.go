package keys

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, []byte("secret\n")); err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(filepath.Join(dir, PrivateName))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, PrivateName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: mode %v, %v", info.Mode(), err)
	}
	signer, err := cosign.LoadPrivateKey(private, []byte("secret"), nil)
	if err != nil {
		t.Fatalf("the private key does not open with its password: %v", err)
	}
	if _, err := cosign.LoadPrivateKey(private, []byte("wrong"), nil); err == nil {
		t.Error("the private key opens with a wrong password")
	}
	public, err := signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	want, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, PublicName)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s does not belong to the private key: %v", PublicName, err)
	}
}

func TestWriteWithoutPassword(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	err := Write(dir, []byte("\n"))
	if !errors.Is(err, ErrNoPassword) || !result.IsInput(err) {
		t.Errorf("error = %v, want an input error that is ErrNoPassword", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}
