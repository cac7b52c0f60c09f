// Package generate writes files for a repository: the wrapper that runs Slipway under its CI service, adapted to what the plan found.
package generate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// Dir is where the files lie in the result directory, each at its path in the repository.
const Dir = "files"

// marker stands in the first line of every file that this stage wrote. Such a file is replaced, and no other.
const marker = `Slipway: written by "generate ci", which replaces the file as long as this line is its first.`

// Inputs are what the wrapper is made from.
type Inputs struct {
	Plan *plan.Plan
	// Source is the repository's folder.
	Source string
	// Wrappers is Slipway's folder ci, with jenkins/Jenkinsfile and circleci/config.yml.
	Wrappers string
	// Provider is the CI service's name.
	Provider string
	// Commit is the one of Slipway that runs.
	Commit string
	// Publish is the repository to publish to, and Promote are those to promote to, all without a tag.
	Publish string
	Promote []string
	// Environment is one of slipway.yaml's.
	Environment string
	// Engine is what ci/slipway takes as SLIPWAY_ENGINE.
	Engine string
	// Out is the result directory.
	Out string
}

// provider is a CI service.
type provider struct {
	name string
	// path is where the service looks for its file.
	path string
	// comment starts one.
	comment string
	// placeholder is the service's own registry, if it has one.
	placeholder repository
	// secrets says what has to be set up before a release.
	secrets func(*wrapper) string
	render  func(*wrapper) (string, error)
}

var providers = []provider{
	{name: "github", path: ".github/workflows/slipway.yml", comment: "#", placeholder: ownPackage, secrets: githubSecrets,
		render: fromTemplate("github.yml")},
	{name: "gitlab", path: ".gitlab-ci.yml", comment: "#", placeholder: "$CI_REGISTRY_IMAGE", secrets: gitlabSecrets,
		render: fromTemplate("gitlab.yml")},
	{name: "jenkins", path: "Jenkinsfile", comment: "//", render: jenkinsfile},
	{name: "circleci", path: ".circleci/config.yml", comment: "#", render: circleConfig},
	{name: "azure", path: "azure-pipelines.yml", comment: "#", secrets: azureSecrets, render: fromTemplate("azure.yml")},
}

// gitlabIncluded is written where the project has a .gitlab-ci.yml of its own, to be included there.
const gitlabIncluded = ".gitlab/slipway.yml"

func names() string {
	var list []string
	for _, p := range providers {
		list = append(list, p.name)
	}
	return strings.Join(list, ", ")
}

// repository is an image repository without a tag.
type repository string

// ownPackage is the GitHub repository's own. It has to be put together when it runs.
const ownPackage repository = "ghcr.io/${{ github.repository }}"

// registry is the host to log in to.
func (r repository) registry() string {
	host, _, _ := strings.Cut(string(r), "/")
	return host
}

