package generate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

const (
	commit   = "0123456789abcdef0123456789abcdef01234567"
	wrappers = "../../ci"
)

// program is a plan with something to publish, library one without.
func program() *plan.Plan {
	return &plan.Plan{Name: "app", Components: []plan.Component{{Name: "app", Path: ".", Mains: []plan.Main{{Dir: "./cmd/app", Binary: "app"}}}}}
}

func library() *plan.Plan {
	return &plan.Plan{Name: "shop", Components: []plan.Component{{Name: "shop", Path: "."}}}
}

func withEnvironments(p *plan.Plan) *plan.Plan {
	p.Config.Environments = map[string]config.Environment{
		"staging":    {Repository: "registry.example.com/staging/app"},
		"production": {Repository: "registry.example.com/production/app"},
	}
	return p
}

func inputs(t *testing.T, provider string) Inputs {
	t.Helper()
	return Inputs{Plan: program(), Source: t.TempDir(), Wrappers: wrappers, Provider: provider, Commit: commit, Publish: "ghcr.io/you/app", Out: t.TempDir()}
}

// write puts a file into a folder.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	target := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mustRun returns the only file that was written, and the summary.
func mustRun(t *testing.T, in Inputs) (name, text, summary string) {
	t.Helper()
	r, err := Run(in)
	if err != nil {
		t.Fatalf("%s: %v", in.Provider, err)
	}
	if r.Verdict != result.Pass || len(r.Files) != 1 {
		t.Fatalf("%s: result %+v, want a pass with one file", in.Provider, r)
	}
	data, err := os.ReadFile(filepath.Join(in.Out, r.Files[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(r.Files[0].Path, Dir+"/"), string(data), r.Summary
}

// decode is the YAML as maps and lists.
func decode(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

// at is the value below v that the keys and indexes lead to, or nil.
func at(v any, keys ...any) any {
	for _, k := range keys {
		switch c := v.(type) {
		case map[string]any:
			v = c[k.(string)]
		case []any:
			v = c[k.(int)]
		default:
			return nil
		}
	}
	return v
}

// azureOnTag is the key of what holds on tags.
const azureOnTag = "${{ if startsWith(variables['Build.SourceBranch'], 'refs/tags/v') }}"

// values are where each provider's file says what was asked for.
var values = map[string]map[string][]any{
	"github": {"commit": {"jobs", "slipway", "uses"}, "publish": {"jobs", "slipway", "with", "publish"}, "promote": {"jobs", "slipway", "with", "promote"},
		"registry": {"jobs", "slipway", "with", "registry"}, "environment": {"jobs", "slipway", "with", "slipway-environment"},
		"engine": {"jobs", "slipway", "with", "engine"}},
	"gitlab": {"commit": {"include", 0, "inputs", "commit"}, "publish": {"include", 0, "inputs", "publish"}, "promote": {"include", 0, "inputs", "promote"},
		"registry": {"include", 0, "inputs", "registry"}, "environment": {"include", 0, "inputs", "slipway-environment"},
		"engine": {"include", 0, "inputs", "engine"}},
	"circleci": {"commit": {"parameters", "commit", "default"}, "publish": {"parameters", "publish", "default"},
		"promote": {"jobs", "release", "steps", 0, "pipeline", "promote"}, "registry": {"parameters", "registry", "default"},
		"environment": {"commands", "pipeline", "steps", 2, "run", "environment", "SLIPWAY_ENVIRONMENT"}, "engine": {"parameters", "engine", "default"}},
	"azure": {"commit": {"jobs", 0, "parameters", "commit"}, "publish": {"jobs", 0, "parameters", azureOnTag, "publish"},
		"promote": {"jobs", 0, "parameters", azureOnTag, "promote"}, "registry": {"jobs", 0, "parameters", azureOnTag, "registry"},
		"environment": {"variables", "SLIPWAY_ENVIRONMENT"}, "engine": {"jobs", 0, "parameters", "engine"}},
}

// form is how each provider's file spells it.
func form(provider, key, v string) string {
	list := strings.Fields(v)
	suffix := func(tag string) string { return strings.Join(list, tag+" ") + tag }
	switch {
	case key == "commit" && provider == "github":
		return "slipwayhq/slipway/.github/workflows/slipway.yml@" + v
	case key != "publish" && key != "promote", provider == "circleci" && key == "publish":
		return v
	}
	switch provider {
	case "github":
		return "${{ startsWith(github.ref, 'refs/tags/v') && format('" + suffix(":{0}") + "', github.ref_name) || '' }}"
	case "gitlab":
		return suffix(":$CI_COMMIT_TAG")
	case "circleci":
		return suffix(":<< pipeline.git.tag >>")
	}
	return suffix(":${{ replace(variables['Build.SourceBranch'], 'refs/tags/', '') }}")
}

// TestRun has each provider's file say what was asked for, and nothing more than that.
func TestRun(t *testing.T) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			in := inputs(t, p.name)
			in.Plan = withEnvironments(in.Plan)
			in.Promote = []string{"ghcr.io/you/staging/app", "ghcr.io/you/production/app"}
			in.Environment, in.Engine = "staging", "tcp://engine.example.com:8080"
			name, text, summary := mustRun(t, in)
			if name != p.path {
				t.Errorf("wrote %s, want %s", name, p.path)
			}
			if first, _, _ := strings.Cut(text, "\n"); first != p.comment+" "+marker {
				t.Errorf("the first line is %q", first)
			}
			if !strings.Contains(summary, name) || !strings.Contains(summary, in.Publish) || !strings.Contains(summary, "staging requires") {
				t.Errorf("summary: %s", summary)
			}
			if p.name == "jenkins" {
				for _, want := range []string{"SLIPWAY_COMMIT = '" + commit + "'", "RELEASE_TO = 'ghcr.io/you/app'\n", `SLIPWAY_PUBLISH = "${RELEASE_TO}:${env.TAG_NAME}"`,
					`SLIPWAY_PROMOTE = "ghcr.io/you/staging/app:${env.TAG_NAME} ghcr.io/you/production/app:${env.TAG_NAME}"`, "REGISTRY = 'ghcr.io'\n",
					"SLIPWAY_ENVIRONMENT = 'staging'\n", "SLIPWAY_ENGINE = 'tcp://engine.example.com:8080'", "when { not { buildingTag() } }", "when { buildingTag() }"} {
					if strings.Count(text, want) != 1 {
						t.Errorf("%q is there %d times, want once:\n%s", want, strings.Count(text, want), text)
					}
				}
				return
			}
			want := map[string]string{"commit": commit, "publish": in.Publish, "promote": strings.Join(in.Promote, " "), "registry": "ghcr.io",
				"environment": "staging", "engine": in.Engine}
			doc := decode(t, text)
			for key, v := range want {
				if got := at(doc, values[p.name][key]...); got != form(p.name, key, v) {
					t.Errorf("%s is %v, want %s:\n%s", key, got, form(p.name, key, v), text)
				}
			}
		})
	}
}

