package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// slow yields one byte at a time.
type slow struct {
	left  int
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	s.left--
	return copy(p, "."), nil
}

func TestIdleConn(t *testing.T) {
	const limit = 200 * time.Millisecond
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "half")
		if r.URL.Path == "/hang" {
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	}))
	defer srv.Close()
	defer close(release)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &idleConn{Conn: conn, limit: limit}, err
	}}}
	call := func(path string, body io.Reader) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	if text, err := call("/hang", strings.NewReader("x")); !errors.Is(err, os.ErrDeadlineExceeded) || text != "half" {
		t.Errorf("a server that hangs in its answer: %q, %v; want a timeout", text, err)
	}
	// The answer comes three limits after the request began, and no pause in between was one.
	if text, err := call("/", &slow{left: 12, pause: limit / 4}); err != nil || text != "half" {
		t.Errorf("a slow upload: %q, %v", text, err)
	}
}
