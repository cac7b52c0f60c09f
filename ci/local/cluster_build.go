package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	pauseImage = "slipway/pause:1"
	dnsImage   = "slipway/coredns:1"
	// nodeBytes and gatewayBytes are what building them writes into Go's caches and the cluster's folder.
	nodeBytes    = 9 << 30
	gatewayBytes = 7 << 30
)

// nodePrograms are the names under which the one node program is each of its parts.
var nodePrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

// work is something that the cluster needs and that is made once. Its mark holds the hash of what it was made from, and is written last.
type work struct {
	name, mark, inputs string
	bytes              uint64
	do                 func(context.Context) error
}

// build makes what was not made from these inputs before, all of it at the same time: compilers wait for the network and for their linker
// now and then, and together they need less than 8 GB of memory.
func (c *cluster) build(ctx context.Context, in *inputs) error {
	todo := slices.DeleteFunc([]work{
		{"building Kubernetes " + kubernetesVersion + " from its Go modules (ten minutes or more the first time)", "built", in.node, nodeBytes, c.buildNode},
		{"building Traefik " + traefikVersion + " and Prometheus " + prometheusVersion + " from their Go modules (some minutes the first time)",
			"gateway.built", in.gateway, gatewayBytes, c.buildGateway},
	}, func(w work) bool {
		have, err := os.ReadFile(c.path("cluster", w.mark))
		return err == nil && string(have) == w.inputs
	})
	if len(todo) == 0 {
		return nil
	}
	var needed uint64
	for _, w := range todo {
		needed += w.bytes
	}
	if err := c.enoughSpace(needed); err != nil {
		return err
	}
	if err := c.installPackages(ctx, clusterPackages); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path("cluster", "bin"), 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(todo))
	for i, w := range todo {
		wg.Go(func() {
			if errs[i] = c.log.step(w.name, func() error { return w.do(ctx) }); errs[i] == nil {
				errs[i] = writeFile(c.path("cluster", w.mark), []byte(w.inputs))
			}
			if errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	// The first to fail ended the others: theirs is not the reason.
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil && !errors.Is(err, context.Canceled) }); i >= 0 {
		return errs[i]
	}
	return errors.Join(errs...)
}

// buildNode compiles the node's programs from the versions in go.sum, and makes the images that a cluster needs before it has any.
func (c *cluster) buildNode(ctx context.Context) error {
	number := strings.Split(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	var flags strings.Builder // components say which version they are, and clients ask
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&flags, " -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", pkg, kubernetesVersion, number[0], number[1])
	}
	p := program{name: "node", dir: filepath.Join(c.source, "cluster", "node"), pkg: ".", linker: flags.String()}
	if err := c.compile(ctx, p); err != nil {
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
	if err := c.buildImage(ctx, program{name: "pause", dir: c.source, pkg: "./cluster/pause", image: pauseImage}); err != nil {
		return err
	}
	return c.buildImage(ctx, program{name: "coredns", dir: filepath.Join(c.source, "cluster", "dns"), pkg: ".", image: dnsImage})
}

// program is one that the cluster is made of.
type program struct {
	name, dir, pkg string
	tags, linker   string // flags of its build beside those of all
	image          string // the tag of an image that holds only this program
}

// compile builds a program with the flags of all local builds, so that what they share is compiled once.
func (c *cluster) compile(ctx context.Context, p program) error {
	return c.command(ctx, "go", "build", "-C", p.dir, "-tags="+p.tags, "-gcflags=all=-dwarf=false -l", "-ldflags=-s -w "+p.linker, "-o", c.bin(p.name), p.pkg)
}

func (c *cluster) buildImage(ctx context.Context, p program) error {
	if err := c.compile(ctx, p); err != nil {
		return err
	}
	image, err := programImage(c.bin(p.name), p.name)
	if err != nil {
		return err
	}
	return push(ctx, image, c.registry, []string{p.image})
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
	// The node unpacks it at every start.
	layer, err := tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayerZStd), tarball.WithCompression(compression.ZStd))
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
