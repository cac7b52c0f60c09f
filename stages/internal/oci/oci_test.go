package oci

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

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
