package promote

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/signed"
	"github.com/slipwayhq/slipway/stages/publish"
)

// Inputs are the promote stage's.
type Inputs struct {
	// From is the verified image by digest: a tag might have moved since.
	From string
	To   string
	// Signed is the directory of the signed promotion records.
	Signed  string
	MoveTag bool
	Client  *oci.Client
}

// Run copies the image, its signatures and attestations, adds the record, and sets the tag last.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	from, err := in.Client.Reference(in.From)
	if err != nil {
		return nil, err
	}
	source, ok := from.(name.Digest)
	if !ok {
		return nil, result.Inputf("reference %q has no digest: promotion takes what was verified, and that is a digest", in.From)
	}
	to, err := in.Client.Reference(in.To)
	if err != nil {
		return nil, err
	}
	records, err := signed.Read(in.Signed)
	if err != nil {
		return nil, err
	}
	if records.Digest != source.DigestStr() {
		return nil, result.Inputf("the promotion record is for %s, and the image is %s", records.Digest, source.DigestStr())
	}
	desc, err := remote.Get(source, in.Client.Options(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", source, oci.Explain(err, source))
	}
	tag := oci.Tag(in.To)
	if err := publish.CheckTag(ctx, in.Client, to, tag, desc.Digest, in.MoveTag); err != nil {
		return nil, err
	}
	target := to.Context().Digest(desc.Digest.String())
	if err := copyImage(ctx, in.Client, desc, target); err != nil {
		return nil, err
	}
	if err := copyEvidence(ctx, in.Client, source, target); err != nil {
		return nil, err
	}
	if _, err := records.Attach(ctx, target, []ociremote.Option{ociremote.WithRemoteOptions(in.Client.Options(ctx)...)}); err != nil {
		return nil, fmt.Errorf("recording the promotion at %s: %w", target, oci.Explain(err, target))
	}
	if tag != "" {
		if err := publish.SetTag(ctx, in.Client, to.Context().Tag(tag), target); err != nil {
			return nil, err
		}
	}
	return publish.Released(target, tag, target.DigestStr()+", promoted from "+source.Context().String()), nil
}

// copyImage copies byte by byte, so that the digest stays.
func copyImage(ctx context.Context, c *oci.Client, desc *remote.Descriptor, target name.Digest) error {
	if desc.MediaType.IsIndex() {
		idx, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		if err := remote.WriteIndex(target, idx, c.Options(ctx)...); err != nil {
			return fmt.Errorf("copying to %s: %w", target, oci.Explain(err, target))
		}
		return nil
	}
	img, err := desc.Image()
	if err != nil {
		return err
	}
	if err := remote.Write(target, img, c.Options(ctx)...); err != nil {
		return fmt.Errorf("copying to %s: %w", target, oci.Explain(err, target))
	}
	return nil
}

// copyEvidence merges the source's signatures and attestations into the target's.
func copyEvidence(ctx context.Context, c *oci.Client, source, target name.Digest) error {
	opts := ociremote.WithRemoteOptions(c.Options(ctx)...)
	have, err := ociremote.SignedEntity(source, opts)
	if err != nil {
		return fmt.Errorf("reading the evidence of %s: %w", source, oci.Explain(err, source))
	}
	there, err := ociremote.SignedEntity(target, opts)
	if err != nil {
		return fmt.Errorf("reading the evidence of %s: %w", target, oci.Explain(err, target))
	}
	merged, changed, err := merge(have, there)
	if err != nil {
		return fmt.Errorf("merging the evidence of %s: %w", target, err)
	}
	if !changed {
		return nil
	}
	if err := ociremote.WriteSignatures(target.Repository, merged, opts); err != nil {
		return fmt.Errorf("copying signatures to %s: %w", target, oci.Explain(err, target))
	}
	if err := ociremote.WriteAttestations(target.Repository, merged, opts); err != nil {
		return fmt.Errorf("copying attestations to %s: %w", target, oci.Explain(err, target))
	}
	return nil
}
