package promote

import (
	"github.com/sigstore/cosign/v2/pkg/oci"
	"github.com/sigstore/cosign/v2/pkg/oci/mutate"
)

// merge adds to target what only source has. Two pieces are the same when payload and signature are; their manifest tells, so that nothing
// has to be fetched.
func merge(source, target oci.SignedEntity) (merged oci.SignedEntity, changed bool, err error) {
	merged = target
	for _, kind := range []struct {
		list func(oci.SignedEntity) (oci.Signatures, error)
		add  func(oci.SignedEntity, oci.Signature) (oci.SignedEntity, error)
	}{
		{oci.SignedEntity.Signatures, func(e oci.SignedEntity, s oci.Signature) (oci.SignedEntity, error) {
			return mutate.AttachSignatureToEntity(e, s)
		}},
		{oci.SignedEntity.Attestations, func(e oci.SignedEntity, s oci.Signature) (oci.SignedEntity, error) {
			return mutate.AttachAttestationToEntity(e, s)
		}},
	} {
		known := map[string]bool{}
		if err := each(target, kind.list, func(id string, _ oci.Signature) error {
			known[id] = true
			return nil
		}); err != nil {
			return nil, false, err
		}
		if err := each(source, kind.list, func(id string, s oci.Signature) (err error) {
			if known[id] {
				return nil
			}
			known[id], changed = true, true
			merged, err = kind.add(merged, s)
			return err
		}); err != nil {
			return nil, false, err
		}
	}
	return merged, changed, nil
}

func each(e oci.SignedEntity, list func(oci.SignedEntity) (oci.Signatures, error), do func(id string, s oci.Signature) error) error {
	sigs, err := list(e)
	if err != nil {
		return err
	}
	all, err := sigs.Get()
	if err != nil {
		return err
	}
	for _, s := range all {
		payload, err := s.Digest()
		if err != nil {
			return err
		}
		signature, err := s.Base64Signature()
		if err != nil {
			return err
		}
		if err := do(payload.String()+" "+signature, s); err != nil {
			return err
		}
	}
	return nil
}
