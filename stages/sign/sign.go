// Package sign signs a digest and the statements about it. It is the only stage that sees the private key, and it sees nothing else:
// no registry, no image, no source.
package sign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/cosign/v2/pkg/types"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/slipwayhq/slipway/stages/internal/keyring"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/signed"
	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// Inputs are the stage's.
type Inputs struct {
	// Digest is the image index's.
	Digest string
	// Repository is what the signature names.
	Repository string
	// Statements is a directory of in-toto statements.
	Statements string
	// Key is a PEM file or a key management service's URI, Password the PEM file's; it may be empty.
	Key      string
	Password []byte
	Out      string
}

// Run signs. Every statement has to be about the digest: the key vouches for nothing else.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	ref, err := name.NewDigest(in.Repository + "@" + in.Digest)
	if err != nil {
		return nil, result.Inputf("image %s@%s: %w", in.Repository, in.Digest, err)
	}
	statements, err := readStatements(in)
	if err != nil {
		return nil, err
	}
	signer, err := keyring.Signer(ctx, in.Key, in.Password)
	if err != nil {
		return nil, err
	}
	b := &signed.Bundle{Digest: in.Digest}
	if b.PublicKey, err = publicKey(ctx, signer); err != nil {
		return nil, err
	}
	if b.Payload, err = (payload.Cosign{Image: ref}).MarshalJSON(); err != nil {
		return nil, err
	}
	sig, err := signer.SignMessage(bytes.NewReader(b.Payload), options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("signing the image: %w", err)
	}
	b.Signature = base64.StdEncoding.EncodeToString(sig)
	envelopes := dsse.WrapSigner(signer, types.IntotoPayloadType)
	for _, s := range statements {
		data, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		envelope, err := envelopes.SignMessage(bytes.NewReader(data), options.WithContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("signing the %s statement: %w", s.Kind(), err)
		}
		b.Attestations = append(b.Attestations, signed.Attestation{PredicateType: s.PredicateType, Envelope: envelope})
	}
	if err := b.Write(filepath.Join(in.Out, signed.Dir)); err != nil {
		return nil, err
	}
	return &result.Result{
		Verdict: result.Pass,
		Summary: fmt.Sprintf("signed %s and %d statements", in.Digest, len(statements)),
		Outputs: map[string]string{"digest": in.Digest},
	}, nil
}

// Try opens the key and reports which one it is, without signing anything.
func Try(ctx context.Context, key string, password []byte) (*result.Result, error) {
	signer, err := keyring.Signer(ctx, key, password)
	if err != nil {
		return nil, err
	}
	fingerprint, err := keyring.Fingerprint(ctx, signer)
	if err != nil {
		return nil, err
	}
	return &result.Result{Stage: "key", Verdict: result.Pass, Summary: "opens; its public half is " + fingerprint}, nil
}

func publicKey(ctx context.Context, signer signature.Signer) ([]byte, error) {
	key, err := signer.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("asking for the public key: %w", err)
	}
	return cryptoutils.MarshalPublicKeyToPEM(key)
}

func readStatements(in Inputs) ([]*statement.Statement, error) {
	entries, err := os.ReadDir(in.Statements)
	if err != nil {
		return nil, result.Inputf("reading statements: %w", err)
	}
	var out []*statement.Statement
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(in.Statements, e.Name()))
		if err != nil {
			return nil, result.Inputf("reading statements: %w", err)
		}
		s, err := statement.Parse(data)
		if err != nil {
			return nil, result.Inputf("%s: %w", e.Name(), err)
		}
		if !s.About(in.Digest) {
			return nil, result.Inputf("%s is about %v, not about %s", e.Name(), slices.Collect(subjects(s)), in.Digest)
		}
		out = append(out, s)
	}
	return out, nil
}

func subjects(s *statement.Statement) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, r := range s.Subject {
			for a, h := range r.Digest {
				if !yield(a + ":" + h) {
					return
				}
			}
		}
	}
}