// Forms of what is written into the files. None of them holds a quote, a blank, or what any of the services expands.
var (
	commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
	// repositoryForm is slipway.yaml's.
	repositoryForm  = regexp.MustCompile(`^[A-Za-z0-9.-]+(:\d{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)
	environmentForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// engineForm has the schemes that ci/slipway knows.
	engineForm = regexp.MustCompile(`^(local|(tcp|tls|unix|ssh|kube-pod|(docker-)?(image|container)(\+[a-z]+)?)://[A-Za-z0-9._~:/?@%&=+,\[\]-]+)$`)
	branchForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
)

// wrapper is what is known about the file to write. Its values have the forms above.
type wrapper struct {
	provider    provider
	path        string
	files       fs.FS // Slipway's folder ci
	Commit      string
	Branch      string // the default one
	Publish     repository
	Promote     []repository
	Environment string
	Engine      string
	// Included says that another file includes this one.
	Included bool
	notes    []string
}

// PublishTo is where to publish, as a list like PromoteTo.
func (w *wrapper) PublishTo() []repository { return []repository{w.Publish} }

// PromoteTo is where to promote to.
func (w *wrapper) PromoteTo() []repository { return w.Promote }

// Registry is the host to log in to. It is empty where GitLab's own is meant, which every job there knows.
func (w *wrapper) Registry() string {
	host := w.Publish.registry()
	if w.provider.name == "gitlab" && (w.Publish == w.provider.placeholder || host == "registry.gitlab.com") {
		return ""
	}
	return host
}

// header is the comment that the file begins with.
func (w *wrapper) header() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", w.provider.comment, marker)
	for _, n := range w.notes {
		fmt.Fprintf(&b, "%s %s\n", w.provider.comment, n)
	}
	return b.String()
}

// Run writes the wrapper into in.Out.
func Run(in Inputs) (*result.Result, error) {
	root, err := os.OpenRoot(in.Source)
	if err != nil {
		return nil, result.Inputf("flag -source: %w", err)
	}
	defer root.Close()
	w, err := newWrapper(in)
	if err != nil {
		return nil, err
	}
	w.Branch = defaultBranch(root, in.Plan.Source.Ref)
	if err := w.choosePath(root); err != nil {
		return nil, err
	}
	w.note(in.Plan)
	text, err := w.provider.render(w)
	if err != nil {
		return nil, err
	}
	old, err := existing(root, w.path)
	if err != nil {
		return nil, err
	}
	if old != nil && !ours(old) && string(old) != text {
		return nil, result.Inputf("%s exists, and was not written by this function: move it away, or put %q in front of it to have it replaced",
			w.path, w.provider.comment+" "+marker)
	}
	target := filepath.Join(in.Out, Dir, filepath.FromSlash(w.path))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(target, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return &result.Result{Verdict: result.Pass, Summary: w.summary(string(old) == text),
		Files: []result.File{{Path: path.Join(Dir, w.path), MediaType: w.mediaType()}}}, nil
}

func (w *wrapper) mediaType() string {
	if path.Ext(w.path) == ".yml" {
		return "application/yaml"
	}
	return "text/plain"
}

// summary is one line with everything that the file's header says.
func (w *wrapper) summary(same bool) string {
	s := w.path + " is written"
	if same {
		s = w.path + " is as it should be"
	}
	if w.Publish != "" {
		s += fmt.Sprintf(": a tag is published to %s", w.Publish)
		if len(w.Promote) > 0 {
			s += " and promoted to " + join(w.Promote, ", ")
		}
		if w.Environment != "" {
			s += ", with what " + w.Environment + " requires"
		}
	}
	return s + ". " + strings.Join(w.notes, " ")
}

// newWrapper checks the flags and fills in what they leave open.
func newWrapper(in Inputs) (*wrapper, error) {
	i := slices.IndexFunc(providers, func(p provider) bool { return p.name == in.Provider })
	if i < 0 {
		return nil, result.Inputf("flag -provider: %q is none of %s", in.Provider, names())
	}
	w := &wrapper{provider: providers[i], path: providers[i].path, Commit: strings.ToLower(in.Commit), Engine: in.Engine, Branch: "main"}
	if in.Wrappers != "" {
		w.files = os.DirFS(in.Wrappers)
	}
	if !commitForm.MatchString(w.Commit) {
		return nil, result.Inputf("flag -commit: %q is no full commit of Slipway: give its 40 hexadecimal digits", in.Commit)
	}
	if in.Engine != "" && !engineForm.MatchString(in.Engine) {
		return nil, result.Inputf("flag -engine: %q is none of tcp://, tls://, unix://, ssh://, kube-pod://, image:// and local", in.Engine)
	}
	var err error
	if w.Environment, err = chooseEnvironment(in.Plan.Config.Environments, in.Environment); err != nil {
		return nil, err
	}
	if isLibrary(in.Plan) {
		if in.Publish != "" || len(in.Promote) > 0 {
			return nil, result.Inputf("flags -publish and -promote: %s is a library and has nothing to publish: leave them out, "+
				"or name what is built with build.main in %s", in.Plan.Name, config.FileName)
		}
		return w, nil
	}
	publish := cmp.Or(in.Publish, in.Plan.Config.Environments[w.Environment].Repository)
	switch {
	case publish != "":
		if w.Publish, err = parseRepository("-publish", publish); err != nil {
			return nil, err
		}
	case w.provider.placeholder != "":
		w.Publish = w.provider.placeholder
		if w.Publish == ownPackage {
			w.Publish = lowerCase(in.Plan.Source.Remote)
		}
	default:
		return nil, result.Inputf("flag -publish is missing: give the repository to publish to, such as ghcr.io/you/app")
	}
	for _, p := range in.Promote {
		r, err := parseRepository("-promote", p)
		if err != nil {
			return nil, err
		}
		w.Promote = append(w.Promote, r)
	}
	return w, nil
}

// isLibrary reports whether there is nothing to put into an image.
func isLibrary(p *plan.Plan) bool {
	return !slices.ContainsFunc(p.Components, func(c plan.Component) bool { return len(c.Mains) > 0 || c.Undecided != "" })
}

// chooseEnvironment is the wanted one, or the first by name.
func chooseEnvironment(all map[string]config.Environment, wanted string) (string, error) {
	known := slices.Sorted(maps.Keys(all))
	switch {
	case wanted == "" && len(known) > 0:
		wanted = known[0]
	case wanted == "":
		return "", nil
	case len(known) == 0:
		return "", result.Inputf("flag -environment: unknown environment %q: %s has none", wanted, config.FileName)
	case !slices.Contains(known, wanted):
		return "", result.Inputf("flag -environment: unknown environment %q: %s has %s", wanted, config.FileName, strings.Join(known, ", "))
	}
	if !environmentForm.MatchString(wanted) {
		return "", result.Inputf("flag -environment: %q is not a name: use letters, digits, '.', '_' and '-'", wanted)
	}
	return wanted, nil
}

func parseRepository(flag, s string) (repository, error) {
	const way = "write registry.example.com/you/app, without tag or digest"
	if _, err := name.NewRepository(s, name.StrictValidation); err != nil {
		return "", result.Inputf("flag %s: %w: %s", flag, err, way)
	}
	// The library takes hosts that a shell or a template would read in another way.
	if !repositoryForm.MatchString(s) {
		return "", result.Inputf("flag %s: %q is not a repository: %s", flag, s, way)
	}
	return repository(s), nil
}

// lowerCase is the placeholder for GitHub, or the name itself where it has upper case letters: a registry knows none, and GitHub's
// expressions cannot change them.
func lowerCase(remote string) repository {
	own, ok := strings.CutPrefix(remote, "https://github.com/")
	lower := repository("ghcr.io/" + strings.ToLower(own))
	if !ok || own == strings.ToLower(own) || !repositoryForm.MatchString(string(lower)) {
		return ownPackage
	}
	return lower
}

// note collects what a person has to know before the first run.
func (w *wrapper) note(p *plan.Plan) {
	if w.Included {
		w.notes = append(w.notes, fmt.Sprintf("Include it in .gitlab-ci.yml: include: [{local: /%s}]", gitlabIncluded))
	}
	if w.Publish == "" {
		w.notes = append(w.notes, "This is a library: it is checked, and nothing is published.")
		return
	}
	if w.provider.secrets != nil {
		w.notes = append(w.notes, w.provider.secrets(w))
	}
	own := w.Publish.registry()
	if i := slices.IndexFunc(w.Promote, func(r repository) bool { return r.registry() != own }); i >= 0 {
		w.notes = append(w.notes, fmt.Sprintf("It logs in to the registry that it publishes to, and not to %s: that one needs its own credentials.",
			w.Promote[i].registry()))
	}
	for _, c := range p.Components {
		if c.Undecided != "" {
			w.notes = append(w.notes, "Before it can build: name what goes into the image with build.main in "+config.FileName+".")
			break
		}
	}
}

func githubSecrets(w *wrapper) string {
	if w.Registry() == "ghcr.io" {
		return "The secrets SLIPWAY_KEY and SLIPWAY_PASSWORD sign a release."
	}
	return fmt.Sprintf("The secrets SLIPWAY_KEY and SLIPWAY_PASSWORD sign a release; the variable REGISTRY_USER and the secret REGISTRY_PASSWORD log in to %s.",
		w.Registry())
}

func gitlabSecrets(w *wrapper) string {
	if w.Registry() == "" {
		return "The protected CI/CD variables SLIPWAY_KEY and SLIPWAY_PASSWORD sign a release; protect the tags too."
	}
	return fmt.Sprintf("The protected CI/CD variables SLIPWAY_KEY and SLIPWAY_PASSWORD sign a release, REGISTRY_USER and REGISTRY_PASSWORD log in to %s; "+
		"protect the tags too.", w.Registry())
}

func azureSecrets(w *wrapper) string {
	return fmt.Sprintf("The variable group slipway-release holds slipwayKey and slipwayPassword, which sign, and registryUser and registryPassword for %s.",
		w.Registry())
}

// choosePath keeps away from a .gitlab-ci.yml that is somebody's work.
func (w *wrapper) choosePath(root *os.Root) error {
	if w.provider.name != "gitlab" {
		return nil
	}
	old, err := existing(root, w.path)
	if err != nil {
		return err
	}
	if old != nil && !ours(old) {
		w.path, w.Included = gitlabIncluded, true
	}
	return nil
}

// existing is the file's content, or nil if there is none.
func existing(root *os.Root, name string) ([]byte, error) {
	fi, err := root.Lstat(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, result.Inputf("there is something in the way: %w", err)
	}
	data, err := root.ReadFile(filepath.FromSlash(name))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return append([]byte{}, data...), nil
}

// ours reports whether this stage wrote the file.
func ours(data []byte) bool {
	first, _, _ := strings.Cut(string(data), "\n")
	first = strings.TrimLeft(strings.TrimRight(first, "\r"), "#/")
	return strings.TrimSpace(first) == marker
}

// defaultBranch is what a clone says about the remote's, else main or master if there is one, else where HEAD stands.
func defaultBranch(root *os.Root, ref string) string {
	read := func(name string) string {
		data, err := root.ReadFile(filepath.FromSlash(".git/" + name))
		if err != nil {
			return "" // without .git, or with another one, there is a good guess
		}
		return string(data)
	}
	candidates := []string{strings.TrimPrefix(strings.TrimSpace(read("refs/remotes/origin/HEAD")), "ref: refs/remotes/origin/")}
	packed := read("packed-refs")
	for _, b := range []string{"main", "master"} {
		for _, r := range []string{"refs/remotes/origin/" + b, "refs/heads/" + b} {
			if read(r) != "" || strings.Contains(packed, " "+r+"\n") {
				candidates = append(candidates, b)
			}
		}
	}
	if b, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		candidates = append(candidates, b)
	}
	for _, b := range candidates {
		if branchForm.MatchString(b) {
			return b
		}
	}
	return "main"
}
