package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// maxManifest bounds an index or manifest in bytes, as registries do.
const maxManifest = 4 << 20

// Index opens the OCI layout in dir, which must hold exactly one image index, and checks every blob that the index reaches against its
// digest and size.
func Index(dir string) (v1.ImageIndex, error) {
	idx, err := openIndex(dir)
	if err != nil {
		return nil, result.Inputf("image layout %s: %w", dir, err)
	}
	return idx, nil
}

func openIndex(dir string) (v1.ImageIndex, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	data, err := readBounded(root, "index.json")
	if err != nil {
		return nil, err
	}
	var top v1.IndexManifest
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(top.Manifests) != 1 {
		return nil, fmt.Errorf("index.json lists %d entries, want one image index", len(top.Manifests))
	}
	desc := top.Manifests[0]
	if desc.MediaType != types.OCIImageIndex {
		return nil, fmt.Errorf("index.json lists %s, want %s", desc.MediaType, types.OCIImageIndex)
	}
	if err := (checker{root: root, seen: map[visit]bool{}}).check(desc, 0); err != nil {
		return nil, err
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	return outer.ImageIndex(desc.Digest)
}

// checker reads each blob once as a manifest and once as anything else, however often it is listed.
type checker struct {
	root *os.Root
	seen map[visit]bool
}

type visit struct {
	digest   v1.Hash
	size     int64
	manifest bool
}

// check reads a blob, compares digest and size, and goes on to what it lists.
func (c checker) check(desc v1.Descriptor, depth int) error {
	if depth > 2 {
		return fmt.Errorf("%s: indexes are nested too deeply", desc.Digest)
	}
	switch desc.Digest.Algorithm {
	case "sha256", "sha512":
	default:
		return fmt.Errorf("%s: digest algorithm %q is not supported", desc.Digest, desc.Digest.Algorithm)
	}
	manifest := desc.MediaType.IsIndex() || desc.MediaType.IsImage()
	this := visit{desc.Digest, desc.Size, manifest}
	if c.seen[this] {
		return nil
	}
	c.seen[this] = true
	name := filepath.Join("blobs", desc.Digest.Algorithm, desc.Digest.Hex)
	if err := checkBlob(c.root, name, desc); err != nil {
		return err
	}
	if !manifest {
		return nil
	}
	data, err := readBounded(c.root, name)
	if err != nil {
		return err
	}
	var node struct {
		Config    *v1.Descriptor  `json:"config"`
		Layers    []v1.Descriptor `json:"layers"`
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &node); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	children := slices.Concat(node.Layers, node.Manifests)
	if node.Config != nil {
		if node.Config.Size > maxManifest {
			return fmt.Errorf("%s: its configuration has %d bytes, and %d are allowed", desc.Digest, node.Config.Size, maxManifest)
		}
		children = append(children, *node.Config)
	}
	for _, child := range children {
		if err := c.check(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func checkBlob(root *os.Root, name string, desc v1.Descriptor) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() != desc.Size {
		return fmt.Errorf("%s has %d bytes, and its descriptor says %d", name, info.Size(), desc.Size)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, _, err := v1.SHA256(f)
	if err != nil {
		return err
	}
	if got != desc.Digest {
		return fmt.Errorf("%s was changed: its content is %s", desc.Digest, got)
	}
	return nil
}

func readBounded(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxManifest)
	}
	return data, nil
}
