// Package image assembles static binaries into an OCI image index on nothing but what such programs need: users, certificates, time
// zones and a place for temporary files. The same inputs give the same digest on every machine.
package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// LayoutDir is the OCI layout in the output directory.
const LayoutDir = "layout"

// binDir is where the programs lie in the image.
const binDir = "/usr/local/bin"

// Options are what goes into the image.
type Options struct {
	// Bin has one directory for each platform: linux-amd64/app.
	Bin string
	// Binaries are the programs' names, Entrypoint the one that is started with Args.
	Binaries   []string
	Entrypoint string
	Args       []string
	Platforms  []string
	// User is uid[:gid], never 0.
	User  string
	Env   map[string]string
	Ports []int
	// Labels become the configuration's labels and the manifests' annotations.
	Labels map[string]string
	// Created is the source's time.
	Created time.Time
	// Zoneinfo is Go's zoneinfo.zip; without it the image has no time zones.
	Zoneinfo string
	// Out receives the layout.
	Out string
}

// Image says what was assembled.
type Image struct {
	// Digest is the index's: the identity of the release.
	Digest    string          `json:"digest"`
	MediaType string          `json:"mediaType"`
	Platforms []PlatformImage `json:"platforms"`
}

// PlatformImage is one manifest of the index.
type PlatformImage struct {
	Platform string `json:"platform"`
	Digest   string `json:"digest"`
	// Size is what a pull transfers, in bytes.
	Size int64 `json:"size"`
}

// Assemble writes the OCI layout. A binary that is missing, dynamic or for another architecture is marked as input.
func Assemble(ctx context.Context, o Options) (*Image, error) {
	uid, gid, err := config.ParseUser(o.User)
	if err != nil {
		return nil, result.Inputf("build.user: %w", err)
	}
	if o.Entrypoint == "" || !slices.Contains(o.Binaries, o.Entrypoint) {
		return nil, result.Inputf("entrypoint %q is none of the binaries %s", o.Entrypoint, strings.Join(o.Binaries, ", "))
	}
	if len(o.Platforms) == 0 {
		return nil, result.Inputf("no platforms: an image needs at least one")
	}
	dir := filepath.Join(o.Out, LayoutDir)
	if err := freshLayout(dir); err != nil {
		return nil, err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, fmt.Errorf("writing the layout: %w", err)
	}
	base, err := baseFiles(uid, gid, o.Zoneinfo)
	if err != nil {
		return nil, err
	}
	// The base is the same for every release with this user: its time is fixed, so that it is pulled and stored once.
	baseLayer, err := writeLayer(ctx, dir, base, time.Unix(0, 0))
	if err != nil {
		return nil, fmt.Errorf("base layer: %w", err)
	}
	bin, err := os.OpenRoot(o.Bin)
	if err != nil {
		return nil, result.Inputf("opening the binaries: %w", err)
	}
	defer bin.Close()
	index := newIndex(o.Labels)
	out := &Image{}
	for _, s := range o.Platforms {
		p, err := config.ParsePlatform(s)
		if err != nil {
			return nil, result.Input(err)
		}
		files, err := binaryFiles(bin, p, o.Binaries)
		if err != nil {
			return nil, err
		}
		binLayer, err := writeLayer(ctx, dir, files, o.Created)
		if err != nil {
			return nil, fmt.Errorf("layer for %s: %w", p, err)
		}
		img, err := platformImage(o, p, uid, gid, baseLayer, binLayer)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", p, err)
		}
		d, err := img.Digest()
		if err != nil {
			return nil, err
		}
		out.Platforms = append(out.Platforms, PlatformImage{Platform: p.String(), Digest: d.String(), Size: baseLayer.size + binLayer.size})
		if err := index.add(img, v1.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant}); err != nil {
			return nil, err
		}
	}
	if err := l.AppendIndex(index); err != nil {
		return nil, fmt.Errorf("writing the layout: %w", err)
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	out.Digest, out.MediaType = digest.String(), string(types.OCIImageIndex)
	return out, nil
}

// freshLayout refuses to mix releases: a layout holds one.
func freshLayout(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, "index.json")); !errors.Is(err, fs.ErrNotExist) {
		return result.Inputf("%s holds an image already: give an empty directory", dir)
	}
	return nil
}

// platformImage is the manifest and configuration for one platform.
func platformImage(o Options, p config.Platform, uid, gid int, layers ...*fileLayer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayer}); err != nil {
			return nil, err
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Variant = p.OS, p.Arch, p.Variant
	cf.Created = v1.Time{Time: o.Created.UTC()}
	cf.History = nil
	cf.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", uid, gid),
		Entrypoint: []string{path.Join(binDir, o.Entrypoint)},
		Cmd:        o.Args,
		Env:        environment(o.Env),
		WorkingDir: "/",
		Labels:     o.Labels,
	}
	for _, port := range o.Ports {
		if cf.Config.ExposedPorts == nil {
			cf.Config.ExposedPorts = map[string]struct{}{}
		}
		cf.Config.ExposedPorts[strconv.Itoa(port)+"/tcp"] = struct{}{}
	}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(img, o.Labels).(v1.Image)
	if !ok {
		return nil, errors.New("annotating the image changed its kind")
	}
	return annotated, nil
}

// environment is the image's, sorted: what every program needs, then the configuration's, which wins.
func environment(extra map[string]string) []string {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE": certFile}
	maps.Copy(env, extra)
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}
