// Package sbom lists what is inside an image, platform by platform, as SPDX and CycloneDX.
package sbom

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging/filecataloging"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/format/cyclonedxjson"
	"github.com/anchore/syft/syft/format/spdxjson"
	"github.com/anchore/syft/syft/sbom"
	"github.com/anchore/syft/syft/source"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	_ "modernc.org/sqlite" // Syft reads RPM databases with it

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The documents' names inside each platform's folder.
const (
	SPDXName      = "sbom.spdx.json"
	CycloneDXName = "sbom.cdx.json"
)

// Inputs are the stage's.
type Inputs struct {
	Layout string
	// Licenses is a module cache that holds licence files; it may be empty.
	Licenses string
	// Name of what is described.
	Name string
	// Created is the time in the documents.
	Created time.Time
	Out     string
}

// Run describes every platform's image.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	idx, err := oci.Index(in.Layout)
	if err != nil {
		return nil, err
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	digest, err := idx.Digest()
	if err != nil {
		return nil, err
	}
	// Syft unpacks images into the system's temporary folder, which an empty image does not have.
	tmp, err := os.MkdirTemp(in.Out, ".tmp-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Setenv("TMPDIR", tmp); err != nil {
		return nil, err
	}
	r := &result.Result{Verdict: result.Pass, Metrics: map[string]float64{},
		Inputs: []result.Resource{{Name: in.Name, Digest: map[string]string{digest.Algorithm: digest.Hex}}}}
	var parts []string
	for _, m := range manifest.Manifests {
		if m.Platform == nil {
			return nil, result.Inputf("the image %s lists %s without a platform", digest, m.Digest)
		}
		img, err := idx.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		platform := strings.ReplaceAll(m.Platform.String(), "/", "-")
		n, err := in.describe(ctx, img, *m.Platform, m.Digest, filepath.Join(tmp, platform), platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Platform, err)
		}
		r.Files = append(r.Files,
			result.File{Path: platform + "/" + SPDXName, MediaType: "application/spdx+json"},
			result.File{Path: platform + "/" + CycloneDXName, MediaType: "application/vnd.cyclonedx+json"})
		r.Metrics["packages "+platform] = float64(n)
		parts = append(parts, fmt.Sprintf("%s %d packages", m.Platform, n))
	}
	r.Summary = strings.Join(parts, ", ")
	r.Tools = tools()
	return r, nil
}

// describe writes the two documents of one platform.
func (in Inputs) describe(ctx context.Context, img v1.Image, p v1.Platform, digest v1.Hash, tmp, folder string) (packages int, err error) {
	dir, err := layout.Write(tmp, empty.Index)
	if err != nil {
		return 0, err
	}
	if err := dir.AppendImage(img, layout.WithPlatform(p)); err != nil {
		return 0, err
	}
	src, err := syft.GetSource(ctx, tmp, syft.DefaultGetSourceConfig().WithSources("oci-dir").WithAlias(source.Alias{Name: in.Name, Version: digest.String()}))
	if err != nil {
		return 0, fmt.Errorf("opening the image: %w", err)
	}
	defer src.Close()
	bom, err := syft.CreateSBOM(ctx, src, in.config())
	if err != nil {
		return 0, fmt.Errorf("listing packages: %w", err)
	}
	// Where the image lay on this machine is not part of what it is.
	if meta, ok := bom.Source.Metadata.(source.ImageMetadata); ok {
		meta.UserInput = in.Name
		bom.Source.Metadata = meta
	}
	return bom.Artifacts.Packages.PackageCount(), in.write(bom, digest, folder)
}

func (in Inputs) config() *syft.CreateSBOMConfig {
	packages := pkgcataloging.DefaultConfig()
	packages.Golang = packages.Golang.WithSearchRemoteLicenses(false)
	if in.Licenses != "" {
		packages.Golang = packages.Golang.WithSearchLocalModCacheLicenses(true).WithLocalModCacheDir(in.Licenses)
	}
	// SPDX 2.3 wants every file's SHA-1; SHA-256 is what people compare.
	files := filecataloging.DefaultConfig().WithHashers(crypto.SHA1, crypto.SHA256)
	return syft.DefaultCreateSBOMConfig().WithPackagesConfig(packages).WithFilesConfig(files)
}

// write encodes both documents, the same bytes every time.
func (in Inputs) write(bom *sbom.SBOM, digest v1.Hash, folder string) error {
	spdx, err := spdxjson.NewFormatEncoderWithConfig(spdxjson.DefaultEncoderConfig())
	if err != nil {
		return err
	}
	cdx, err := cyclonedxjson.NewFormatEncoderWithConfig(cyclonedxjson.DefaultEncoderConfig())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(in.Out, folder), 0o755); err != nil {
		return err
	}
	for name, doc := range map[string]struct {
		encoder sbom.FormatEncoder
		settle  func([]byte, identity) ([]byte, error)
	}{
		SPDXName:      {spdx, settleSPDX},
		CycloneDXName: {cdx, settleCycloneDX},
	} {
		var b bytes.Buffer
		if err := doc.encoder.Encode(&b, *bom); err != nil {
			return fmt.Errorf("encoding %s: %w", name, err)
		}
		data, err := doc.settle(b.Bytes(), identity{name: in.Name, digest: digest.String(), platform: folder, created: in.Created})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(in.Out, folder, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
