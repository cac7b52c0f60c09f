package verify

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/stages/internal/oci"
)

const (
	// readers is how many blobs are read at the same time.
	readers = 4
	// reads is how often a blob is read before a transfer that breaks off is a fault.
	reads = 3
	// maxDepth is how deep indexes may lie in each other.
	maxDepth = 4
)

// content reads everything that the image lists, as somebody who pulls it would, and compares it with the digests that name it.
func (v *verifying) content(ctx context.Context) error {
	puller, err := remote.NewPuller(v.in.Client.Options(ctx)...)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	c := &content{v: v, puller: puller, group: g, seen: map[v1.Hash]bool{}}
	walkErr := c.manifest(ctx, v.image.DigestStr(), 0)
	if err := g.Wait(); err != nil {
		return err
	}
	return walkErr
}

// content is one look at all of an image.
type content struct {
	v      *verifying
	puller *remote.Puller
	group  *errgroup.Group
	seen   map[v1.Hash]bool
	mu     sync.Mutex // guards v's findings while blobs are read
}

func (c *content) fail(id, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.v.fail(id, "publish or promote it again from where it is whole", format, args...)
}

// manifest reads an index or a manifest and all that it lists.
func (c *content) manifest(ctx context.Context, digest string, depth int) error {
	ref := c.v.image.Context().Digest(digest)
	desc, err := c.puller.Get(ctx, ref)
	switch {
	case depth > 0 && oci.NotFound(err):
		c.fail("incomplete-image", "the registry lacks the manifest %s that the image lists", digest)
		return nil
	case changed(err):
		c.fail("changed-image", "what the registry has as manifest %s has another digest: it was changed", digest)
		return nil
	case err != nil:
		return fmt.Errorf("reading %s: %w", ref, oci.Explain(err, ref))
	case depth > maxDepth:
		c.fail("changed-image", "the image's indexes lie more than %d deep in each other", maxDepth)
		return nil
	}
	if desc.MediaType.IsIndex() {
		idx, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		list, err := idx.IndexManifest()
		if err != nil {
			return fmt.Errorf("reading %s: %w", ref, err)
		}
		for _, m := range list.Manifests {
			if c.first(m.Digest) {
				if err := c.manifest(ctx, m.Digest.String(), depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	img, err := desc.Image()
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("reading %s: %w", ref, err)
	}
	for _, blob := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if len(blob.URLs) == 0 && c.first(blob.Digest) { // a layer with addresses of its own may lie elsewhere
			c.group.Go(func() error { return c.blob(ctx, blob) })
		}
	}
	return nil
}

func (c *content) first(digest v1.Hash) bool {
	if c.seen[digest] {
		return false
	}
	c.seen[digest] = true
	return true
}

// blob reads a layer or a configuration to its end. A transfer that breaks off begins again.
func (c *content) blob(ctx context.Context, d v1.Descriptor) error {
	ref := c.v.image.Context().Digest(d.Digest.String())
	for i := 1; ; i++ {
		n, err := c.read(ctx, d)
		switch {
		case err == nil && n == d.Size:
			return nil
		case err == nil || changed(err):
			c.fail("changed-image", "what the registry has as %s is not what was signed: it was changed", d.Digest)
			return nil
		case oci.NotFound(err):
			c.fail("incomplete-image", "the registry lacks %s that the image lists", d.Digest)
			return nil
		case i == reads || ctx.Err() != nil:
			return fmt.Errorf("reading %s: %w", ref, oci.Explain(err, ref))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(i) * time.Second):
		}
	}
}

// read returns how many bytes came, at most one more than d says.
func (c *content) read(ctx context.Context, d v1.Descriptor) (int64, error) {
	layer, err := c.puller.Layer(ctx, c.v.image.Context().Digest(d.Digest.String()))
	if err != nil {
		return 0, err
	}
	rc, err := layer.Compressed()
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	return io.Copy(io.Discard, io.LimitReader(rc, d.Size+1))
}

// changed reports whether err says that bytes do not have the digest that names them. The library has no error value for it.
func changed(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "error verifying") || strings.Contains(err.Error(), "does not match requested digest"))
}
