package signed

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestWriteAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), Dir)
	want := &Bundle{Digest: "sha256:ab", Payload: []byte("p"), Signature: "c2ln", PublicKey: []byte("pem"),
		Attestations: []Attestation{{PredicateType: "x://y", Envelope: []byte(`{"payload":"e30="}`)}}}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Read = %+v, %v; want %+v", got, err, want)
	}
	if key, err := os.ReadFile(filepath.Join(dir, PublicKeyName)); err != nil || string(key) != "pem" {
		t.Errorf("public key = %q, %v", key, err)
	}
	if _, err := Read(t.TempDir()); !result.IsInput(err) {
		t.Errorf("nothing there: error = %v, want an input error", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"digest":"sha256:ab","payload":"cA==","signature":"c2ln","attestations":[{"predicateType":"x","envelope":{"payload":"e30="}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			return
		}
		if b.Digest == "" || b.Signature == "" || len(b.Payload) == 0 {
			t.Errorf("accepted %q", data)
		}
		for _, a := range b.Attestations {
			claimOf(a.Envelope)
		}
	})
}
