// Package lock pins base images: slipway.lock says which digest each tag stands for, until somebody writes it anew.
package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// FileName is where the lock lies in a repository, beside slipway.yaml.
const FileName = "slipway.lock"

// Schema names the version of the file's format.
const Schema = "https://slipway.dev/schema/lock/v1"

// Lock is the file's content, as JSON.
type Lock struct {
	Schema string `json:"schema"`
	// Images are digests by references with a tag: "docker.io/library/golang:1.26-bookworm".
	Images map[string]string `json:"images"`
}

var (
	taggedImage = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.:_-]*/[a-z0-9._/-]+:[a-zA-Z0-9_][a-zA-Z0-9._-]*$`)
	digestForm  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Parse decodes the file. Its errors are marked as input.
func Parse(data []byte) (Lock, error) {
	const again = "write it again with the lock function"
	var l Lock
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Lock{}, result.Inputf("%s:%d: %w: %s", FileName, line(data, err), err, again)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Lock{}, result.Inputf("%s: there is more than one JSON value: %s", FileName, again)
	}
	if l.Schema != Schema {
		return Lock{}, result.Inputf("%s: schema is %q, want %q: %s", FileName, l.Schema, Schema, again)
	}
	if err := l.validate(); err != nil {
		return Lock{}, result.Inputf("%s: %w: %s", FileName, err, again)
	}
	return l, nil
}

// line is where decoding ended.
func line(data []byte, err error) int {
	at := len(data)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = int(e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = int(e.Offset)
	}
	return 1 + bytes.Count(data[:min(at, len(data))], []byte("\n"))
}

func (l Lock) validate() error {
	for _, image := range slices.Sorted(maps.Keys(l.Images)) {
		if !taggedImage.MatchString(image) {
			return fmt.Errorf("image %q: want registry/repository:tag", image)
		}
		if digest := l.Images[image]; !digestForm.MatchString(digest) {
			return fmt.Errorf("image %s: digest %q: want sha256 and 64 hexadecimal digits", image, digest)
		}
	}
	return nil
}

// JSON is the file's content: the same bytes for the same images.
func (l Lock) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", FileName, err)
	}
	return append(data, '\n'), nil
}

// Write makes slipway.lock in out from references with tag and digest: NAME:TAG@sha256:HEX.
func Write(out string, references []string) (*result.Result, error) {
	l := Lock{Schema: Schema, Images: map[string]string{}}
	for _, ref := range references {
		image, digest, _ := strings.Cut(ref, "@")
		l.Images[image] = digest
	}
	if err := l.validate(); err != nil {
		return nil, result.Input(err)
	}
	data, err := l.JSON()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(out, FileName), data, 0o644); err != nil {
		return nil, err
	}
	return &result.Result{Verdict: result.Pass, Summary: fmt.Sprintf("%d images pinned", len(l.Images)),
		Files: []result.File{{Path: FileName, MediaType: "application/json"}}}, nil
}
