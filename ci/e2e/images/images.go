// Package images turns an engine's image archive into what the stages' programs and other tools read: OCI layouts.
package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// FromArchive unpacks an OCI image archive, as "dagger core container from ... as-tarball export" writes it, into the layout dir, whose
// index names each image's platform.
func FromArchive(archive, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "archive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := untar(archive, tmp); err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	idx, err := layout.ImageIndexFromPath(tmp)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	all, err := manifests(idx)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	return Write(dir, all...)
}

// Write makes the layout dir as Slipway's own are: one index, which names each image's platform.
func Write(dir string, all ...v1.Image) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range all {
		cfg, err := img.ConfigFile()
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: cfg.Platform()}})
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendIndex(index)
}

// Split puts a layout of its own for each platform's image into the layout dir: dir/linux-amd64. Most tools read one image at a time.
func Split(dir string) error {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	all, err := manifests(idx)
	if err != nil {
		return err
	}
	for _, img := range all {
		cfg, err := img.ConfigFile()
		if err != nil {
			return err
		}
		p, err := layout.Write(filepath.Join(dir, strings.ReplaceAll(cfg.Platform().String(), "/", "-")), empty.Index)
		if err != nil {
			return err
		}
		if err := p.AppendImage(img, layout.WithPlatform(*cfg.Platform())); err != nil {
			return err
		}
	}
	return nil
}

// manifests are all images of an index, also those of the indexes in it.
func manifests(idx v1.ImageIndex) ([]v1.Image, error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var all []v1.Image
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsIndex():
			inner, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := manifests(inner)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		case d.MediaType.IsImage():
			img, err := idx.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			all = append(all, img)
		}
	}
	return all, nil
}

func untar(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o750); err != nil {
			return err
		}
		out, err := root.Create(h.Name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, tr) //nolint:gosec // the engine's own archive
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}
