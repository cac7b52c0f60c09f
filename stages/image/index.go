package image

import (
	"bytes"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageIndex is an index over platform images. go-containerregistry's own would mark each image with an artifactType, which clients take
// for something that is no image.
type imageIndex struct {
	images   map[v1.Hash]v1.Image
	manifest v1.IndexManifest
	raw      []byte
}

var _ v1.ImageIndex = (*imageIndex)(nil)

func newIndex(annotations map[string]string) *imageIndex {
	return &imageIndex{
		images:   map[v1.Hash]v1.Image{},
		manifest: v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: annotations},
	}
}

func (i *imageIndex) add(img v1.Image, p v1.Platform) error {
	d, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	i.manifest.Manifests = append(i.manifest.Manifests, v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Platform: &p})
	i.images[d.Digest] = img
	i.raw, err = json.Marshal(i.manifest)
	return err
}

func (i *imageIndex) MediaType() (types.MediaType, error) { return types.OCIImageIndex, nil }

func (i *imageIndex) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.raw))
	return h, err
}

func (i *imageIndex) Size() (int64, error) { return int64(len(i.raw)), nil }

func (i *imageIndex) IndexManifest() (*v1.IndexManifest, error) { return i.manifest.DeepCopy(), nil }

func (i *imageIndex) RawManifest() ([]byte, error) { return i.raw, nil }

func (i *imageIndex) Image(h v1.Hash) (v1.Image, error) {
	if img, ok := i.images[h]; ok {
		return img, nil
	}
	return nil, fmt.Errorf("no image %s in the index", h)
}

func (i *imageIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("no index %s in the index", h)
}
