// Package publish pushes a built image with its signatures to a registry. The tag comes last: what carries a tag is whole.
package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/signed"
)

// Inputs are the stage's.
type Inputs struct {
	Layout string
	// Signed is the sign stage's directory; empty publishes without a signature.
	Signed string
	// Reference is where to; without a tag the image is reachable by its digest alone.
	Reference string
	// MoveTag lets an existing tag point to this image from now on.
	MoveTag bool
	Client  *oci.Client
}

// ErrTagTaken refuses to move a tag.
var ErrTagTaken = errors.New("the tag exists with another digest")

// Run pushes. A second run with the same inputs changes nothing.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	idx, err := oci.Index(in.Layout)
	if err != nil {
		return nil, err
	}
	digest, err := idx.Digest()
	if err != nil {
		return nil, err
	}
	var sigs *signed.Bundle
	if in.Signed != "" {
		if sigs, err = signed.Read(in.Signed); err != nil {
			return nil, err
		}
		if sigs.Digest != digest.String() {
			return nil, result.Inputf("the signatures are for %s, and the image is %s", sigs.Digest, digest)
		}
	}
	ref, err := in.Client.Reference(in.Reference)
	if err != nil {
		return nil, err
	}
	tag := oci.Tag(in.Reference)
	if err := CheckTag(ctx, in.Client, ref, tag, digest, in.MoveTag); err != nil {
		return nil, err
	}
	image := ref.Context().Digest(digest.String())
	if err := remote.WriteIndex(image, idx, in.Client.Options(ctx)...); err != nil {
		return nil, fmt.Errorf("pushing %s: %w", image, oci.Explain(err, ref))
	}
	added := 0
	if sigs != nil {
		if added, err = sigs.Attach(ctx, image, []ociremote.Option{ociremote.WithRemoteOptions(in.Client.Options(ctx)...)}); err != nil {
			return nil, fmt.Errorf("%s: %w", image, oci.Explain(err, ref))
		}
	}
	if tag != "" {
		if err := SetTag(ctx, in.Client, ref.Context().Tag(tag), image); err != nil {
			return nil, err
		}
	}
	return Released(image, tag, fmt.Sprintf("%s (%d signatures and attestations added)", image, added)), nil
}

// Released is the result of a stage that left an image in a registry.
func Released(image name.Digest, tag, summary string) *result.Result {
	r := &result.Result{
		Verdict: result.Pass,
		Summary: summary,
		Outputs: map[string]string{"reference": image.String(), "digest": image.DigestStr()},
	}
	if tag != "" {
		r.Outputs["tag"] = tag
		r.Summary = image.Context().Tag(tag).String() + " is " + summary
	}
	return r
}

// CheckTag refuses a tag that exists with another digest, unless it may move.
func CheckTag(ctx context.Context, c *oci.Client, ref name.Reference, tag string, digest v1.Hash, move bool) error {
	if tag == "" || move {
		return nil
	}
	have, ok, err := c.Digest(ctx, ref.Context().Tag(tag))
	if err != nil {
		return fmt.Errorf("looking up %s: %w", ref, err)
	}
	if ok && have != digest {
		return result.Inputf("%s: %w: it is %s, and this image is %s: choose another tag, or let it move with --move-tag", ref, ErrTagTaken, have, digest)
	}
	return nil
}

// SetTag lets tag point to an image that the repository has.
func SetTag(ctx context.Context, c *oci.Client, tag name.Tag, image name.Digest) error {
	desc, err := remote.Get(image, c.Options(ctx)...)
	if err != nil {
		return fmt.Errorf("reading back %s: %w", image, oci.Explain(err, image))
	}
	if err := remote.Tag(tag, desc, c.Options(ctx)...); err != nil {
		return fmt.Errorf("tagging %s: %w", tag, oci.Explain(err, tag))
	}
	return nil
}
