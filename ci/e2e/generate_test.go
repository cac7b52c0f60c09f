//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// slipwayCommit stands for one of Slipway's.
const slipwayCommit = "0123456789abcdef0123456789abcdef01234567"

// TestGenerateCI has a wrapper written for each CI service, applies the change as a person would, and asks again: there is nothing left to do.
func TestGenerateCI(t *testing.T) {
	for provider, path := range map[string]string{
		"github": ".github/workflows/slipway.yml", "gitlab": ".gitlab-ci.yml", "jenkins": "Jenkinsfile", "circleci": ".circleci/config.yml",
		"azure": "azure-pipelines.yml",
	} {
		t.Run(provider, func(t *testing.T) {
			source := gitRepository(t, filepath.Join(shared.root, "testdata", "sample"))
			args := []string{"--source", source, "generate", "ci", "--provider", provider, "--commit", slipwayCommit,
				"--publish", "ghcr.io/you/app", "--promote", "ghcr.io/you/production/app"}
			if added := mustDagger(t, append(args, "added-paths")...); !strings.Contains(added, path) {
				t.Errorf("added: %s, want %s", added, path)
			}
			text := applied(t, source, path, args)
			for _, want := range []string{slipwayCommit, "ghcr.io/you/app", "ghcr.io/you/production/app"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s is not in %s:\n%s", want, path, text)
				}
			}
			if provider != "jenkins" {
				var doc map[string]any
				if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
					t.Errorf("%v in\n%s", err, text)
				}
			}
			if empty := mustDagger(t, append(args, "is-empty")...); empty != "true" {
				t.Errorf("a second run changes something: is-empty is %s", empty)
			}
		})
	}
}

// TestGenerateCIForLibrary asks for no secret where there is nothing to publish.
func TestGenerateCIForLibrary(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "library")
	if err := os.Mkdir(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module example.com/library\n\ngo 1.25\n", "library.go": "package library\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := gitRepository(t, folder)
	const path = ".github/workflows/slipway.yml"
	text := applied(t, source, path, []string{"--source", source, "generate", "ci", "--provider", "github", "--commit", slipwayCommit})
	if !strings.Contains(text, "library") || strings.Contains(text, "publish:") || strings.Contains(text, "secrets") {
		t.Errorf("want no word about publishing or secrets:\n%s", text)
	}
}

// TestGenerateCIRefuses gives it what a person gets wrong, and a file that it must not touch.
func TestGenerateCIRefuses(t *testing.T) {
	source := gitRepository(t, filepath.Join(shared.root, "testdata", "sample"))
	generate := func(provider, commit string, more ...string) []string {
		return slices.Concat([]string{"--source", source, "generate", "ci", "--provider", provider, "--commit", commit}, more, []string{"as-patch", "contents"})
	}
	const app = "ghcr.io/you/app"
	refused(t, generate("travis", slipwayCommit), "travis", "GITHUB,GITLAB,JENKINS,CIRCLECI,AZURE") // the command line does not mind the case
	refused(t, generate("github", "main"), "-commit", "40 hexadecimal digits")
	refused(t, generate("github", slipwayCommit, "--publish", app+":1.2.3"), "-publish", "without tag")
	refused(t, generate("github", slipwayCommit, "--publish", app, "--promote", "${{ secrets.KEY }}"), "-promote")
	refused(t, generate("github", slipwayCommit, "--environment", "production"), "-environment", "production")
	refused(t, generate("github", slipwayCommit, "--engine", "http://engine"), "-engine", "tcp://")
	refused(t, generate("jenkins", slipwayCommit), "-publish")

	file := filepath.Join(source, "Jenkinsfile")
	if err := os.WriteFile(file, []byte("node { sh 'make' }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, generate("jenkins", slipwayCommit, "--publish", app), "Jenkinsfile exists")
}

// applied makes the change in the repository, and returns the file that it is about.
func applied(t *testing.T, source, path string, args []string) string {
	t.Helper()
	patch := filepath.Join(t.TempDir(), "change.patch")
	mustDagger(t, append(slices.Clone(args), "as-patch", "export", "--path", patch)...)
	tool(t, "git", "-C", source, "apply", patch)
	data, err := os.ReadFile(filepath.Join(source, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
