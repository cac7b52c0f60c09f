package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	// Not the standard library's: the digest must not depend on the Go version that compiled this program, and this one is pinned by go.sum.
	"github.com/klauspost/compress/gzip"
)

// file is one entry of a layer: what it is comes from mode, its content from data or open.
type file struct {
	// name is absolute, with slashes.
	name     string
	mode     fs.FileMode
	uid, gid int
	data     []byte
	// open and size are for content that is too large to hold.
	open func() (io.ReadCloser, error)
	size int64
}

func dir(name string) file { return file{name: name, mode: fs.ModeDir | 0o755} }

func text(name, content string) file { return file{name: name, mode: 0o644, data: []byte(content)} }

// fileLayer is a compressed layer that lies in the layout already.
type fileLayer struct {
	digest, diffID v1.Hash
	size           int64
	path           string
}

var _ v1.Layer = (*fileLayer)(nil)

func (l *fileLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)             { return l.diffID, nil }
func (l *fileLayer) Size() (int64, error)                 { return l.size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return openGzip(l.path) }

func openGzip(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

// writeLayer streams files, sorted, into a blob of the layout in dir. All entries get the time mtime.
func writeLayer(ctx context.Context, dir string, files []file, mtime time.Time) (*fileLayer, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	blobs := filepath.Join(dir, "blobs", "sha256")
	tmp, err := os.CreateTemp(blobs, ".layer-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	compressed, plain := sha256.New(), sha256.New()
	count := &counter{}
	z, err := gzip.NewWriterLevel(io.MultiWriter(tmp, compressed, count), gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(io.MultiWriter(z, plain))
	for i, f := range files {
		if i > 0 && files[i-1].name == f.name {
			return nil, fmt.Errorf("%s is in the layer twice", f.name)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := f.writeTo(t, mtime); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close(), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return nil, err
	}
	l := &fileLayer{
		digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(compressed.Sum(nil))},
		diffID: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))},
		size:   count.n,
	}
	l.path = filepath.Join(blobs, l.digest.Hex)
	return l, os.Rename(tmp.Name(), l.path)
}

func (f file) writeTo(t *tar.Writer, mtime time.Time) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.name, "/"), Mode: int64(f.mode.Perm()), Uid: f.uid, Gid: f.gid, ModTime: mtime, Format: tar.FormatPAX}
	if f.mode&fs.ModeSticky != 0 {
		h.Mode |= 0o1000
	}
	if f.mode.IsDir() {
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return t.WriteHeader(h)
	}
	h.Typeflag = tar.TypeReg
	if f.open == nil {
		h.Size = int64(len(f.data))
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(t, bytes.NewReader(f.data))
		return err
	}
	h.Size = f.size
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	r, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(t, r)
	return err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
