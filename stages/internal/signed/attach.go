package signed

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/cosign/v2/pkg/oci"
	"github.com/sigstore/cosign/v2/pkg/oci/mutate"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	ctypes "github.com/sigstore/cosign/v2/pkg/types"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// predicateType is the annotation that cosign names an attestation's type with.
const predicateType = "predicateType"

// parallelFetches bounds the requests to a registry at a time.
const parallelFetches = 8

// Attach adds the bundle's signature and attestations to an image in a registry, in the form that every cosign since 1.0 reads. What
// is there already is not added again; added says how many were.
func (b *Bundle) Attach(ctx context.Context, image name.Digest, opts []ociremote.Option) (added int, err error) {
	if image.DigestStr() != b.Digest {
		return 0, fmt.Errorf("the signatures are for %s, not for %s", b.Digest, image.DigestStr())
	}
	entity, err := ociremote.SignedEntity(image, opts...)
	if err != nil {
		return 0, err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(b.PublicKey)
	if err != nil {
		return 0, err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return 0, err
	}
	n, err := b.attachSignature(entity, image, verifier, opts)
	if err != nil {
		return 0, fmt.Errorf("attaching the signature: %w", err)
	}
	m, err := b.attachAttestations(entity, image, verifier, opts)
	if err != nil {
		return 0, fmt.Errorf("attaching attestations: %w", err)
	}
	return n + m, ctx.Err()
}

func (b *Bundle) attachSignature(entity oci.SignedEntity, image name.Digest, verifier signature.Verifier, opts []ociremote.Option) (int, error) {
	present, err := entity.Signatures()
	if err != nil {
		return 0, err
	}
	all, err := present.Get()
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		text, err := s.Payload()
		if err != nil {
			return 0, err
		}
		encoded, err := s.Base64Signature()
		if err != nil {
			return 0, err
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue // somebody else's, and broken: not ours to judge here
		}
		if bytes.Equal(text, b.Payload) && verifier.VerifySignature(bytes.NewReader(raw), bytes.NewReader(text)) == nil {
			return 0, nil
		}
	}
	sig, err := static.NewSignature(b.Payload, b.Signature)
	if err != nil {
		return 0, err
	}
	if entity, err = mutate.AttachSignatureToEntity(entity, sig); err != nil {
		return 0, err
	}
	return 1, ociremote.WriteSignatures(image.Repository, entity, opts...)
}

func (b *Bundle) attachAttestations(
	entity oci.SignedEntity, image name.Digest, verifier signature.Verifier, opts []ociremote.Option,
) (int, error) {
	present, err := entity.Attestations()
	if err != nil {
		return 0, err
	}
	all, err := present.Get()
	if err != nil {
		return 0, err
	}
	known, err := b.claims(all, dsse.WrapVerifier(verifier))
	if err != nil {
		return 0, err
	}
	added := 0
	for _, a := range b.Attestations {
		if slices.Contains(known, claimOf(a.Envelope)) {
			continue
		}
		att, err := static.NewAttestation(a.Envelope, static.WithLayerMediaType(types.MediaType(ctypes.DssePayloadType)),
			static.WithAnnotations(map[string]string{predicateType: a.PredicateType}))
		if err != nil {
			return 0, err
		}
		if entity, err = mutate.AttachAttestationToEntity(entity, att); err != nil {
			return 0, err
		}
		added++
	}
	if added == 0 {
		return 0, nil
	}
	return added, ociremote.WriteAttestations(image.Repository, entity, opts...)
}

// claims are what those of the attestations say that may be the bundle's own: of a type that it has, or of none, and under its key. They are
// fetched a few at a time, because an image gathers dozens, and each is a request.
func (b *Bundle) claims(attestations []oci.Signature, key signature.Verifier) ([]string, error) {
	found := make([]string, len(attestations))
	var group errgroup.Group
	group.SetLimit(parallelFetches)
	for i, a := range attestations {
		annotations, err := a.Annotations()
		if err != nil {
			return nil, err
		}
		named := annotations[predicateType]
		if named != "" && !slices.ContainsFunc(b.Attestations, func(own Attestation) bool { return own.PredicateType == named }) {
			continue
		}
		group.Go(func() error {
			envelope, err := a.Payload()
			if err != nil {
				return err
			}
			if key.VerifySignature(bytes.NewReader(envelope), nil) == nil {
				found[i] = claimOf(envelope)
			}
			return nil
		})
	}
	return found, group.Wait()
}

// claimOf is what an envelope's statement says: the signature beside it differs each time, and so may the time of saying it.
func claimOf(envelope []byte) string {
	var e struct {
		Payload []byte `json:"payload"`
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		return string(envelope)
	}
	s, err := statement.Parse(e.Payload)
	if err != nil {
		return string(e.Payload)
	}
	claim, err := s.Claim()
	if err != nil {
		return string(e.Payload)
	}
	return string(claim)
}
