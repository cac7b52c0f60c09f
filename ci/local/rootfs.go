package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// hostCertificates are trusted in the images too: they may include those of a proxy that the machine needs.
const hostCertificates = "/etc/ssl/certs/ca-certificates.crt"

// makeImage builds a base image's layers and pushes it to the registry.
func (m *machine) makeImage(ctx context.Context, b baseImage, registry string) error {
	image, err := m.baseLayers(ctx, b)
	if err != nil {
		return err
	}
	return push(ctx, image, registry, b.tags)
}

// baseLayers is the image of b: the Debian system, and the toolchain if it has one.
func (m *machine) baseLayers(ctx context.Context, b baseImage) (v1.Image, error) {
	dir, err := m.imageDir(ctx, b)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "rootfs")
	if err := m.debootstrap(ctx, b, root); err != nil {
		return nil, err
	}
	trees := []tree{{dir: root}}
	if b.toolchain {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return nil, fmt.Errorf("go env GOROOT: %w", err)
		}
		trees = append(trees, tree{dir: strings.TrimSpace(string(out)), at: "usr/local/go"})
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for i, t := range trees {
		layer, err := m.layer(ctx, filepath.Join(dir, fmt.Sprintf("layer-%d.tar.zst", i)), t)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayerZStd}); err != nil {
			return nil, err
		}
	}
	cfg, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", goarch
	cfg.Config.Env, cfg.Config.WorkingDir = b.env, b.workdir
	return mutate.ConfigFile(image, cfg)
}

// debootstrap makes a Debian system in dir, whole or not at all.
func (m *machine) debootstrap(ctx context.Context, b baseImage, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tmp := dir + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--quiet"}
	if len(b.packages) > 0 {
		args = append(args, "--include="+strings.Join(b.packages, ","))
	}
	if err := m.command(ctx, "mmdebstrap", append(args, b.suite, tmp)...); err != nil {
		return err
	}
	data, err := os.ReadFile(hostCertificates)
	if err == nil {
		certs := filepath.Join(tmp, hostCertificates)
		if err := os.MkdirAll(filepath.Dir(certs), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(certs, data, 0o644); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// tree is a folder that becomes a layer, at a path inside the image.
type tree struct {
	dir, at string
}

// layer packs a tree with GNU tar, which knows everything that a Debian system holds (hard links, devices): sorted, with fixed times.
// A file that is there already is whole, and of the same inputs: its folder's name says which.
func (m *machine) layer(ctx context.Context, file string, t tree) (v1.Layer, error) {
	if _, err := os.Stat(file); err == nil {
		return tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayerZStd))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	args := []string{"--create", "--sort=name", "--mtime=@0", "--numeric-owner", "--format=gnu", "--one-file-system", "--directory=" + t.dir}
	if t.at != "" {
		args = append(args, "--owner=0", "--group=0", "--transform=s,^\\.,"+t.at+",S")
	}
	cmd := exec.CommandContext(ctx, "tar", append(args, ".")...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := compress(file+".part", out); err != nil {
		_ = cmd.Wait() // it cannot end well without a reader
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("packing %s: %w: %s", t.dir, err, strings.TrimSpace(stderr.String()))
	}
	if err := os.Rename(file+".part", file); err != nil {
		return nil, err
	}
	return tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayerZStd))
}

// imageDir holds what a base image is made of. Its name changes with the inputs, so that what lies there is never stale.
func (m *machine) imageDir(ctx context.Context, b baseImage) (string, error) {
	version, err := goEnv(ctx, "GOVERSION")
	if err != nil {
		return "", err
	}
	certificates, err := certificatesHash()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendln(nil, b, version, certificates))
	return m.path("images", b.name+"-"+hex.EncodeToString(sum[:6])), nil
}

// certificatesHash is that of what the machine trusts. A proxy's certificate may change from one day to the next, and an image with the old
// one reaches nothing any more.
func certificatesHash() (string, error) {
	sum, err := fileHash(hostCertificates)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // the images bring Debian's own
	}
	return sum, err
}

// compress writes a Zstandard file for local use: fast beats small, and gzip takes four times as long in both directions.
func compress(file string, r io.Reader) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zw, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	if _, err := io.Copy(zw, r); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	return f.Close()
}

// push puts an image into the local registry under each tag.
func push(ctx context.Context, image v1.Image, registry string, tags []string) error {
	for _, tag := range tags {
		ref, err := name.ParseReference(registry+"/"+tag, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("pushing %s: %w", tag, err)
		}
	}
	return nil
}
