package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestArchive(t *testing.T) {
	var archives [][]byte
	for range 2 {
		dir := t.TempDir()
		for name, text := range map[string]string{"oci-layout": "{}", "index.json": "[]", "blobs/sha256/ab": "blob"} {
			p := filepath.Join(dir, "layout", name)
			if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Archive(filepath.Join(dir, "layout"), filepath.Join(dir, ArchiveName)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, ArchiveName))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, data)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same layout differ")
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(archives[0])); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if want := []string{"blobs/", "blobs/sha256/", "blobs/sha256/ab", "index.json", "oci-layout"}; !slices.Equal(names, want) {
		t.Errorf("entries = %q, want %q", names, want)
	}
}

func TestArchiveLeavesNothingBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), ArchiveName)
	if err := Archive(filepath.Join(t.TempDir(), "missing"), file); err == nil {
		t.Error("a missing layout gave no error")
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half an archive was left: %v", err)
	}
}
