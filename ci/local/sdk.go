package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sdkDigest names the file that holds the digest of the Go SDK's image.
const sdkDigest = "sdk.digest"

// noCgo makes generated modules what they are with the official SDK's image, which has no C compiler.
const noCgo = "CGO_ENABLED=0"

// seed is a program with the imports of every generated module. Compiling it once fills the caches that the SDK's image brings, so that
// the first code generation does not.
const seed = `package main

import (
	_ "github.com/99designs/gqlgen/graphql"
	_ "github.com/Khan/genqlient/graphql"
	_ "github.com/vektah/gqlparser/v2/gqlerror"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	_ "go.opentelemetry.io/otel/sdk/log"
	_ "go.opentelemetry.io/otel/sdk/metric"
	_ "go.opentelemetry.io/otel/sdk/trace"
	_ "golang.org/x/sync/errgroup"
)

func main() {}
`

// makeSDK builds the Go SDK's image (the golang image, the code generator, filled caches) where the engine looks for it.
func (m *machine) makeSDK(ctx context.Context) error {
	base, err := m.baseLayers(ctx, baseImages[0])
	if err != nil {
		return err
	}
	bin := m.sdk("codegen", "usr", "local", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if err := copyFile(m.path("bin", "codegen"), filepath.Join(bin, "codegen")); err != nil {
		return err
	}
	image := base
	for _, part := range []string{"caches", "codegen"} {
		layer, err := m.layer(ctx, m.sdk(part+".tar.zst"), tree{dir: m.sdk(part)})
		if err != nil {
			return err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayerZStd}); err != nil {
			return err
		}
	}
	cfg, err := image.ConfigFile()
	if err != nil {
		return err
	}
	cfg = cfg.DeepCopy()
	cfg.Config.Env = append(cfg.Config.Env, noCgo)
	if image, err = mutate.ConfigFile(image, cfg); err != nil {
		return err
	}
	content := m.sdk("content")
	p, err := layout.Write(content, empty.Index)
	if err != nil {
		return err
	}
	if err := p.AppendImage(image, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch})); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	return writeFile(m.path("images", sdkDigest), []byte(digest.String()))
}

// sdk is a path among what the Go SDK's image is made of, beyond its base.
func (m *machine) sdk(elem ...string) string {
	return m.path(append([]string{"images", "sdk"}, elem...)...)
}

// fillCaches compiles the seed inside the base image's own system, so that paths and flags are those of later, and packs the caches.
func (m *machine) fillCaches(ctx context.Context) error {
	dir, err := m.imageDir(ctx, baseImages[0])
	if err != nil {
		return err
	}
	root, extra := filepath.Join(dir, "rootfs"), m.sdk("caches")
	if err := os.RemoveAll(m.sdk()); err != nil { // of another engine
		return err
	}
	work := filepath.Join(extra, "seed")
	for _, dir := range []string{work, filepath.Join(extra, "go", "pkg", "mod"), filepath.Join(extra, "root", ".cache", "go-build")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "main.go"), []byte(seed), 0o644); err != nil {
		return err
	}
	for _, f := range []string{"go.mod", "go.sum"} {
		if err := copyFile(filepath.Join(m.source, "..", "..", ".dagger", f), filepath.Join(work, f)); err != nil {
			return err
		}
	}
	goroot, err := goEnv(ctx, "GOROOT")
	if err != nil {
		return err
	}
	env := []string{"HOME=/root", "GOPATH=/go", "GOTOOLCHAIN=local", noCgo, fewerCollections, "GOFLAGS=-mod=mod", "PATH=/usr/local/go/bin:" + path}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOINSECURE"} {
		v, err := goEnv(ctx, name)
		if err != nil {
			return err
		}
		env = append(env, name+"="+v)
	}
	// A mount namespace of its own: the mounts end with the command.
	script := fmt.Sprintf(`set -e
root=%[1]q extra=%[2]q
mkdir -p "$root/usr/local/go" "$root/go" "$root/root/.cache" "$root/seed" "$root/proc" "$root/dev"
mount --bind %[3]q "$root/usr/local/go"
mount --bind "$extra/go" "$root/go"
mount --bind "$extra/root/.cache" "$root/root/.cache"
mount --bind "$extra/seed" "$root/seed"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$(realpath /etc/resolv.conf)" "$root/etc/resolv.conf"
exec chroot "$root" /usr/bin/env -i %[4]s sh -c 'cd /seed && go mod tidy && go mod download all && go build -ldflags "-s -w" -o /dev/null .'
`, root, extra, goroot, quoteAll(env))
	if err := m.command(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c", script); err != nil {
		return err
	}
	// The mount points stay behind in the base system; it must be again what its image was made from.
	if err := errors.Join(os.RemoveAll(work), os.Remove(filepath.Join(root, "seed"))); err != nil {
		return err
	}
	_, err = m.layer(ctx, m.sdk("caches.tar.zst"), tree{dir: extra})
	return err
}

func quoteAll(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString("'" + strings.ReplaceAll(w, "'", `'\''`) + "' ")
	}
	return b.String()
}
