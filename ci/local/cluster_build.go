package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	pauseImage = "slipway/pause:1"
	dnsImage   = "slipway/coredns:1"
	// clusterBytes is what building the node writes into Go's caches and the cluster's folder.
	clusterBytes = 9 << 30
)

// nodePrograms are the names under which the one node program is each of its parts.
var nodePrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

// build compiles the node's programs from the versions in go.sum, and makes the images that a cluster needs before it has any.
func (c *cluster) build(ctx context.Context, inputs string) error {
	mark := c.path("cluster", "built")
	if have, err := os.ReadFile(mark); err == nil && string(have) == inputs {
		return nil
	}
	if err := c.enoughSpace(clusterBytes); err != nil {
		return err
	}
	if err := c.installPackages(ctx, clusterPackages); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path("cluster", "bin"), 0o755); err != nil {
		return err
	}
	if err := c.log.step("building Kubernetes "+kubernetesVersion+" from its Go modules (ten minutes or more the first time)",
		func() error { return c.buildNode(ctx) }); err != nil {
		return err
	}
	if err := c.log.step("building CoreDNS from its Go modules", func() error { return c.buildImages(ctx) }); err != nil {
		return err
	}
	return writeFile(mark, []byte(inputs))
}

func (c *cluster) buildNode(ctx context.Context) error {
	number := strings.Split(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	var flags strings.Builder
	flags.WriteString("-s -w") // components say which version they are, and clients ask
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&flags, " -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", pkg, kubernetesVersion, number[0], number[1])
	}
	if err := c.compile(ctx, filepath.Join(c.source, "cluster", "node"), ".", c.bin("node"), flags.String()); err != nil {
		return err
	}
	for _, name := range nodePrograms {
		if err := os.Remove(c.bin(name)); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink("node", c.bin(name)); err != nil {
			return err
		}
	}
	return nil
}

// compile builds a program with the flags of all local builds, so that what they share is compiled once.
func (c *cluster) compile(ctx context.Context, dir, pkg, out, linker string) error {
	return c.command(ctx, "go", "build", "-C", dir, "-gcflags=all=-dwarf=false -l", "-ldflags", linker, "-o", out, pkg)
}

func (c *cluster) buildImages(ctx context.Context) error {
	for _, p := range []struct{ dir, pkg, program, image string }{
		{c.source, "./cluster/pause", "pause", pauseImage},
		{filepath.Join(c.source, "cluster", "dns"), ".", "coredns", dnsImage},
	} {
		if err := c.compile(ctx, p.dir, p.pkg, c.bin(p.program), "-s -w"); err != nil {
			return err
		}
		image, err := programImage(c.bin(p.program), p.program)
		if err != nil {
			return err
		}
		if err := push(ctx, image, c.registry, []string{p.image}); err != nil {
			return err
		}
	}
	return nil
}

// programImage is an image of one static program and nothing else.
func programImage(file, name string) (v1.Image, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	cfg, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", goarch
	cfg.Config.Entrypoint = []string{"/" + name}
	return mutate.ConfigFile(image, cfg)
}
