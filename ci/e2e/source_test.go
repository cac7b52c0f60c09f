//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFreshClone runs the tests of two clones of one commit: the second has another .git, and files that git ignores, and must find
// the first one's work done. The times inside the report tell whether the tests ran again.
func TestFreshClone(t *testing.T) {
	origin := folder("testdata", "sample")(t)
	run := func() []byte {
		clone := filepath.Join(t.TempDir(), "clone")
		tool(t, "git", "clone", "-q", origin, clone)
		if err := os.WriteFile(filepath.Join(clone, ".git", "info", "exclude"), []byte("*.log\n/out\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"debug.log", "out/broken_test.go"} {
			path := filepath.Join(clone, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("package nonsense "+clone), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(t.TempDir(), "report")
		mustDagger(t, "--source", clone, "test-report", "files", "export", "--path", dir)
		data, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if first, second := run(), run(); !bytes.Equal(first, second) {
		t.Errorf("the tests ran again for a fresh clone of the same commit:\n%s\n%s", first, second)
	}
}

// TestLibrary has nothing to put into an image: its checks run all the same, and publishing it is refused.
func TestLibrary(t *testing.T) {
	source := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":           "module example.com/lib\n\ngo 1.25\n",
		"lib.go":           "// Package lib adds.\npackage lib\n\n// Add adds.\nfunc Add(a, b int) int { return a + b }\n",
		"lib_test.go":      "package lib\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n",
		"examples/main.go": "// Command examples shows lib.\npackage main\n\nimport \"example.com/lib\"\n\nfunc main() { println(lib.Add(1, 2)) }\n",
		"link":             "", // made below
	} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "link" {
			if err := os.Symlink("lib.go", path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustDagger(t, "--source", source, "pipeline"); !strings.Contains(got, "pipeline: pass") {
		t.Errorf("pipeline says %s", got)
	}
	out := dagger(t, "--source", source, "pipeline", "--publish", "registry.invalid/lib:1", "--key", "file:"+shared.keys+"/cosign.key",
		"--password", "env:E2E_PASSWORD", "--database", shared.database)
	if out.code == 0 || !strings.Contains(out.stdout+out.stderr, "no main package") {
		t.Errorf("publishing a library: exit code %d\n%s%s", out.code, out.stdout, out.stderr)
	}
}
