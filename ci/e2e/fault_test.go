//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// street is a pipeline to a registry that a test can disturb.
type street struct {
	h    *hostile
	args []string
	app  string
}

func newStreet(t *testing.T, source string) *street {
	t.Helper()
	h := newHostile(t)
	database := h.host + "/fixtures/trivy-db:2"
	tool(t, "crane", "copy", shared.database, database)
	s := &street{h: h, app: h.host + "/staging/app:v1"}
	s.args = []string{"--source", source, "--registry", "tcp://" + h.host, "pipeline", "--publish", s.app,
		"--promote", h.host + "/production/app:v1", "--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD", "--database", database}
	return s
}

// tagged reports whether the published or the promoted tag exists. The registry is honest when it is asked.
func (s *street) tagged(t *testing.T) bool {
	t.Helper()
	s.h.behave(nil)
	for _, ref := range []string{s.app, s.h.host + "/production/app:v1"} {
		if out := command(t, time.Minute, "crane", "digest", ref); out.code == 0 {
			return true
		}
	}
	return false
}

// pass runs the street, which has to come through.
func (s *street) pass(t *testing.T) {
	t.Helper()
	mustDagger(t, s.args...)
	if !s.tagged(t) {
		t.Errorf("%s does not exist after a pipeline that passed", s.app)
	}
}

// upload reports whether a request moves a blob's bytes to staging.
func upload(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/staging/app/blobs/uploads/") && (r.Method == http.MethodPatch || r.Method == http.MethodPut)
}

// TestFault disturbs several streets at the same time: most of what they do is wait.
func TestFault(t *testing.T) {
	source := folder("testdata", "sample")(t)
	t.Run("500 the first time", func(t *testing.T) {
		t.Parallel()
		s := newStreet(t, source)
		var asked sync.Map
		s.h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			what, _, _ := strings.Cut(r.URL.Path, "/uploads/") // each upload has an address of its own
			if _, again := asked.LoadOrStore(r.Method+" "+what, true); again {
				return false
			}
			http.Error(w, `{"errors":[{"code":"UNKNOWN","message":"try again"}]}`, http.StatusInternalServerError)
			return true
		})
		s.pass(t)
	})

	t.Run("reset in mid-upload", func(t *testing.T) {
		t.Parallel()
		s := newStreet(t, source)
		var n atomic.Int32
		s.h.behave(func(w http.ResponseWriter, r *http.Request) bool {
			if !upload(r) || n.Add(1) > 2 {
				return false
			}
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			_ = conn.Close()
			return true
		})
		s.pass(t)
		if n.Load() < 3 {
			t.Error("no upload was reset: nothing was tried")
		}
	})

	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		s := newStreet(t, source)
		var hung atomic.Bool
		s.h.behave(func(_ http.ResponseWriter, r *http.Request) bool {
			if !upload(r) || hung.Swap(true) {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body) // the server sees the client go only when it has read all of it
			<-r.Context().Done()
			return true
		})
		s.pass(t)
		if !hung.Load() {
			t.Error("nothing hung: nothing was tried")
		}
	})

	// Each of these stops the registry at another point of the way, for good.
	for name, stop := range map[string]func(r *http.Request) bool{
		"no upload": upload,
		"no manifest": func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/staging/app/manifests/")
		},
		"no signature": func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/staging/app/manifests/sha256-")
		},
		"no tag": func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/v1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, source)
			s.h.behave(func(w http.ResponseWriter, r *http.Request) bool {
				if !stop(r) {
					return false
				}
				http.Error(w, `{"errors":[{"code":"UNKNOWN","message":"disk full"}]}`, http.StatusInternalServerError)
				return true
			})
			refused(t, s.args, "Publish: ", "registry "+s.h.host+" failed (500)")
			if s.tagged(t) {
				t.Error("a half-pushed release carries a tag")
			}
			s.pass(t) // the second run completes it
		})
	}
}

// TestEngineKilled kills the engine while a release is being pushed, starts it again, and completes the release.
func TestEngineKilled(t *testing.T) {
	local := filepath.Join(shared.root, "ci", "local", "run")
	var status struct {
		Engine *struct {
			PID     int    `json:"pid"`
			Address string `json:"address"`
		} `json:"engine"`
	}
	if err := json.Unmarshal([]byte(tool(t, local, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	if status.Engine == nil || os.Getenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST") != status.Engine.Address {
		t.Skip("the engine is the user's own, and not ours to kill")
	}
	s := newStreet(t, folder("testdata", "sample")(t))
	reached, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	var once sync.Once
	s.h.behave(func(_ http.ResponseWriter, r *http.Request) bool {
		if !upload(r) {
			return false
		}
		once.Do(func() { close(reached) })
		<-over
		return true
	})
	running := exec.CommandContext(t.Context(), "dagger", append([]string{"call", "--silent"}, s.args...)...)
	running.Dir = shared.root
	running.Env = append(os.Environ(), "E2E_PASSWORD="+password)
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reached:
	case <-time.After(10 * time.Minute):
		t.Fatal("the pipeline did not come to its upload")
	}
	if err := syscall.Kill(status.Engine.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("dagger call succeeded although its engine was killed")
		}
	case <-time.After(20 * time.Second): // the command line goes on waiting for its engine: a person ends it
		if err := running.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("dagger call succeeded although it was killed")
		}
	}
	if s.tagged(t) {
		t.Error("a half-pushed release carries a tag")
	}
	tool(t, local, "up")
	s.pass(t)
}
