//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLock pins the base images, builds with the pins, and then with pins that nobody has.
func TestLock(t *testing.T) {
	source := filepath.Join(t.TempDir(), "sample")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(shared.root, "testdata", "sample"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(source, "slipway.lock")
	unpinned := mustDagger(t, "--source", source, "build", "digest")
	mustDagger(t, "--source", source, "lock", "export", "--path", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"docker.io/library/golang:1.26-bookworm": "sha256:`) {
		t.Errorf("slipway.lock says %s", data)
	}
	if pinned := mustDagger(t, "--source", source, "build", "digest"); pinned != unpinned {
		t.Errorf("digest %s with the lock, %s without", pinned, unpinned)
	}

	nowhere := strings.Repeat("0d", 32)
	for name, tt := range map[string]struct{ text, want string }{
		"an image that is gone": {regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(string(data), nowhere), nowhere},
		"a broken lock":         {strings.Replace(string(data), "sha256:", "md5:", 1), "slipway.lock"},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := dagger(t, "--source", source, "build", "digest"); out.code == 0 || !strings.Contains(out.stdout+out.stderr, tt.want) {
			t.Errorf("%s: exit code %d, and %q is not in what was printed:\n%s%s", name, out.code, tt.want, out.stdout, out.stderr)
		}
	}
}