// TestDefaults leaves out what may be left out.
func TestDefaults(t *testing.T) {
	onTag := func(format string) string {
		return "${{ startsWith(github.ref, 'refs/tags/v') && format(" + format + ") || '' }}"
	}
	for name, tt := range map[string]struct {
		provider string
		plan     *plan.Plan
		publish  string
		want     map[string]any
	}{
		"GitHub's own registry": {provider: "github", plan: program(),
			want: map[string]any{"publish": onTag("'ghcr.io/{1}:{0}', github.ref_name, github.repository"), "registry": "ghcr.io", "environment": nil, "engine": nil, "promote": nil}},
		"a name in upper case": {provider: "github", plan: func() *plan.Plan {
			p := program()
			p.Source.Remote = "https://github.com/You/App"
			return p
		}(), want: map[string]any{"publish": onTag("'ghcr.io/you/app:{0}', github.ref_name")}},
		"GitLab's own registry": {provider: "gitlab", plan: program(),
			want: map[string]any{"publish": "$CI_REGISTRY_IMAGE:$CI_COMMIT_TAG", "registry": nil, "environment": nil, "engine": nil, "promote": nil}},
		"the first environment": {provider: "azure", plan: withEnvironments(program()), want: map[string]any{"environment": "production",
			"publish": form("azure", "publish", "registry.example.com/production/app"), "registry": "registry.example.com"}},
		"a registry that is not GitLab's": {provider: "gitlab", plan: program(), publish: "registry.example.com:5000/app",
			want: map[string]any{"registry": "registry.example.com:5000"}},
		"no promotion": {provider: "circleci", plan: program(), publish: "ghcr.io/you/app", want: map[string]any{"promote": nil, "environment": nil, "engine": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs(t, tt.provider)
			in.Plan, in.Publish = tt.plan, tt.publish
			_, text, _ := mustRun(t, in)
			doc := decode(t, text)
			for key, want := range tt.want {
				if got := at(doc, values[tt.provider][key]...); got != want {
					t.Errorf("%s is %v, want %v:\n%s", key, got, want, text)
				}
			}
		})
	}
}

