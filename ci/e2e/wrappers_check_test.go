//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWrappersAreClean holds the wrappers against linters, auditors and the providers' published schemas. Each judge has to find a planted mistake too.
func TestWrappersAreClean(t *testing.T) {
	w := newWrappers(t, "sample")
	python := func(name string) string { return filepath.Join(shared.python, "bin", name) }
	schema := func(more ...string) []string {
		return append([]string{python("check-jsonschema"), "--builtin-schema"}, more...)
	}
	workflows, err := filepath.Glob(filepath.Join(w.slipway, ".github", "workflows", "*.yml"))
	if err != nil || len(workflows) == 0 {
		t.Fatalf("%v, %v", workflows, err)
	}
	// What a schema does not know yet, and the service does.
	dir := t.TempDir()
	known := func(name, text string) string {
		path := filepath.Join(dir, name)
		copyText(t, path, text)
		return path
	}
	// It names the task's second version, and describes the first one only.
	steps := known("steps.yml", w.edited(t, "ci/azure/steps.yml", "PublishCodeCoverageResults@2", "PublishCodeCoverageResults@1",
		"summaryFileLocation:", "codeCoverageTool: Cobertura\n      summaryFileLocation:"))
	template := w.edited(t, "ci/gitlab/slipway.yml")
	head, body, ok := strings.Cut(template, "\n---\n") // the checker reads one document
	if !ok {
		t.Fatal("the GitLab template has no spec")
	}
	gitlab := []string{known("spec.yml", head), known("jobs.yml", body)}

	for _, tt := range []struct {
		name  string
		judge []string
		files []string
		// wrong is what is changed in the last file, for the judge to find.
		wrong [2]string
	}{
		// It does not know $/ yet.
		{"actionlint", []string{filepath.Join(w.emulators, "actionlint"), "-no-color", "-shellcheck=", "-pyflakes=", "-ignore", `"\$/`}, workflows, [2]string{"inputs.publish", "inputs.publich"}},
		{"GitHub's workflow schema", schema("vendor.github-workflows"), workflows, [2]string{"    runs-on: ${{", "    run-on: ${{"}},
		{"GitHub's action schema", schema("vendor.github-actions"), []string{filepath.Join(w.slipway, "ci", "github", "action.yml")}, [2]string{"shell: bash", "shel: bash"}},
		{"GitLab's schema", schema("vendor.gitlab-ci", "--data-transform", "gitlab-ci"), gitlab, [2]string{"interruptible: false", "interruptible: maybe"}},
		{"Azure's schema", schema("vendor.azure-pipelines", "--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"),
			[]string{filepath.Join(w.slipway, "ci", "azure", "slipway.yml"), steps}, [2]string{"displayName:", "displayNames:"}},
		{"CircleCI's schema", schema("vendor.circle-ci"), []string{filepath.Join(w.slipway, "ci", "circleci", "config.yml")}, [2]string{"store_artifacts:\n          path:", "store_artifacts:\n          paths:"}},
		{"CircleCI's parser", []string{"node", "-e", `require(process.argv[1]).parseConfig(require("fs").readFileSync(process.argv[2], "utf8"))`,
			filepath.Join(w.emulators, "node_modules", "@circleci", "circleci-config-parser")},
			[]string{filepath.Join(w.slipway, "ci", "circleci", "config.yml")}, [2]string{"- pipeline:", "- pipelin:"}},
		{"shellcheck", []string{python("shellcheck")}, []string{filepath.Join(w.slipway, "ci", "slipway")}, [2]string{`"$report"`, `$report`}},
		{"Groovy", []string{"java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/groovy/lib/*", "groovy.ui.GroovyMain", known("parse.groovy",
			"new org.codehaus.groovy.ast.builder.AstBuilder().buildFromString(org.codehaus.groovy.control.CompilePhase.CONVERSION, new File(args[0]).text)")},
			[]string{filepath.Join(w.slipway, "ci", "jenkins", "Jenkinsfile")}, [2]string{"pipeline {", "pipeline {{"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out := command(t, 5*time.Minute, tt.judge[0], append(tt.judge[1:], tt.files...)...); out.code != 0 {
				t.Errorf("%s\n%s", out.stdout, out.stderr)
			}
			last := tt.files[len(tt.files)-1]
			if tt.name == "actionlint" || strings.HasSuffix(tt.name, "workflow schema") {
				last = filepath.Join(w.slipway, ".github", "workflows", "slipway.yml")
			}
			text, err := os.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			broken := strings.Replace(string(text), tt.wrong[0], tt.wrong[1], 1)
			if broken == string(text) {
				t.Fatalf("%s has no %q", last, tt.wrong[0])
			}
			file := filepath.Join(t.TempDir(), filepath.Base(last))
			copyText(t, file, broken)
			if out := command(t, 5*time.Minute, tt.judge[0], append(tt.judge[1:], file)...); out.code == 0 {
				t.Errorf("it does not find %q", tt.wrong[1])
			}
		})
	}
	t.Run("zizmor", func(t *testing.T) {
		audit := func() output {
			return command(t, 5*time.Minute, python("zizmor"), "--offline", "--strict-collection", "--no-progress", "--color", "never", "--quiet", "--persona", "pedantic", w.slipway)
		}
		if out := audit(); out.code != 0 {
			t.Errorf("%s\n%s", out.stdout, out.stderr)
		}
		path := filepath.Join(w.slipway, "ci", "github", "action.yml")
		copyText(t, path, w.edited(t, "ci/github/action.yml", `"$GITHUB_ACTION_PATH/../slipway"`, `"$GITHUB_ACTION_PATH/../slipway" ${{ inputs.options }}`))
		if out := audit(); out.code == 0 {
			t.Error("it does not find an input in a script")
		}
	})
}
