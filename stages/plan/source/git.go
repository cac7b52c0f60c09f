package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/slipwayhq/slipway/stages/plan"
)

// gitRepo is an opened repository that stands on a commit.
type gitRepo struct {
	repo   *git.Repository
	commit *object.Commit
	source plan.Source
	root   *os.Root
}

// openGit returns the repository of the tree. Its error is a sentence for the plan's warnings.
func openGit(root *os.Root, dir string) (*gitRepo, error) {
	fi, err := root.Lstat(".git")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("the source holds no .git: commit, dates and version are unknown")
	case err != nil:
		return nil, fmt.Errorf("reading .git: %w", err)
	case fi.Mode()&fs.ModeSymlink != 0:
		return nil, errors.New(".git is a symbolic link and is not followed: commit, dates and version are unknown")
	}
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) && fi.Mode().IsRegular() {
		return nil, errors.New(".git is a file that points to a repository outside the source (a worktree or submodule): " +
			"commit, dates and version are unknown: use a plain clone")
	}
	if err != nil {
		return nil, fmt.Errorf("opening .git: %w: commit, dates and version are unknown", err)
	}
	head, err := repo.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, errors.New("the repository has no commit yet: dates and version are unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("reading HEAD: %w: commit, dates and version are unknown", err)
	}
	commit, err := repo.CommitObject(head.Hash())
	if err != nil {
		return nil, fmt.Errorf("reading commit %s: %w: dates and version are unknown", head.Hash(), err)
	}
	g := &gitRepo{repo: repo, commit: commit, root: root}
	t := commit.Committer.When.UTC()
	g.source = plan.Source{Commit: head.Hash().String(), Time: t, Epoch: t.Unix(), Remote: g.remote()}
	g.source.Tags = g.tags(head.Hash())
	switch {
	case head.Name().IsBranch():
		g.source.Ref = head.Name().String()
	case len(g.source.Tags) > 0:
		// Detached, as CI leaves it after a tag was pushed.
		g.source.Ref = plumbing.NewTagReferenceName(g.source.Tags[len(g.source.Tags)-1]).String()
	}
	return g, nil
}

// tags are the short names of those that stand on the commit, annotated or not.
func (g *gitRepo) tags(commit plumbing.Hash) []string {
	iter, err := g.repo.Tags()
	if err != nil {
		return nil
	}
	var list []string
	_ = iter.ForEach(func(ref *plumbing.Reference) error {
		h := ref.Hash()
		// A tag may stand on a tag; a chain longer than this is no accident.
		for range 8 {
			t, err := g.repo.TagObject(h)
			if err != nil {
				break
			}
			h = t.Target
		}
		if h == commit {
			list = append(list, ref.Name().Short())
		}
		return nil
	})
	slices.Sort(list)
	return list
}

// remote is the URL of origin, or of the only remote.
func (g *gitRepo) remote() string {
	cfg, err := g.repo.Config()
	if err != nil {
		return ""
	}
	r := cfg.Remotes["origin"]
	if r == nil && len(cfg.Remotes) == 1 {
		for _, only := range cfg.Remotes {
			r = only
		}
	}
	if r == nil || len(r.URLs) == 0 {
		return ""
	}
	return CleanRemote(r.URLs[0])
}

var scpForm = regexp.MustCompile(`^(?:[^@/:\s]+@)?([A-Za-z0-9.-]+\.[A-Za-z0-9-]+|localhost):([^:\s/][^:\s]*)$`)

// CleanRemote turns a remote's URL into one that is the same for everybody who cloned the repository: https, without user, password,
// query and .git. It is empty for local paths, which say something about a machine only.
func CleanRemote(raw string) string {
	raw = strings.TrimSpace(raw)
	if m := scpForm.FindStringSubmatch(raw); m != nil && !strings.Contains(raw, "://") {
		raw = "ssh://" + m[1] + "/" + m[2]
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return ""
	}
	host := u.Host
	scheme := "https"
	switch u.Scheme {
	case "https":
	case "http":
		scheme = "http"
	case "ssh", "git", "git+ssh", "ssh+git":
		// The port is the other protocol's.
		host = u.Hostname()
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	default:
		return ""
	}
	p := strings.TrimSuffix(strings.TrimSuffix(path.Clean("/"+u.Path), "/"), ".git")
	return (&url.URL{Scheme: scheme, Host: strings.ToLower(host), Path: p}).String()
}

// compare prepares the comparison of the tree with the commit.
func (g *gitRepo) compare() (*comparison, error) {
	tree, err := g.commit.Tree()
	if err != nil {
		return nil, err
	}
	c := &comparison{
		head: map[string]gitEntry{}, dirs: map[string]bool{}, fileMode: true, ignored: map[string]bool{}, matchers: map[string][]gitignore.Pattern{},
		blob: g.smallBlob,
	}
	if cfg, err := g.repo.Config(); err == nil && cfg.Raw != nil {
		c.fileMode = !strings.EqualFold(cfg.Raw.Section("core").Option("filemode"), "false")
	}
	if b, err := plan.NewTree(g.root).ReadFile(".git/info/exclude"); err == nil {
		c.exclude = parsePatterns(string(b), nil)
	}
	w := object.NewTreeWalker(tree, true, nil)
	defer w.Close()
	for {
		name, e, err := w.Next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
		if e.Mode.IsFile() {
			for dir := path.Dir(name); dir != "." && !c.dirs[dir]; dir = path.Dir(dir) {
				c.dirs[dir] = true
			}
		}
		switch e.Mode {
		case filemode.Regular, filemode.Deprecated:
			c.head[name] = gitEntry{mode: modeFile, blob: e.Hash.String()}
		case filemode.Executable:
			c.head[name] = gitEntry{mode: modeExec, blob: e.Hash.String()}
		case filemode.Symlink:
			c.head[name] = gitEntry{mode: modeLink, blob: e.Hash.String()}
		}
	}
}

// smallBlob reads an object that may be a Git LFS pointer; larger ones are none.
func (g *gitRepo) smallBlob(name string) ([]byte, error) {
	const pointer = 1024
	b, err := g.repo.BlobObject(plumbing.NewHash(name))
	if err != nil {
		return nil, err
	}
	if b.Size > pointer {
		return nil, errors.New("too large for a pointer")
	}
	r, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
