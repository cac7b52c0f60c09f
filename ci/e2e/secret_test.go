//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// disguises are the forms in which a secret leaks: as it is, percent-encoded, in hexadecimal, and in base64 at each of the three offsets
// that it can have in a longer text.
func disguises(secret string) []string {
	list := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret))}
	for offset := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(append(make([]byte, offset), secret...))
			// The first and last characters also hold bits of what stands around the secret.
			list = append(list, text[(offset*8+5)/6:len(text)-1])
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// leaks names the secrets that data holds, in whatever form.
func leaks(data []byte, secrets map[string]string) []string {
	var found []string
	for name, secret := range secrets {
		for _, form := range disguises(secret) {
			if bytes.Contains(data, []byte(form)) {
				found = append(found, name+" as "+form)
			}
		}
	}
	return found
}

func TestDisguises(t *testing.T) {
	const secret = "pa55 wörd/+&=?"
	for _, around := range []string{"", "a", "ab", "abc", "user:"} {
		for form, text := range map[string]string{
			"plain": around + secret + around, "query": around + url.QueryEscape(secret), "path": url.PathEscape(secret),
			"base64": base64.StdEncoding.EncodeToString([]byte(around + secret + around)),
			"url64":  base64.URLEncoding.EncodeToString([]byte(around + secret + around)),
			"hex":    hex.EncodeToString([]byte(around + secret)),
		} {
			if len(leaks([]byte("x"+text+"y"), map[string]string{"s": secret})) == 0 {
				t.Errorf("%s after %q is not found", form, around)
			}
		}
	}
	if found := leaks([]byte("nothing of the kind"), map[string]string{"s": secret}); len(found) > 0 {
		t.Errorf("found %q", found)
	}
}

// TestNoSecretLeaks runs the whole street with a key, its password and a registry's password, and looks for them in everything that
// leaves the engine: what is printed, every report, everything that is pushed.
func TestNoSecretLeaks(t *testing.T) {
	secrets := map[string]string{"key password": "Zw3!k/l+M&n=pässwort", "registry password": "Qx7/r+egistry&tök=en"}
	t.Setenv("E2E_KEY_PASSWORD", secrets["key password"])
	t.Setenv("E2E_REGISTRY_PASSWORD", secrets["registry password"])
	keys := filepath.Join(t.TempDir(), "keys")
	mustDagger(t, "key-pair", "--password", "env:E2E_KEY_PASSWORD", "export", "--path", keys)
	private, err := os.ReadFile(filepath.Join(keys, "cosign.key"))
	if err != nil {
		t.Fatal(err)
	}
	// A line of the encrypted key stands for the key.
	secrets["private key"] = strings.Split(string(private), "\n")[2]

	h := newHostile(t)
	var mu sync.Mutex
	var pushed [][]byte
	var authenticated bool
	h.behave(func(w http.ResponseWriter, r *http.Request) bool {
		if _, pass, ok := r.BasicAuth(); !ok || pass != secrets["registry password"] {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return true
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		authenticated = true
		if len(body) > 0 {
			pushed = append(pushed, body)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return false
	})

	dir := filepath.Join(t.TempDir(), "report")
	databaseDir := filepath.Join(t.TempDir(), "db")
	tool(t, "go", "run", "./stages/vulndb/cmd/fixturedb", "-advisories", "testdata/advisories", "-out", databaseDir)
	out := command(t, 30*time.Minute, "dagger", "call", "--progress=plain", "--source", folder("testdata", "sample")(t), "--registry", "tcp://"+h.host,
		"with-registry-auth", "--address", h.host, "--username", "robot", "--password", "env:E2E_REGISTRY_PASSWORD",
		"pipeline-report", "--publish", h.host+"/staging/app:v1", "--promote", h.host+"/production/app:v1",
		"--key", "file:"+keys+"/cosign.key", "--password", "env:E2E_KEY_PASSWORD", "--database-dir", databaseDir, "files", "export", "--path", dir)
	if out.code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", out.code, out.stdout, out.stderr)
	}
	if s := readJSON[summary](t, filepath.Join(dir, "summary.json")); s.Verdict != "pass" {
		t.Fatalf("verdict = %q", s.Verdict)
	}
	look := func(where string, data []byte) {
		for _, found := range leaks(data, secrets) {
			t.Errorf("%s: %s", where, found)
		}
	}
	look("what was printed", []byte(out.stdout+out.stderr))
	files := 0
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		look(path, data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, body := range pushed {
		look("what was pushed", body)
		if zr, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			plain, err := io.ReadAll(zr)
			if err != nil {
				t.Errorf("a layer cannot be unpacked: %v", err)
			}
			look("a layer", plain)
		}
	}
	if files < 20 || len(pushed) < 10 || !authenticated || len(out.stderr) < 1000 {
		t.Errorf("looked at %d files, %d uploads and %d bytes of log: something was not looked at", files, len(pushed), len(out.stderr))
	}
}
