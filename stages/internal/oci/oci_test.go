package oci

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func client(t *testing.T, args ...string) *Client {
	t.Helper()
	var f Flags
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, err := f.Client()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func push(t *testing.T, c *Client, to string) error {
	t.Helper()
	ref, err := c.Reference(to)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	return Explain(remote.Write(ref, img, c.Options(t.Context())...), ref)
}

func TestEndpoint(t *testing.T) {
	srv := httptest.NewServer(registry.New())
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	c := client(t, "-endpoint", "localhost:5999="+address)
	if err := push(t, c, "localhost:5999/app:v1"); err != nil {
		t.Fatal(err)
	}
	ref, err := c.Reference("localhost:5999/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Digest(t.Context(), ref); err != nil || !ok {
		t.Errorf("digest: %v, %v", ok, err)
	}
}

func TestCredentials(t *testing.T) {
	inner := registry.New()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, ok := r.BasicAuth(); !ok || user != "me" || pass != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	file := func(text string) string {
		p := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := push(t, client(t, "-auth", host+"=me:"+file("right\n")), host+"/app:v1"); err != nil {
		t.Errorf("right password: %v", err)
	}
	if err := push(t, client(t, "-registry-config", file(`{"auths":{"`+host+`":{"auth":"bWU6cmlnaHQ="}}}`)), host+"/app:v1"); err != nil {
		t.Errorf("config.json: %v", err)
	}
	for name, c := range map[string]*Client{"none": client(t), "wrong": client(t, "-auth", host+"=me:"+file("wrong"))} {
		err := push(t, c, host+"/app:v1")
		if !result.IsInput(err) || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "with-registry-auth") {
			t.Errorf("%s: error = %v, want an input error that names the registry and the way out", name, err)
		}
	}
}

func TestRetries(t *testing.T) {
	inner := registry.New()
	var failures atomic.Int32
	failures.Store(2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failures.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	if err := push(t, client(t), strings.TrimPrefix(srv.URL, "http://")+"/app:v1"); err != nil {
		t.Errorf("two failures: %v", err)
	}
	failures.Store(1 << 20)
	err := push(t, client(t), strings.TrimPrefix(srv.URL, "http://")+"/app:v1")
	if err == nil || result.IsInput(err) {
		t.Errorf("failures without end: error = %v, want one that is not the caller's", err)
	}
}

func TestReference(t *testing.T) {
	c := client(t, "-plain-http", "registry.test:5000")
	for _, ref := range []string{"", "app", "localhost:5000/", "localhost:5000/:1", "localhost:5000/@sha256:ab", "ghcr.io/You/App:1", "ghcr.io/a b:1", "ghcr.io/a@sha256:zz"} {
		if r, err := c.Reference(ref); !result.IsInput(err) {
			t.Errorf("Reference(%q) = %v, %v; want an input error", ref, r, err)
		}
	}
	for ref, scheme := range map[string]string{"ghcr.io/you/app:1": "https", "localhost:5000/app": "http", "registry.test:5000/app": "http"} {
		r, err := c.Reference(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Context().Scheme(); got != scheme {
			t.Errorf("%s goes over %s, want %s", ref, got, scheme)
		}
	}
}

func TestTag(t *testing.T) {
	for ref, want := range map[string]string{"localhost:5000/app": "", "localhost:5000/app:1": "1", "app@sha256:ab": "", "a/b:1@sha256:ab": "1"} {
		if got := Tag(ref); got != want {
			t.Errorf("Tag(%q) = %q, want %q", ref, got, want)
		}
	}
}

func TestBadFlags(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, f := range []Flags{{registryConfig: missing}, {ca: missing}, {auths: []string{"nonsense"}}, {auths: []string{"a=b:" + missing}}, {endpoints: []string{"a"}}} {
		if _, err := f.Client(); !result.IsInput(err) {
			t.Errorf("%+v: error = %v, want an input error", f, err)
		}
	}
}

// TestIndexRefuses spoils a good layout in every way that a hostile one may be spoiled.
func TestIndexRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(dir, layer string) error
		want  string
	}{
		{"a link out of the tree", func(_, layer string) error {
			return replace(layer, func() error { return os.Symlink("/etc/passwd", layer) })
		}, "not a regular file"},
		{"a named pipe", func(_, layer string) error {
			return replace(layer, func() error { return syscall.Mkfifo(layer, 0o600) })
		}, "not a regular file"},
		{"a directory", func(_, layer string) error { return replace(layer, func() error { return os.Mkdir(layer, 0o700) }) }, "not a regular file"},
		{"a missing blob", func(_, layer string) error { return os.Remove(layer) }, "no such file"},
		{"a gigabyte where kilobytes were listed", func(_, layer string) error { return os.Truncate(layer, 1<<30) }, "has 1073741824 bytes"},
		{"a changed byte", func(_, layer string) error {
			data, err := os.ReadFile(layer)
			if err != nil {
				return err
			}
			data[0] ^= 1
			return os.WriteFile(layer, data, 0o600)
		}, "was changed"},
		{"a huge index.json", func(dir, _ string) error { return os.Truncate(filepath.Join(dir, "index.json"), 1<<30) }, "larger than"},
		{"index.json that leads out of the tree", func(dir, _ string) error {
			name := filepath.Join(dir, "index.json")
			return replace(name, func() error { return os.Symlink("/etc/hostname", name) })
		}, "escapes"},
		{"a digest with a path in it", func(dir, _ string) error {
			return os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:../../../etc/passwd"}]}`), 0o600)
		}, "index.json"},
		{"two images", func(dir, _ string) error {
			return os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{},{}]}`), 0o600)
		}, "lists 2 entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := random.Image(64, 1)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			p, err := layout.Write(dir, empty.Index)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.AppendIndex(mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}), types.OCIImageIndex)); err != nil {
				t.Fatal(err)
			}
			if _, err := Index(dir); err != nil {
				t.Fatalf("before: %v", err)
			}
			layers, err := img.Layers()
			if err != nil {
				t.Fatal(err)
			}
			digest, err := layers[0].Digest()
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(dir, filepath.Join(dir, "blobs", "sha256", digest.Hex)); err != nil {
				t.Fatal(err)
			}
			if _, err := Index(dir); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want an input error with %q", err, tt.want)
			}
		})
	}
}

func replace(name string, with func() error) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return with()
}

func FuzzIndex(f *testing.F) {
	blob := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	digest, size, err := v1.SHA256(bytes.NewReader(blob))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q}]}`, types.OCIImageIndex, size, digest), blob)
	f.Add([]byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:../../etc/passwd"}]}`), []byte("x"))
	f.Fuzz(func(t *testing.T, top, blob []byte) {
		dir := t.TempDir()
		digest, _, err := v1.SHA256(bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"index.json": top, "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
			filepath.Join("blobs", "sha256", digest.Hex): blob} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		idx, err := Index(dir)
		if err != nil {
			if !result.IsInput(err) {
				t.Errorf("%v is not an input error", err)
			}
			return
		}
		if got, err := idx.Digest(); err != nil || got != digest {
			t.Errorf("the index is %s (%v), and the only blob is %s", got, err, digest)
		}
	})
}

func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cmlnaHQ="},"ghcr.io":{"username":"a","password":"b"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := credentials{}
		if err := c.parseDockerConfig(data); err != nil {
			return
		}
		if _, err := c.Resolve(name.Registry{}); err != nil {
			t.Error(err)
		}
		if a, err := (credentials{}).Resolve(name.Registry{}); err != nil || a != authn.Anonymous {
			t.Error("credentials out of nowhere")
		}
	})
}
