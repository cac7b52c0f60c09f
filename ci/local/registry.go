package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// ensureRegistry returns the address of the running registry.
func (m *machine) ensureRegistry(ctx context.Context) (string, error) {
	inputs, err := fileHash(m.path("bin", "slipway-local"))
	if err != nil {
		return "", err
	}
	if p, err := m.readProcess("registry"); err == nil && p.alive() && p.Inputs == inputs && serves(p.Address) {
		return p.Address, nil
	}
	address, err := m.registryAddress()
	if err != nil {
		return "", err
	}
	if err := m.stop("registry", patience); err != nil {
		return "", err
	}
	cmd := exec.Command(m.path("bin", "slipway-local"), "serve-registry", "--addr", address)
	cmd.Env = append(os.Environ(), "SLIPWAY_CACHE="+m.root)
	err = m.start("registry", process{Address: address, Inputs: inputs}, cmd, func() bool { return serves(address) }, 30*time.Second)
	if err != nil {
		return "", err
	}
	m.log.say("registry: %s", address)
	return address, ctx.Err()
}

// registryAddress is the last one if it is free, so that references stay good, else any.
func (m *machine) registryAddress() (string, error) {
	candidates := []string{"127.0.0.1:5000", "127.0.0.1:0"}
	if p, err := m.readProcess("registry"); err == nil {
		if p.alive() {
			return p.Address, nil
		}
		candidates = append([]string{p.Address}, candidates...)
	}
	var err error
	for _, c := range candidates {
		var l net.Listener
		if l, err = net.Listen("tcp", c); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", err
}

// serveRegistry serves go-containerregistry's registry from a folder until it is told to stop.
func serveRegistry(ctx context.Context, address, dir string) error {
	h, err := newStore(dir)
	if err != nil {
		return err
	}
	srv := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close() // the only error is that of a listener that is closed already
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// store keeps the manifests of a registry on disk: go-containerregistry's own keeps blobs there, and manifests in memory.
type store struct {
	registry http.Handler
	dir      string

	mu sync.Mutex
	n  int
}

// entry is one manifest as it was pushed.
type entry struct {
	Path        string `json:"path"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

func newStore(dir string) (*store, error) {
	blobs, manifests := filepath.Join(dir, "blobs"), filepath.Join(dir, "manifests")
	for _, d := range []string{blobs, manifests} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	s := &store{
		registry: registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)), registry.WithReferrersSupport(true),
			registry.Logger(log.New(io.Discard, "", 0))),
		dir: manifests,
	}
	return s, s.replay()
}

// replay pushes the stored manifests again, in the order of their first arrival: an index comes after what it lists.
func (s *store) replay() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		req := httptest.NewRequest(http.MethodPut, e.Path, bytes.NewReader(e.Body))
		req.Header.Set("Content-Type", e.ContentType)
		rec := httptest.NewRecorder()
		s.registry.ServeHTTP(rec, req)
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.json", &s.n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
		s.registry.ServeHTTP(w, r)
		return
	}
	// A registry may refuse manifests above 4 MiB; so does this one.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rec := &recorder{ResponseWriter: w}
	s.registry.ServeHTTP(rec, r)
	if rec.status == http.StatusCreated {
		if err := s.keep(entry{Path: r.URL.Path, ContentType: r.Header.Get("Content-Type"), Body: body}); err != nil {
			fmt.Fprintln(os.Stderr, "keeping", r.URL.Path+":", err)
		}
	}
}

func (s *store) keep(e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return writeFile(filepath.Join(s.dir, fmt.Sprintf("%09d.json", s.n)), data)
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
