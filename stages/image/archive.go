package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ArchiveName is the layout as one file, for engines and tools that load an image from a tar ("docker load", "podman load").
const ArchiveName = "image.tar"

// Archive writes the OCI layout in dir into a tar: sorted, without times and owners, so that equal layouts give equal bytes.
func Archive(dir, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			err = cerr
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", ArchiveName, err), os.Remove(file))
		}
	}()
	tw := tar.NewWriter(f)
	// WalkDir goes in lexical order.
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case d.IsDir():
			return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
		}
		return addFile(tw, filepath.Join(dir, filepath.FromSlash(name)), name)
	}); err != nil {
		return err
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
