//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"gopkg.in/yaml.v3"
)

// wrappers runs Slipway as each CI service does, without the services.
type wrappers struct {
	emulators string // act, actionlint, node_modules, and Python's validators
	commit    string // of Slipway, as a wrapper names it
	slipway   string // a clone with that commit
	source    string // the repository that is built
	toolbox   string // Slipway's programs as an image; empty to compile them
}

// run is what one wrapper left.
type run struct {
	report string // the folder of the reports, as the service keeps it
	code   int    // 0 when the service would show a success
	log    string
}

func newWrappers(t *testing.T, sample string) *wrappers {
	t.Helper()
	dir := t.TempDir()
	w := &wrappers{emulators: filepath.Join(filepath.Dir(shared.tools), "emulators"), slipway: filepath.Join(dir, "slipway"), source: folder("testdata", sample)(t)}
	if _, err := os.Stat(w.emulators); err != nil {
		from := filepath.Join(shared.root, "ci", "e2e", "emulators")
		tool(t, "env", "CGO_ENABLED=0", "go", "build", "-C", from, "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", "-s -w", "-o", w.emulators+"/", "tool")
		for _, name := range []string{"package.json", "package-lock.json"} {
			copyFile(t, filepath.Join(from, name), filepath.Join(w.emulators, name))
		}
		tool(t, "npm", "ci", "--prefix", w.emulators, "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
		tool(t, filepath.Join(shared.python, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--requirement", filepath.Join(from, "requirements.txt"))
	}

	w.commit = committedTree(t, w.slipway)
	return w
}

// committedTree makes a clone of Slipway with the tree as it is now, as a commit: that is what is tested, and what others name.
func committedTree(t *testing.T, dir string) (commit string) {
	t.Helper()
	tool(t, "git", "clone", "--quiet", "--no-hardlinks", shared.root, dir)
	tool(t, "sh", "-c", fmt.Sprintf("git -C %s ls-files -z | xargs -0 cp --parents -t %s", shared.root, dir))
	tool(t, "sh", "-c", fmt.Sprintf("cd %s && git add -A && git -c user.name=Slipway -c user.email=e2e@slipway.dev commit --quiet --allow-empty -m tree", dir))
	return tool(t, "git", "-C", dir, "rev-parse", "HEAD")
}

// withToolbox makes Slipway's programs an image, once, so that a pruned cache does not cost compiling them.
func (w *wrappers) withToolbox(t *testing.T) *wrappers {
	t.Helper()
	w.toolbox = shared.registry + "/slipway/toolbox:e2e"
	mustDagger(t, "toolbox", "publish", "--address", w.toolbox)
	return w
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// edited is a wrapper's file with what a user fills in.
func (w *wrappers) edited(t *testing.T, file string, pairs ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.slipway, file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %q", file, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// clone is a fresh clone of the repository that is built, as a service makes one.
func (w *wrappers) clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clone")
	tool(t, "git", "clone", "--quiet", "--no-hardlinks", w.source, dir)
	tool(t, "git", "-C", dir, "remote", "set-url", "origin", "https://git.example.com/you/app.git")
	return dir
}

func (w *wrappers) options() string { return "--registry tcp://" + shared.registry }

func (w *wrappers) url() string { return "file://" + w.slipway }

// bait is where a pull request would publish to, if something let it.
func bait(publish string) string {
	if publish == "" {
		return shared.registry + "/equal/bait:e2e"
	}
	return publish
}

const noCommit = "0000000000000000000000000000000000000000"

// secret is the signing key's text.
func secret(t *testing.T) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(shared.keys, "cosign.key"))
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

// byHand is what a person types.
func (w *wrappers) byHand(t *testing.T, publish string) run {
	report := filepath.Join(t.TempDir(), "report")
	args := []string{"-m", w.slipway, "--source", w.clone(t), "--registry", "tcp://" + shared.registry, "--toolbox", w.toolbox, "pipeline-report", "--database", shared.database}
	if publish != "" {
		args = append(args, "--publish", publish, "--key", "file:"+shared.keys+"/cosign.key", "--password", "env:E2E_PASSWORD")
	}
	out := dagger(t, append(args, "files", "export", "--path", report)...)
	if out.code == 0 && readJSON[summary](t, filepath.Join(report, "summary.json")).Verdict != "pass" {
		out.code = 1
	}
	return run{report, out.code, out.stderr}
}

// byScript is the shared script with an environment, as Azure and CircleCI call it; where they differ is how they come to it.
func (w *wrappers) byScript(t *testing.T, dir, script string, env []string) run {
	t.Helper()
	args := []string{"-C", dir, "env"}
	args = append(args, env...)
	out := command(t, 30*time.Minute, "env", append(args, "bash", "-eo", "pipefail", "-c", script)...)
	return run{filepath.Join(dir, "slipway-report"), out.code, out.stdout + out.stderr}
}

// byGitHub runs the reusable workflow under act, on this machine as the runner. The actions that keep and show the reports need GitHub itself: in their
// place stand actions that copy what they are given.
func (w *wrappers) byGitHub(t *testing.T, publish string) run {
	t.Helper()
	dir, kept, home := w.clone(t), filepath.Join(t.TempDir(), "kept"), t.TempDir()
	stand := func(name, input string) string {
		to := filepath.Join(t.TempDir(), name)
		text := fmt.Sprintf("name: stand-in\ninputs: {name: {}, path: {}, if-no-files-found: {}, sarif_file: {}, category: {}}\nruns:\n  using: composite\n  steps:\n"+
			"    - {shell: bash, run: 'mkdir -p \"$KEPT\" && cp -R \"$WHAT\" \"$KEPT/%s\"', env: {WHAT: '${{ inputs.%s }}', KEPT: %q}}\n", name, input, kept)
		for _, at := range []string{"action.yml", "upload-sarif/action.yml"} {
			path := filepath.Join(to, at)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	// act does not know $/ yet, the action beside the workflow: the tree under test stands in for it by name.
	workflow := w.edited(t, ".github/workflows/slipway.yml", "$/ci/github", "slipwayhq/slipway/ci/github@"+w.commit)
	called := filepath.Join(t.TempDir(), "called")
	tool(t, "git", "clone", "--quiet", "--no-hardlinks", w.slipway, called)
	if err := os.WriteFile(filepath.Join(called, ".github", "workflows", "slipway.yml"), []byte(workflow), 0o600); err != nil {
		t.Fatal(err)
	}
	user := fmt.Sprintf(`name: CI
on: [push, pull_request]
permissions: {}
jobs:
  slipway:
    uses: slipwayhq/slipway/.github/workflows/slipway.yml@%s
    permissions: {contents: read, security-events: write, packages: write, id-token: write}
    with: {publish: %q, database: %q, toolbox: %q, options: %q}
    secrets: {key: "${{ secrets.KEY }}", password: "${{ secrets.PASSWORD }}"}
`, w.commit, bait(publish), shared.database, w.toolbox, w.options())
	path := filepath.Join(dir, ".github", "workflows", "ci.yml")
	copyText(t, path, user)
	// The file is the repository's own from now on: a laptop has it too.
	copyText(t, filepath.Join(dir, ".git", "info", "exclude"), ".github\n")
	secrets := filepath.Join(t.TempDir(), "secrets")
	copyText(t, secrets, fmt.Sprintf("KEY=%q\nPASSWORD=%q\n", secret(t), password))
	event := "push"
	if publish == "" {
		event = "pull_request"
	}
	uploads := regexp.MustCompile(`(actions/upload-artifact|github/codeql-action)(?:/upload-sarif)?@([0-9a-f]{40})`).FindAllStringSubmatch(w.edited(t, "ci/github/action.yml"), -1)
	if len(uploads) != 2 {
		t.Fatalf("the action uses %v", uploads)
	}
	args := []string{"-C", dir, "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_CACHE_HOME=" + cacheHome(t), filepath.Join(w.emulators, "act"), event,
		"-P", "ubuntu-24.04=-self-hosted", "--container-daemon-socket", "-", "--no-cache-server", "--action-cache-path", t.TempDir(), "--rm", "--json",
		"--secret-file", secrets,
		"--local-repository", fmt.Sprintf("slipwayhq/slipway@%s=%s", w.commit, called),
		"--local-repository", fmt.Sprintf("%s@%s=%s", uploads[0][1], uploads[0][2], stand("reports", "path")),
		"--local-repository", fmt.Sprintf("%s@%s=%s", uploads[1][1], uploads[1][2], stand("sarif", "sarif_file"))}
	out := command(t, 30*time.Minute, "env", args...)
	log := out.stdout + out.stderr
	for line := range strings.Lines(out.stdout) {
		var said struct {
			Command, Content, Msg string
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.Command == "summary" && strings.Contains(said.Content, "Stage") {
			copyText(t, filepath.Join(kept, "summary"), said.Content)
		}
	}
	if strings.Contains(log, password) {
		t.Error("the password is in the log")
	}
	for _, name := range []string{"sarif", "summary"} {
		if _, err := os.Stat(filepath.Join(kept, name)); err != nil {
			t.Errorf("GitHub would not show the %s: %v", name, err)
		}
	}
	return run{filepath.Join(kept, "reports"), out.code, log}
}

// cacheHome is the machine's own: the CLI that the script makes is kept there.
func cacheHome(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// byGitLab runs the template under gitlab-ci-local, with this machine's shell as the executor.
func (w *wrappers) byGitLab(t *testing.T, publish string) run {
	t.Helper()
	dir := w.clone(t)
	// gitlab-ci-local looks for another project's file where it would have kept a copy.
	copyFile(t, filepath.Join(w.slipway, "ci", "gitlab", "slipway.yml"),
		filepath.Join(dir, ".gitlab-ci-local", "includes", "git.example.com", "slipwayhq", "slipway", w.commit, "ci", "gitlab", "slipway.yml"))
	copyText(t, filepath.Join(dir, ".gitlab-ci.yml"), fmt.Sprintf(`include:
  - project: slipwayhq/slipway
    ref: %[1]s
    file: ci/gitlab/slipway.yml
    inputs: {commit: %[1]q, repository: %q, publish: %q, release-if: $CI_COMMIT_BRANCH, database: %q, toolbox: %q, options: %q, registry: ""}
`, w.commit, w.url(), bait(publish), shared.database, w.toolbox, w.options()))
	copyText(t, filepath.Join(dir, ".git", "info", "exclude"), ".gitlab-ci.yml\n.gitlab-ci-local\n")
	job := "slipway-release"
	args := []string{"-C", dir, filepath.Join(w.emulators, "node_modules", ".bin", "gitlab-ci-local"), "--force-shell-executor", "--shell-executor-no-image", "--no-shell-isolation",
		"--no-color", "--home", t.TempDir(), "--variable", "SLIPWAY_PASSWORD=" + password}
	// A protected variable reaches no merge request.
	args = append(args, "--variable", "SLIPWAY_KEY="+secret(t))
	if publish == "" {
		job, args = "slipway-check", append(args[:len(args)-4], "--variable", "CI_PIPELINE_SOURCE=merge_request_event")
	}
	out := command(t, 30*time.Minute, "env", args...)
	return run{filepath.Join(dir, ".gitlab-ci-local", "artifacts", job, "slipway-report"), out.code, out.stdout + out.stderr}
}

// byJenkins runs the Jenkinsfile by what stands beside it here: see jenkins/run.groovy.
func (w *wrappers) byJenkins(t *testing.T, publish string) run {
	t.Helper()
	dir := t.TempDir()
	file, credentials, work := filepath.Join(dir, "Jenkinsfile"), filepath.Join(dir, "credentials"), filepath.Join(dir, "work")
	repository, _ := splitTag(bait(publish))
	_, tag := splitTag(publish)
	copyText(t, file, w.edited(t, "ci/jenkins/Jenkinsfile", "https://github.com/slipwayhq/slipway.git", w.url(), noCommit, w.commit,
		"SLIPWAY_DATABASE = ''", "SLIPWAY_DATABASE = '"+shared.database+"'", "SLIPWAY_TOOLBOX = ''", "SLIPWAY_TOOLBOX = '"+w.toolbox+"'",
		"SLIPWAY_OPTIONS = ''", "SLIPWAY_OPTIONS = '"+w.options()+"'", "RELEASE_TO = 'ghcr.io/you/app'", "RELEASE_TO = '"+repository+"'"))
	copyText(t, credentials, "slipway-password="+password+"\nslipway-registry=nobody:nothing\nslipway-key="+strings.ReplaceAll(secret(t), "\n", `\n`)+"\n")
	args := []string{"-XX:TieredStopAtLevel=1", "-cp", "/usr/share/groovy/lib/*", "groovy.ui.GroovyMain", filepath.Join(shared.root, "ci", "e2e", "jenkins", "run.groovy"),
		file, w.source, work, credentials}
	if tag != "" {
		args = append(args, tag)
	}
	out := command(t, 30*time.Minute, "java", args...)
	return run{filepath.Join(work, "archive", "slipway-report"), out.code, out.stdout + out.stderr}
}

// splitTag splits what some services take apart.
func splitTag(reference string) (repository, tag string) {
	i := strings.LastIndex(reference, ":")
	if i < 0 {
		return reference, ""
	}
	return reference[:i], reference[i+1:]
}

// byCircleCI runs the run steps of the configuration's one command, with the parameters that its job gives.
func (w *wrappers) byCircleCI(t *testing.T, publish string) run {
	t.Helper()
	var config struct {
		Parameters map[string]struct{ Default string }
		Commands   map[string]struct{ Steps []yaml.Node }
		Jobs       map[string]struct {
			Steps []map[string]map[string]string
		}
	}
	decodeYAML(t, w.edited(t, "ci/circleci/config.yml", "https://github.com/slipwayhq/slipway.git", w.url(), noCommit, w.commit), &config)
	repository, tag := splitTag(publish)
	given := map[string]string{"pipeline.git.tag": tag}
	for name, p := range config.Parameters {
		given["pipeline.parameters."+name] = p.Default
	}
	for name, value := range map[string]string{"publish": repository, "database": shared.database, "toolbox": w.toolbox, "options": w.options()} {
		given["pipeline.parameters."+name] = value
	}
	job, env := "release", []string{"SLIPWAY_KEY=" + secret(t), "SLIPWAY_PASSWORD=" + password}
	if publish == "" {
		job, env = "check", nil
	}
	expand := func(s string) string {
		return regexp.MustCompile(`<<\s*([\w.-]+)\s*>>`).ReplaceAllStringFunc(s, func(m string) string { return given[strings.Trim(m, "<> ")] })
	}
	for _, name := range []string{"publish", "promote", "registry"} {
		given["parameters."+name] = ""
	}
	for name, value := range config.Jobs[job].Steps[0]["pipeline"] {
		given["parameters."+name] = expand(value)
	}
	dir := w.clone(t)
	var last run
	for _, node := range config.Commands["pipeline"].Steps {
		var step struct {
			Run struct {
				Command     string
				Environment map[string]string
			}
		}
		if node.Kind != yaml.MappingNode || node.Decode(&step) != nil || step.Run.Command == "" {
			continue
		}
		all := slices.Clone(env)
		for name, value := range step.Run.Environment {
			all = append(all, name+"="+expand(value))
		}
		if last = w.byScript(t, dir, expand(step.Run.Command), all); last.code != 0 {
			break
		}
	}
	return last
}

// byAzure runs the bash steps of the template, with what its job hands to them.
func (w *wrappers) byAzure(t *testing.T, publish string) run {
	t.Helper()
	type steps []struct {
		Bash       string
		Env        map[string]string
		Template   string
		Parameters struct {
			Env map[string]string
		}
	}
	var template struct {
		Parameters []struct{ Name, Default string }
		Jobs       []struct {
			Steps    steps
			Strategy struct {
				RunOnce struct{ Deploy struct{ Steps steps } } `yaml:"runOnce"`
			}
		}
	}
	decodeYAML(t, w.edited(t, "ci/azure/slipway.yml"), &template)
	given := map[string]string{}
	for _, p := range template.Parameters {
		given["${{ parameters."+p.Name+" }}"] = p.Default
	}
	for name, value := range map[string]string{"publish": publish, "commit": w.commit, "repository": w.url(), "database": shared.database, "toolbox": w.toolbox, "options": w.options()} {
		given["${{ parameters."+name+" }}"] = value
	}
	given["$(slipwayKey)"], given["$(slipwayPassword)"] = secret(t), password
	expand := func(s string) string {
		for from, to := range given {
			s = strings.ReplaceAll(s, from, to)
		}
		return s
	}
	job := template.Jobs[1].Strategy.RunOnce.Deploy.Steps
	if publish == "" {
		job = template.Jobs[0].Steps
	}
	var shared struct{ Steps steps }
	decodeYAML(t, w.edited(t, "ci/azure/steps.yml"), &shared)
	dir, temp := w.clone(t), t.TempDir()
	var last run
	for _, step := range shared.Steps {
		if step.Bash == "" {
			continue
		}
		env := []string{"AGENT_TEMPDIRECTORY=" + temp, "TF_BUILD=True"}
		values := step.Env
		if _, all := values["${{ insert }}"]; all {
			values = job[1].Parameters.Env
		}
		for name, value := range values {
			if name != "SLIPWAY_REGISTRY_USER" && name != "SLIPWAY_REGISTRY_PASSWORD" { // there is nothing to log in to
				env = append(env, name+"="+expand(value))
			}
		}
		if last = w.byScript(t, dir, step.Bash, env); last.code != 0 {
			break
		}
	}
	if !strings.Contains(last.log, "##vso[task.uploadsummary]") {
		t.Error("Azure is told of no summary")
	}
	return last
}

func decodeYAML(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// equal is what has to be the same everywhere.
type equal struct {
	digest, sboms, verdicts, attestations string
}

func (w *wrappers) measure(t *testing.T, r run, publish string) equal {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.log)
	}
	s := readJSON[summary](t, filepath.Join(r.report, "summary.json"))
	var verdicts []string
	for _, st := range s.Stages {
		verdicts = append(verdicts, st.Stage+"="+st.Verdict)
	}
	slices.Sort(verdicts)
	sum := sha256.New()
	sboms := filepath.Join(r.report, "stages", "sbom")
	err := filepath.WalkDir(sboms, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n", strings.TrimPrefix(path, sboms), len(data))
		sum.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	v := readJSON[struct {
		Evidence []struct{ Type, Stage, Verdict string }
	}](t, filepath.Join(r.report, "stages", "verify", "verification.json"))
	var attested []string
	for _, e := range v.Evidence {
		attested = append(attested, strings.Trim(e.Type+" "+e.Stage+" "+e.Verdict, " "))
	}
	slices.Sort(attested)
	if len(attested) < 5 {
		t.Errorf("the evidence is %q", attested)
	}
	if got := tool(t, "crane", "digest", publish); got != s.Digest {
		t.Errorf("the registry has %s, and the report says %s", got, s.Digest)
	}
	return equal{s.Digest, hex.EncodeToString(sum.Sum(nil)), strings.Join(verdicts, " "), strings.Join(attested, "; ")}
}

// TestWrappersFail breaks a test of the sample: every wrapper fails, and publishes its report all the same. None of them signs or publishes for a pull
// request.
func TestWrappersFail(t *testing.T) {
	w := newWrappers(t, filepath.Join("broken", "failing-test")).withToolbox(t)
	for name, how := range map[string]func(*testing.T, string) run{"GitHub": w.byGitHub, "GitLab": w.byGitLab, "Jenkins": w.byJenkins, "CircleCI": w.byCircleCI, "Azure": w.byAzure} {
		t.Run(name, func(t *testing.T) {
			for _, publish := range []string{shared.registry + "/equal/broken:e2e", ""} {
				r := how(t, publish)
				if r.code == 0 {
					t.Errorf("publish %q: it shows a success\n%s", publish, r.log)
				}
				s := readJSON[summary](t, filepath.Join(r.report, "summary.json"))
				if s.Verdict != "fail" {
					t.Errorf("the report says %q", s.Verdict)
				}
				for _, name := range []string{"report.html", "gates.xml", "findings.sarif", "stages/test/junit.xml", "summary.md"} {
					if _, err := os.Stat(filepath.Join(r.report, filepath.FromSlash(name))); err != nil {
						t.Errorf("publish %q: the report lacks %s", publish, name)
					}
				}
				for _, st := range s.Stages {
					if slices.Contains([]string{"sign", "publish", "promote"}, st.Stage) && st.Verdict != "" {
						t.Errorf("%s ran", st.Stage)
					}
				}
			}
		})
	}
}

// TestPullRequestPublishesNothing: although the wrapper says where to, and a key is there, a pull request or branch is only checked.
func TestPullRequestPublishesNothing(t *testing.T) {
	w := newWrappers(t, "sample").withToolbox(t)
	for name, how := range map[string]func(*testing.T, string) run{"GitHub": w.byGitHub, "GitLab": w.byGitLab, "Jenkins": w.byJenkins} {
		t.Run(name, func(t *testing.T) {
			r := how(t, "")
			if r.code != 0 {
				t.Fatalf("exit code %d\n%s", r.code, r.log)
			}
			s := readJSON[summary](t, filepath.Join(r.report, "summary.json"))
			for _, st := range s.Stages {
				if slices.Contains([]string{"key", "attest", "sign", "publish", "promote", "deploy"}, st.Stage) && st.Summary != "no --publish" {
					t.Errorf("%s: %s %s", st.Stage, st.Verdict, st.Summary)
				}
			}
			if out := command(t, time.Minute, "crane", "digest", bait("")); out.code == 0 {
				t.Errorf("%s was published", bait(""))
			}
		})
	}
}

// TestEqualEverywhere runs one commit by hand and as every CI service does, each time with everything that the engine remembers thrown away, and
// prints what came out. It is the last test: those after it would have to compile everything anew.
func TestEqualEverywhere(t *testing.T) {
	w := newWrappers(t, "sample").withToolbox(t)
	// The race detector and golangci-lint take half of a cold run, and say nothing about the image.
	settings := filepath.Join(w.source, "slipway.yaml")
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	copyText(t, settings, strings.Replace(string(text), "test:\n", "lint: {tools: [gofmt, vet]}\ntest:\n  race: \"off\"\n", 1))
	tool(t, "git", "-C", w.source, "-c", "user.name=Slipway", "-c", "user.email=e2e@slipway.dev", "commit", "--quiet", "--all", "--message", "Check less")
	rows := []struct {
		name string
		how  func(*testing.T, string) run
	}{
		{"dagger call", w.byHand},
		{"GitHub, under act", w.byGitHub},
		{"GitLab, under gitlab-ci-local", w.byGitLab},
		{"Jenkins, its Jenkinsfile by Groovy", w.byJenkins},
		{"CircleCI, its steps", w.byCircleCI},
		{"Azure, its steps", w.byAzure},
		{"an engine elsewhere, by TLS", w.byRemote},
	}
	var printed bytes.Buffer
	table := tabwriter.NewWriter(&printed, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tDIGEST\tSBOMS\tSTAGES\tEVIDENCE\tSECONDS")
	var first equal
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			tool(t, "dagger", "core", "engine", "local-cache", "prune")
			// A repository of its own: in another run's there is evidence by another key.
			publish := fmt.Sprintf("%s/equal/%d/sample-%d:e2e", shared.registry, time.Now().UnixNano(), i)
			began := time.Now()
			r := row.how(t, publish)
			if r.report == "" {
				t.Skip(r.log)
			}
			took := time.Since(began)
			got := w.measure(t, r, publish)
			if i == 0 {
				first = got
			}
			if got != first {
				t.Errorf("it differs from the first:\n%+v\n%+v", got, first)
			}
			fmt.Fprintf(table, "%s\t%.19s\t%.12s\t%d passed\t%d kinds\t%.0f\n", row.name, got.digest, got.sboms, strings.Count(got.verdicts, "=pass"),
				strings.Count(got.attestations, ";")+1, took.Seconds())
		})
	}
	if err := table.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("one commit, each run after a prune of the engine's cache:\n%s", printed.String())
}
