//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pages are those whose commands are run.
var pages = []string{"README.md", "ci/README.md", "stages/README.md"}

// TestReadme runs every command that the documents show, on a copy of the sample: only names of places are replaced. A command that this
// test does not know fails it, so that none is shown untried.
func TestReadme(t *testing.T) {
	source := folder("testdata", "sample")(t)
	cache, err := os.MkdirTemp("", "slip") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(cache) })
	for _, line := range readmeCommands(t) {
		t.Run(line, func(t *testing.T) {
			var out output
			switch {
			case line == "ci/test": // it is what runs this
				return
			case line == "ci/demo":
				out = command(t, 30*time.Minute, "ci/demo")
				if !strings.Contains(out.stdout, "report.html") {
					t.Errorf("it ends without a report:\n%s", out.stdout)
				}
			case line == "ci/demo --cluster":
				newKube(t)
				out = command(t, 30*time.Minute, "ci/demo", "--cluster")
				if !strings.Contains(out.stdout, "deployment.html") {
					t.Errorf("it ends without a page of the deployment:\n%s", out.stdout)
				}
			case line == "ci/bench": // all of it takes a quarter of an hour
				out = command(t, 30*time.Minute, "ci/bench", "-runs", "1", "-only", "programs")
				if !strings.Contains(out.stdout, "ratio") {
					t.Errorf("it ends without a table:\n%s", out.stdout)
				}
			case line == "ci/local/run up":
				if !strings.HasSuffix(os.Getenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST"), "/run/engine.sock") {
					return // the engine is the caller's own: another one would take minutes to build
				}
				out = command(t, time.Minute, "ci/local/run", "up") // it runs already
			case line == "ci/local/run up --cluster":
				newKube(t)
			case line == "ci/local/run down": // the engine that runs this test goes on
				out = command(t, time.Minute, "env", "SLIPWAY_CACHE="+cache, "ci/local/run", "down")
			case strings.HasPrefix(line, "ci/local/run logs"):
				if err := os.MkdirAll(filepath.Join(cache, "log"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(cache, "log", "build.log"), []byte("built\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				out = command(t, time.Minute, "env", append([]string{"SLIPWAY_CACHE=" + cache}, strings.Fields(line)...)...)
			case line == "ci/local/run status":
				out = command(t, time.Minute, "ci/local/run", "status")
			case strings.HasPrefix(line, "ci/local/run exec -- "):
				out = command(t, time.Minute, "sh", "-c", strings.TrimPrefix(line, "ci/local/run exec -- "))
			case strings.HasPrefix(line, "go test "):
				out = command(t, 30*time.Minute, "sh", "-c", line)
			case strings.HasPrefix(line, "dagger call "):
				line = strings.NewReplacer("COMMIT", strings.Repeat("a", 40), "github.com/slipwayhq/slipway", shared.root, "--source .", "--source . --registry tcp://"+shared.registry,
					"ghcr.io/you", shared.registry+"/readme", "file:cosign.key", "file:"+shared.keys+"/cosign.key").Replace(line)
				if strings.Contains(line, " pipeline") {
					line += " --database " + shared.database
				}
				line = strings.ReplaceAll(line, "cosign.pub", shared.keys+"/cosign.pub")
				if strings.Contains(line, "file:kubeconfig") {
					k := newKube(t)
					line = strings.ReplaceAll(line, "file:kubeconfig", "file:"+k.kubeconfig+" --cluster "+k.service)
				}
				out = command(t, 30*time.Minute, "sh", "-c", "cd "+source+" && "+strings.Replace(line, "dagger call", "dagger call --silent", 1))
				for what, reason := range mayRefuse {
					if strings.Contains(line, what) && out.code != 0 && strings.Contains(out.stderr, reason) {
						return
					}
				}
			default:
				t.Fatalf("no test runs %q", line)
			}
			if out.code != 0 {
				t.Errorf("exit code %d\n%s\n%s", out.code, out.stdout, out.stderr)
			}
		})
	}
}

// mayRefuse are the commands for which there may be nothing to do after the others, and what they say then.
var mayRefuse = map[string]string{" abort": "there is nothing to abort", " resume": "there is nothing to go on with", " rollback": "there is no earlier release to go back to"}

// readmeCommands are the lines of the documents' shell blocks, without comments and with continued lines in one.
func readmeCommands(t *testing.T) []string {
	t.Helper()
	var data, commands []string
	for _, name := range pages {
		text, err := os.ReadFile(filepath.Join(shared.root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, string(text))
	}
	inside, rest := false, ""
	for line := range strings.Lines(strings.Join(data, "\n")) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
			continue
		case !inside:
			continue
		}
		line, _, _ = strings.Cut(rest+line, " #")
		line = strings.TrimSpace(line)
		if continued, ok := strings.CutSuffix(line, `\`); ok {
			rest = continued
			continue
		}
		rest = ""
		if line != "" {
			commands = append(commands, line)
		}
	}
	if len(commands) < 5 {
		t.Fatalf("the documents show %q only", commands)
	}
	return commands
}
