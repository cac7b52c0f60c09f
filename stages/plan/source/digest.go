package source

import (
	"crypto/sha1" //nolint:gosec // git's object names are SHA-1
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// entry is one file of the tree with its names in both worlds.
type entry struct {
	path string
	// mode is 644, 755 or link.
	mode   string
	sha256 string
	// blob is git's object name for the content.
	blob string
}

const (
	modeFile = "644"
	modeExec = "755"
	modeLink = "link"
)

// treeDigest is a SHA-256 over one line for each file, in the order in which they come: "<sha256 of content>  <mode> <path>\x00". The
// mode is 644, 755 or link: other bits depend on the machine that checked the tree out. A link's content is its target.
type treeDigest struct{ h hash.Hash }

func (d *treeDigest) add(e entry) { fmt.Fprintf(d.h, "%s  %s %s\x00", e.sha256, e.mode, e.path) }

func (d *treeDigest) String() string { return "sha256:" + hex.EncodeToString(d.h.Sum(nil)) }

// hashEntry reads one file or link. ok is false for what is neither.
func hashEntry(root *os.Root, name string, d fs.DirEntry) (e entry, ok bool, err error) {
	fi, err := d.Info()
	if err != nil {
		return e, false, err
	}
	e = entry{path: name, mode: modeFile}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		if err != nil {
			return e, false, err
		}
		e.mode = modeLink
		e.sha256, e.blob, err = hashContent(int64(len(target)), func(w io.Writer) error { _, err := io.WriteString(w, target); return err })
		return e, true, err
	case !fi.Mode().IsRegular():
		return e, false, nil
	case fi.Mode()&0o111 != 0:
		e.mode = modeExec
	}
	f, err := root.Open(name)
	if err != nil {
		return e, false, err
	}
	defer f.Close()
	e.sha256, e.blob, err = hashContent(fi.Size(), func(w io.Writer) error {
		n, err := io.Copy(w, f)
		if err == nil && n != fi.Size() {
			err = fmt.Errorf("%s changed while it was read", name)
		}
		return err
	})
	return e, true, err
}

func hashContent(size int64, copyTo func(io.Writer) error) (sum, blob string, err error) {
	h256, h1 := sha256.New(), sha1.New() //nolint:gosec // see the import
	fmt.Fprintf(h1, "blob %d\x00", size)
	if err := copyTo(io.MultiWriter(h256, h1)); err != nil {
		return "", "", err
	}
	return hex.EncodeToString(h256.Sum(nil)), hex.EncodeToString(h1.Sum(nil)), nil
}