// TestLibrary asks for no secret where there is nothing to publish.
func TestLibrary(t *testing.T) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			in := inputs(t, p.name)
			in.Plan, in.Publish = withEnvironments(library()), ""
			_, text, summary := mustRun(t, in)
			if !strings.Contains(summary, "library") {
				t.Errorf("summary: %s", summary)
			}
			if !strings.Contains(text, commit) {
				t.Errorf("the commit is not in\n%s", text)
			}
			_, body, _ := strings.Cut(text, "nothing is published.\n")
			for _, word := range []string{"publish:", "PUBLISH", "PROMOTE", "REGISTRY", "RELEASE", "SLIPWAY_KEY", "secrets", "credentials", "variableGroup", "release:", "ENVIRONMENT"} {
				if strings.Contains(body, word) {
					t.Errorf("%s is in\n%s", word, text)
				}
			}
			if p.name == "jenkins" {
				if strings.Count(text, "{") != strings.Count(text, "}") || strings.Contains(text, "when") {
					t.Errorf("not a Jenkinsfile that always checks:\n%s", text)
				}
				return
			}
			decode(t, text)
			in.Publish = "ghcr.io/you/app"
			if _, err := Run(in); !result.IsInput(err) || !strings.Contains(err.Error(), "library") {
				t.Errorf("with -publish: error = %v, want one about the library", err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, in *Inputs)
		want   string
	}{
		{"unknown provider", func(_ *testing.T, in *Inputs) { in.Provider = "travis" }, "github, gitlab, jenkins, circleci, azure"},
		{"no provider", func(_ *testing.T, in *Inputs) { in.Provider = "" }, "-provider"},
		{"a branch as commit", func(_ *testing.T, in *Inputs) { in.Commit = "main" }, "-commit"},
		{"a short commit", func(_ *testing.T, in *Inputs) { in.Commit = commit[:12] }, "-commit"},
		{"two lines as commit", func(_ *testing.T, in *Inputs) { in.Commit = commit + "\n" }, "-commit"},
		{"a tag in -publish", func(_ *testing.T, in *Inputs) { in.Publish = "ghcr.io/you/app:1" }, "-publish"},
		{"a digest in -promote", func(_ *testing.T, in *Inputs) { in.Promote = []string{"ghcr.io/you/app@sha256:" + commit} }, "-promote"},
		{"no registry", func(_ *testing.T, in *Inputs) { in.Publish = "you/app" }, "-publish"},
		{"upper case", func(_ *testing.T, in *Inputs) { in.Publish = "ghcr.io/You/App" }, "-publish"},
		{"an expression", func(_ *testing.T, in *Inputs) { in.Publish = "ghcr.io/${{ secrets.KEY }}" }, "-publish"},
		{"a quote in the host", func(_ *testing.T, in *Inputs) { in.Publish = "a'b.io/you/app" }, "-publish"},
		{"an empty promotion", func(_ *testing.T, in *Inputs) { in.Promote = []string{""} }, "-promote"},
		{"nowhere to publish", func(_ *testing.T, in *Inputs) { in.Publish, in.Provider = "", "jenkins" }, "give the repository"},
		{"nowhere to publish, on CircleCI", func(_ *testing.T, in *Inputs) { in.Publish, in.Provider = "", "circleci" }, "-publish"},
		{"nowhere to publish, on Azure", func(_ *testing.T, in *Inputs) { in.Publish, in.Provider = "", "azure" }, "-publish"},
		{"unknown environment", func(_ *testing.T, in *Inputs) { in.Plan, in.Environment = withEnvironments(program()), "prod" }, "production, staging"},
		{"no environments", func(_ *testing.T, in *Inputs) { in.Environment = "production" }, "has none"},
		{"an engine that is none", func(_ *testing.T, in *Inputs) { in.Engine = "http://engine" }, "-engine"},
		{"an engine with an expression", func(_ *testing.T, in *Inputs) { in.Engine = "tcp://${{secrets.KEY}}" }, "-engine"},
		{"a file of somebody's", func(t *testing.T, in *Inputs) {
			write(t, in.Source, ".github/workflows/slipway.yml", "# Slipway by hand\n")
		},
			".github/workflows/slipway.yml exists"},
		{"an empty file", func(t *testing.T, in *Inputs) { write(t, in.Source, ".github/workflows/slipway.yml", "") }, "slipway.yml exists"},
		{"a file in the folder's place", func(t *testing.T, in *Inputs) { write(t, in.Source, ".github", "") }, "in the way"},
		{"a link in the file's place", func(t *testing.T, in *Inputs) {
			write(t, in.Source, ".github/workflows/other.yml", "")
			if err := os.Symlink("nowhere", filepath.Join(in.Source, ".github", "workflows", "slipway.yml")); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"two GitLab files of somebody's", func(t *testing.T, in *Inputs) {
			in.Provider = "gitlab"
			write(t, in.Source, ".gitlab-ci.yml", "stages: []\n")
			write(t, in.Source, gitlabIncluded, "stages: []\n")
		}, gitlabIncluded + " exists"},
		{"no wrappers", func(_ *testing.T, in *Inputs) { in.Provider, in.Wrappers = "jenkins", "" }, "-wrappers"},
		{"no source", func(_ *testing.T, in *Inputs) { in.Source = "/nonexistent" }, "-source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputs(t, "github")
			tt.change(t, &in)
			if _, err := Run(in); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want an input error with %q", err, tt.want)
			}
			if left, err := os.ReadDir(in.Out); err != nil || len(left) > 0 {
				t.Errorf("%v was written, %v", left, err)
			}
		})
	}
}

