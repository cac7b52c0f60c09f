//go:build e2e

package e2e

import (
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// hostile is a registry on loopback that a test can turn against its users.
type hostile struct {
	host  string
	inner http.Handler
	mu    sync.Mutex
	// meet sees each request first, and reports whether it answered it. Its caller holds no lock.
	meet func(w http.ResponseWriter, r *http.Request) bool
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{inner: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	h.host = strings.TrimPrefix(srv.URL, "http://")
	return h
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	meet := h.meet
	h.mu.Unlock()
	if meet == nil || !meet(w, r) {
		h.inner.ServeHTTP(w, r)
	}
}

// behave sets what the registry does from now on; nil makes it honest.
func (h *hostile) behave(meet func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meet = meet
}

// moveTag lets a tag point to another digest of its repository.
func (h *hostile) moveTag(repository, tag, digest string) {
	base := "/v2/" + repository + "/manifests/"
	get := httptest.NewRecorder()
	h.inner.ServeHTTP(get, httptest.NewRequest(http.MethodGet, base+digest, http.NoBody))
	put := httptest.NewRequest(http.MethodPut, base+tag, get.Body)
	put.Header.Set("Content-Type", get.Header().Get("Content-Type"))
	h.inner.ServeHTTP(httptest.NewRecorder(), put)
}

// publishOther puts an image that nobody signed at ref.
func publishOther(t *testing.T, ref string) (digest string) {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// changeByte answers with one byte changed.
func (h *hostile) changeByte(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	h.inner.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}
