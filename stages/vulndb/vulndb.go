// Package vulndb fetches Trivy's vulnerability database and decides whether it is fresh enough to be believed.
package vulndb

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// What the OCI artifact is made of.
//
// Source: https://github.com/aquasecurity/trivy-db
const (
	LayerType    = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
	DatabaseName = "trivy.db"
	MetadataName = "metadata.json"
	// SchemaVersion is the only one that Trivy's detectors read.
	SchemaVersion = 2
)

// Dir is where the database lies, relative to the output directory.
const Dir = "db"

// The largest files that are unpacked, in bytes: the public database has less than 1 GiB.
var limits = map[string]int64{DatabaseName: 4 << 30, MetadataName: 1 << 20}

// maxUnpacked bounds the whole archive, in bytes: what is not unpacked has to be read all the same.
const maxUnpacked = 5 << 30

// clockSkew is how far in the future a database may have been made.
const clockSkew = 2 * time.Hour

// Metadata is the database's own description.
type Metadata struct {
	Version      int
	NextUpdate   time.Time
	UpdatedAt    time.Time
	DownloadedAt time.Time
}

// Inputs are the stage's.
type Inputs struct {
	// References are OCI references, tried in order.
	References []string
	// From is a folder with the two files, instead of a registry.
	From   string
	MaxAge time.Duration
	Now    time.Time
	Client *oci.Client
	Out    string
}

// Run fetches the database. One that is too old is inconclusive: what it does not list may be known by now.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	dir := filepath.Join(in.Out, Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &result.Result{Outputs: map[string]string{}}
	if in.From != "" {
		if err := fromFolder(in.From, dir); err != nil {
			return nil, err
		}
	} else {
		ref, digest, err := in.fetch(ctx, dir)
		if err != nil {
			return nil, err
		}
		r.Inputs = []result.Resource{{Name: ref, URI: "oci://" + ref, Digest: map[string]string{"sha256": digest}}}
		r.Outputs["digest"] = "sha256:" + digest
	}
	m, err := ReadMetadata(dir)
	if err != nil {
		return nil, result.Inputf("vulnerability database: %w", err)
	}
	r.Outputs["updatedAt"] = m.UpdatedAt.UTC().Format(time.RFC3339)
	r.Verdict, r.Summary = Judge(m, in.MaxAge, in.Now)
	if r.Verdict != result.Pass {
		r.Reason = r.Summary
	}
	return r, nil
}

// Judge says whether a database is fresh enough.
func Judge(m *Metadata, maxAge time.Duration, now time.Time) (result.Verdict, string) {
	age := now.Sub(m.UpdatedAt)
	switch {
	case m.UpdatedAt.IsZero():
		return result.Inconclusive, "the vulnerability database does not say when it was made"
	case age < -clockSkew:
		return result.Inconclusive, fmt.Sprintf("the vulnerability database was made in the future (%s): check the clock, or where it comes from",
			m.UpdatedAt.UTC().Format(time.RFC3339))
	case maxAge > 0 && age > maxAge:
		return result.Inconclusive, fmt.Sprintf("vulnerability database is %s old (limit %s): refresh it or set scan.maxDatabaseAge", days(age), days(maxAge))
	}
	return result.Pass, fmt.Sprintf("vulnerability database of %s, %s old", m.UpdatedAt.UTC().Format(time.DateOnly), days(max(0, age)))
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Hour).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func (in Inputs) fetch(ctx context.Context, dir string) (ref, digest string, err error) {
	var errs []error
	for _, r := range in.References {
		digest, err := in.fetchOne(ctx, r, dir)
		if err == nil {
			return r, digest, nil
		}
		errs = append(errs, fmt.Errorf("fetching the vulnerability database from %s: %w", r, err))
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
	}
	return "", "", errors.Join(errs...)
}

func (in Inputs) fetchOne(ctx context.Context, reference, dir string) (digest string, err error) {
	ref, err := in.Client.Reference(reference)
	if err != nil {
		return "", err
	}
	img, err := remote.Image(ref, in.Client.Options(ctx)...)
	if err != nil {
		return "", oci.Explain(err, ref)
	}
	h, err := img.Digest()
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	if len(layers) != 1 {
		return "", result.Inputf("it is no vulnerability database: it has %d layers, want 1", len(layers))
	}
	if mt, err := layers[0].MediaType(); err != nil || mt != LayerType {
		return "", result.Inputf("it is no vulnerability database: its layer is %s, want %s", mt, LayerType)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		return "", err
	}
	defer rc.Close()
	return h.Hex, Extract(rc, dir)
}

// Extract unpacks the two files of the database and nothing else, within their limits.
func Extract(r io.Reader, dir string) error { return extract(r, dir, maxUnpacked) }

func extract(r io.Reader, dir string, most int64) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	var seen []string
	for tr := tar.NewReader(&bounded{r: zr, most: most}); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		limit, ok := limits[h.Name]
		switch {
		case !ok || h.Typeflag != tar.TypeReg:
			continue
		case slices.Contains(seen, h.Name):
			return fmt.Errorf("unpacking: %s is there twice", h.Name)
		case h.Size > limit:
			return fmt.Errorf("unpacking: %s has %d bytes, and %d are allowed", h.Name, h.Size, limit)
		}
		seen = append(seen, h.Name)
		if err := writeTo(filepath.Join(dir, h.Name), tr); err != nil {
			return fmt.Errorf("unpacking %s: %w", h.Name, err)
		}
	}
	if len(seen) != len(limits) {
		return fmt.Errorf("unpacking: %s or %s is missing", DatabaseName, MetadataName)
	}
	return nil
}

// bounded is a reader that fails, instead of ending, after too many bytes: a small archive may unpack to any size.
type bounded struct {
	r          io.Reader
	most, read int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.read += int64(n); b.read > b.most {
		return 0, fmt.Errorf("it unpacks to more than %d bytes", b.most)
	}
	return n, err
}

func fromFolder(from, dir string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return result.Input(err)
	}
	defer root.Close()
	for name, limit := range limits {
		// Looked at before it is opened: opening a pipe waits for a writer.
		info, err := root.Stat(name)
		switch {
		case err != nil:
			return result.Inputf("the database folder needs %s and %s: %w", DatabaseName, MetadataName, err)
		case !info.Mode().IsRegular():
			return result.Inputf("the database folder's %s is no regular file", name)
		case info.Size() > limit:
			return result.Inputf("the database folder's %s has %d bytes, and %d are allowed", name, info.Size(), limit)
		}
		f, err := root.Open(name)
		if err != nil {
			return result.Input(err)
		}
		err = writeTo(filepath.Join(dir, name), f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func writeTo(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// ReadMetadata reads the metadata in dir.
func ReadMetadata(dir string) (*Metadata, error) {
	f, err := os.Open(filepath.Join(dir, MetadataName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limits[MetadataName]))
	if err != nil {
		return nil, err
	}
	return ParseMetadata(data)
}

// ParseMetadata decodes a metadata.json.
func ParseMetadata(data []byte) (*Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", MetadataName, err)
	}
	if m.Version != SchemaVersion {
		return nil, fmt.Errorf("%s: its schema version is %d, want %d", MetadataName, m.Version, SchemaVersion)
	}
	return &m, nil
}