// TestReplaces writes over its own files, also where they were changed.
func TestReplaces(t *testing.T) {
	for _, p := range providers {
		in := inputs(t, p.name)
		_, text, _ := mustRun(t, in)
		write(t, in.Source, p.path, text)
		if name, again, summary := mustRun(t, in); name != p.path || again != text || !strings.Contains(summary, "as it should be") {
			t.Errorf("%s: a second run wrote %s: %s", p.name, name, summary)
		}
		write(t, in.Source, p.path, strings.ReplaceAll(text, commit, strings.Repeat("0", 40))+"\n")
		if name, again, summary := mustRun(t, in); name != p.path || again != text || !strings.Contains(summary, "is written") {
			t.Errorf("%s: with an older file, wrote %s: %s", p.name, name, summary)
		}
	}
}

// TestGitLabIncluded stays beside a .gitlab-ci.yml that is there already.
func TestGitLabIncluded(t *testing.T) {
	in := inputs(t, "gitlab")
	write(t, in.Source, ".gitlab-ci.yml", "test:\n  script: [make]\n")
	name, text, summary := mustRun(t, in)
	if name != gitlabIncluded || !strings.Contains(summary, "include: [{local: /"+gitlabIncluded+"}]") || !strings.Contains(text, gitlabIncluded) {
		t.Errorf("wrote %s: %s\n%s", name, summary, text)
	}
	if at(decode(t, text), "workflow") != nil {
		t.Errorf("it decides when the whole pipeline runs:\n%s", text)
	}
}

