package generate

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

//go:embed templates/*
var files embed.FS

// templates have square brackets, because braces are what most services expand.
var templates = template.Must(template.New("").Delims("[[", "]]").Funcs(template.FuncMap{
	"quote":    strconv.Quote, // YAML's double-quoted form is the same for what is printable
	"onTag":    onTag,
	"tagged":   tagged,
	"azureTag": func() string { return "${{ replace(variables['Build.SourceBranch'], 'refs/tags/', '') }}" },
}).ParseFS(files, "templates/*"))

func fromTemplate(name string) func(*wrapper) (string, error) {
	return func(w *wrapper) (string, error) {
		var b strings.Builder
		b.WriteString(w.header())
		if err := templates.ExecuteTemplate(&b, name, w); err != nil {
			return "", err
		}
		return b.String(), nil
	}
}

// tagged is each repository with the tag, with blanks between.
func tagged(tag string, list []repository) string {
	s := make([]string, len(list))
	for i, r := range list {
		s[i] = string(r) + ":" + tag
	}
	return strings.Join(s, " ")
}

func join(list []repository, sep string) string {
	s := make([]string, len(list))
	for i, r := range list {
		s[i] = string(r)
	}
	return strings.Join(s, sep)
}

// onTag is an expression of GitHub's: the repositories with the tag that was pushed, or nothing.
func onTag(list []repository) string {
	escape := strings.NewReplacer("'", "''", "{", "{{", "}", "}}")
	args, words := "github.ref_name", make([]string, len(list))
	for i, r := range list {
		words[i] = escape.Replace(string(r)) + ":{0}"
		if r == ownPackage {
			words[i], args = "ghcr.io/{1}:{0}", "github.ref_name, github.repository"
		}
	}
	return fmt.Sprintf("${{ startsWith(github.ref, 'refs/tags/v') && format('%s', %s) || '' }}", strings.Join(words, " "), args)
}

// edit changes one of Slipway's own wrapper files, which stay the only source of what they say. What is not found exactly once is an
// error: the file has changed, and this has not.
type edit struct {
	text string
	err  error
}

// open reads a wrapper file.
func (w *wrapper) open(name string) *edit {
	if w.files == nil {
		return &edit{err: result.Inputf("flag -wrappers is missing: give Slipway's folder ci")}
	}
	data, err := fs.ReadFile(w.files, name)
	if err != nil {
		return &edit{err: result.Inputf("flag -wrappers: %w", err)}
	}
	return &edit{text: string(data)}
}

// replace puts text in place of what the pattern matches.
func (e *edit) replace(pattern, text string) {
	if e.err != nil {
		return
	}
	at := regexp.MustCompile("(?m)"+pattern).FindAllStringIndex(e.text, -1)
	if len(at) != 1 {
		e.err = fmt.Errorf("%d places match %s in Slipway's wrapper, want 1", len(at), pattern)
		return
	}
	e.text = e.text[:at[0][0]] + text + e.text[at[0][1]:]
}

// set puts text in place of a piece of the file.
func (e *edit) set(old, text string) { e.replace(regexp.QuoteMeta(old), text) }

// cut removes the line that begins with start, and what is indented deeper below it.
func (e *edit) cut(start string) {
	indent := regexp.MustCompile(`^ *`).FindString(start)
	e.replace("^"+regexp.QuoteMeta(start)+`.*\n(`+indent+` .*\n)*`, "")
}

// done is the file with the header in place of its own: of the first line, which says what to fill in, or of the whole comment.
func (e *edit) done(w *wrapper) (string, error) {
	if w.Publish != "" {
		e.replace(`\A`+w.provider.comment+` Slipway .*\n`, w.header())
	} else {
		e.replace(`\A`+w.provider.comment+` Slipway .*\n(`+w.provider.comment+`.*\n)*`, w.header())
	}
	if e.err != nil {
		return "", fmt.Errorf("%s: %w", w.provider.name, e.err)
	}
	return e.text, nil
}

// groovy is a string that Groovy expands nothing in.
func groovy(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func jenkinsfile(w *wrapper) (string, error) {
	e := w.open("jenkins/Jenkinsfile")
	e.replace(`SLIPWAY_COMMIT = '0{40}'`, "SLIPWAY_COMMIT = "+groovy(w.Commit))
	if w.Engine != "" {
		e.set("SLIPWAY_ENGINE = ''", "SLIPWAY_ENGINE = "+groovy(w.Engine))
	}
	if w.Publish == "" {
		e.cut("    RELEASE_TO =")
		e.cut("    REGISTRY =")
		e.replace(`(stage\('Check'\) \{\n) +when .*\n`, "stage('Check') {\n")
		e.replace(`^    stage\('Release'\) \{\n(     .*\n)*    \}\n`, "")
		return e.done(w)
	}
	e.replace(`RELEASE_TO = '.*`, "RELEASE_TO = "+groovy(string(w.Publish)))
	if len(w.Promote) > 0 {
		e.replace(`SLIPWAY_PROMOTE = .*`, `SLIPWAY_PROMOTE = "`+tagged("${env.TAG_NAME}", w.Promote)+`"`)
	} else {
		e.cut("        SLIPWAY_PROMOTE =")
	}
	e.replace(`REGISTRY = '.*`, "REGISTRY = "+groovy(w.Registry()))
	if w.Environment != "" {
		e.replace(`^    SLIPWAY_DATABASE = `, "    SLIPWAY_ENVIRONMENT = "+groovy(w.Environment)+"\n    SLIPWAY_DATABASE = ")
	}
	return e.done(w)
}

func circleConfig(w *wrapper) (string, error) {
	e := w.open("circleci/config.yml")
	parameter := func(name, value string) {
		e.replace(`^  `+name+`:.*\n    type: string\n    default: .*`, "  "+name+":\n    type: string\n    default: "+strconv.Quote(value))
	}
	parameter("commit", w.Commit)
	if w.Engine != "" {
		parameter("engine", w.Engine)
	}
	if w.Publish == "" {
		for _, start := range []string{"  publish:", "  promote:", "  registry:", "      publish: {", "      promote: {", "      registry: {",
			"            SLIPWAY_PUBLISH:", "            SLIPWAY_PROMOTE:", "            SLIPWAY_REGISTRY_HOST:", "  release:", "      - release:"} {
			e.cut(start)
		}
		return e.done(w)
	}
	parameter("publish", string(w.Publish))
	parameter("registry", w.Registry())
	e.cut("  promote:") // a parameter cannot hold the tag
	if len(w.Promote) > 0 {
		e.set("promote: << pipeline.parameters.promote >>", "promote: "+strconv.Quote(tagged("<< pipeline.git.tag >>", w.Promote)))
	} else {
		e.cut("          promote: <<")
	}
	if w.Environment != "" {
		const engine = "            SLIPWAY_ENGINE: << pipeline.parameters.engine >>\n"
		e.set(engine, engine+"            SLIPWAY_ENVIRONMENT: "+strconv.Quote(w.Environment)+"\n")
	}
	return e.done(w)
}