func TestDefaultBranch(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		ref   string
		want  string
	}{
		"no git":              {nil, "", "main"},
		"a clone":             {map[string]string{"refs/remotes/origin/HEAD": "ref: refs/remotes/origin/trunk\n", "refs/heads/main": commit}, "refs/heads/x", "trunk"},
		"a branch beside":     {map[string]string{"refs/heads/master": commit}, "refs/heads/topic", "master"},
		"packed":              {map[string]string{"packed-refs": "# pack-refs\n" + commit + " refs/remotes/origin/master\n"}, "refs/heads/topic", "master"},
		"another branch":      {nil, "refs/heads/release/1.x", "release/1.x"},
		"a tag":               {nil, "refs/tags/v1", "main"},
		"a name with a quote": {map[string]string{"refs/remotes/origin/HEAD": "ref: refs/remotes/origin/a\"b\n"}, "", "main"},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs(t, "github")
			in.Plan.Source.Ref = tt.ref
			for name, text := range tt.files {
				write(t, in.Source, ".git/"+name, text)
			}
			_, text, _ := mustRun(t, in)
			if got := at(decode(t, text), "on", "push", "branches", 0); got != tt.want {
				t.Errorf("branch %v, want %s", got, tt.want)
			}
		})
	}
}

// TestChangedWrapper fails where the wrapper's text is no longer what the edits know.
func TestChangedWrapper(t *testing.T) {
	for provider, tt := range map[string]struct{ file, known string }{
		"jenkins": {"jenkins/Jenkinsfile", "SLIPWAY_COMMIT"}, "circleci": {"circleci/config.yml", "commit:"},
	} {
		in := inputs(t, provider)
		data, err := os.ReadFile(filepath.Join(wrappers, tt.file))
		if err != nil {
			t.Fatal(err)
		}
		in.Wrappers = t.TempDir()
		write(t, in.Wrappers, tt.file, strings.ReplaceAll(string(data), tt.known, "OTHER:"))
		if _, err := Run(in); err == nil || result.IsInput(err) || !strings.Contains(err.Error(), provider) {
			t.Errorf("%s: error = %v, want one that is not the caller's", provider, err)
		}
	}
}

// FuzzRender holds every accepted input against what the file says when it is read.
func FuzzRender(f *testing.F) {
	f.Add("ghcr.io/you/app", "registry.example.com:5000/a/b", "production", "tcp://127.0.0.1:8080", "main")
	f.Add("a\"b.io/x", "a'b.io/{0}", "a: b", "unix:///run/x.sock", "x\n- y")
	f.Add("a.io/x #", "$(x).io/y", "<< x >>", "kube-pod://x?namespace=y&context=z", "${{ x }}")
	f.Fuzz(func(t *testing.T, publish, promote, environment, engine, branch string) {
		for _, p := range providers {
			pl := program()
			pl.Config.Environments = map[string]config.Environment{environment: {Repository: "ghcr.io/you/app"}}
			w, err := newWrapper(Inputs{Plan: pl, Wrappers: wrappers, Provider: p.name, Commit: commit, Publish: publish, Promote: []string{promote},
				Environment: environment, Engine: engine})
			if err != nil {
				if !result.IsInput(err) {
					t.Error(err)
				}
				return
			}
			if branchForm.MatchString(branch) {
				w.Branch = branch
			}
			w.note(pl)
			text, err := p.render(w)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"commit": commit, "publish": string(w.Publish), "promote": promote, "environment": w.Environment, "engine": engine}
			if p.name == "jenkins" {
				for _, v := range want {
					if strings.ContainsAny(v, "'\"\\$\n") {
						t.Errorf("%q is in a string of Groovy's:\n%s", v, text)
					}
				}
				continue
			}
			doc := decode(t, text)
			for key, v := range want {
				if got := at(doc, values[p.name][key]...); got != form(p.name, key, v) && (v != "" || got != nil) {
					t.Errorf("%s: %s is %v, want %s:\n%s", p.name, key, got, form(p.name, key, v), text)
				}
			}
		}
	})
}
