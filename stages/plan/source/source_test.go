package source

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/slipwayhq/slipway/stages/plan"
)

func write(t testing.TB, dir, name, content string, mode os.FileMode) {
	t.Helper()
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	// WriteFile keeps the mode of a file that is there, and the umask takes its part.
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
}

// repository makes one with a commit of a file, a program, a link and a .gitignore.
func repository(t testing.TB) (string, *git.Repository, plumbing.Hash) {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.txt", "a\n", 0o644)
	write(t, dir, "sub/run.sh", "#!/bin/sh\n", 0o755)
	write(t, dir, ".gitignore", "/bin\n*.log\n!keep.log\n", 0o644)
	if err := os.Symlink("a.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	h := commitAll(t, repo)
	return dir, repo, h
}

func commitAll(t testing.TB, repo *git.Repository) plumbing.Hash {
	t.Helper()
	w, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddWithOptions(&git.AddOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "T", Email: "t@example.com", When: time.Unix(1767323045, 0)}
	later := *who
	later.When = who.When.Add(time.Hour)
	h, err := w.Commit("c", &git.CommitOptions{Author: who, Committer: &later})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func describe(t testing.TB, dir string) (plan.Source, string) {
	t.Helper()
	s, warnings, err := Describe(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.Join(warnings, "\n")
}

func TestDescribeCleanClone(t *testing.T) {
	dir, repo, h := repository(t)
	if _, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{"https://ci:s3cr3t@git.example.com/team/shop.git"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.CreateTag("v1.0.0", h, nil); err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "T", Email: "t@example.com", When: time.Unix(1, 0)}
	if _, err := repo.CreateTag("v1.1.0", h, &git.CreateTagOptions{Tagger: who, Message: "annotated"}); err != nil {
		t.Fatal(err)
	}
	s, warnings := describe(t, dir)
	if warnings != "" {
		t.Errorf("warnings: %s", warnings)
	}
	if s.Commit != h.String() || s.Ref != "refs/heads/main" || s.Dirty || s.Remote != "https://git.example.com/team/shop" {
		t.Errorf("%+v", s)
	}
	if s.Epoch != 1767326645 || s.Time.Format(time.RFC3339) != "2026-01-02T04:04:05Z" {
		t.Errorf("time %s, epoch %d: want the committer's, in UTC", s.Time, s.Epoch)
	}
	if !slices.Equal(s.Tags, []string{"v1.0.0", "v1.1.0"}) || plan.Version(s) != "v1.1.0" {
		t.Errorf("tags %v, version %s", s.Tags, plan.Version(s))
	}

	w, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Checkout(&git.CheckoutOptions{Hash: h}); err != nil {
		t.Fatal(err)
	}
	if s, _ := describe(t, dir); s.Ref != "refs/tags/v1.1.0" {
		t.Errorf("detached on a tag: ref %q", s.Ref)
	}
}

func TestDirty(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"content", func(t *testing.T, dir string) { write(t, dir, "a.txt", "b\n", 0o644) }, "a.txt (changed)"},
		{"executable bit", func(t *testing.T, dir string) { write(t, dir, "a.txt", "a\n", 0o755) }, "a.txt (changed)"},
		{"other bits are the machine's", func(t *testing.T, dir string) { write(t, dir, "a.txt", "a\n", 0o600) }, ""},
		{"time is the machine's", func(t *testing.T, dir string) {
			if err := os.Chtimes(filepath.Join(dir, "a.txt"), time.Unix(0, 0), time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"new", func(t *testing.T, dir string) { write(t, dir, "sub/n.txt", "", 0o644) }, "sub/n.txt (new)"},
		{"ignored", func(t *testing.T, dir string) {
			write(t, dir, "bin/app", "", 0o755)
			write(t, dir, "sub/deep/x.log", "", 0o644)
		}, ""},
		{"ignored by the directory's own", func(t *testing.T, dir string) {
			write(t, dir, "bin/.gitignore", "!*\n", 0o644)
			write(t, dir, "bin/app", "", 0o755)
		}, ""},
		{"not ignored after all", func(t *testing.T, dir string) { write(t, dir, "keep.log", "", 0o644) }, "keep.log (new)"},
		{"excluded", func(t *testing.T, dir string) {
			write(t, dir, ".git/info/exclude", "*.tmp\n", 0o644)
			write(t, dir, "x.tmp", "", 0o644)
		}, ""},
		{"missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "a.txt")); err != nil {
				t.Fatal(err)
			}
		}, "a.txt (missing)"},
		{"link became a file", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "link", "a.txt", 0o644)
		}, "link (changed)"},
		{"no file modes", func(t *testing.T, dir string) {
			write(t, dir, ".git/config", "[core]\n\tfilemode = false\n", 0o644)
			write(t, dir, "a.txt", "a\n", 0o755)
		}, ""},
	}
	clean := ""
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _, _ := repository(t)
			tt.change(t, dir)
			s, warnings := describe(t, dir)
			if s.Dirty != (tt.want != "") || !strings.Contains(warnings, tt.want) {
				t.Errorf("dirty %t: %s", s.Dirty, warnings)
			}
			if tt.name == "nothing" {
				clean = s.Digest
			}
			if tt.want != "" && s.Digest == clean {
				t.Error("the digest does not show it")
			}
		})
	}
}

// TestIgnored puts onto a laptop what a fresh clone has not: it must change nothing but the list of what is left out.
func TestIgnored(t *testing.T) {
	dir, repo, _ := repository(t)
	write(t, dir, "sub/forced.log", "committed although it is ignored\n", 0o644)
	w, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddWithOptions(&git.AddOptions{Path: "sub/forced.log", SkipStatus: true}); err != nil {
		t.Fatal(err)
	}
	commitAll(t, repo)
	before, warnings := describe(t, dir)
	if before.Dirty || len(before.Ignored) > 0 {
		t.Fatalf("a fresh clone is dirty %t and leaves out %v: %s", before.Dirty, before.Ignored, warnings)
	}
	for _, name := range []string{"bin/app", "bin/deep/x", "a.log", "sub/b.log", "sub/new/c.log"} {
		write(t, dir, name, "x", 0o644)
	}
	after, _ := describe(t, dir)
	if want := []string{"a.log", "bin", "sub/b.log", "sub/new/c.log"}; !slices.Equal(after.Ignored, want) {
		t.Errorf("left out %v, want %v", after.Ignored, want)
	}
	if after.Digest != before.Digest || after.Dirty {
		t.Errorf("digest %s, dirty %t; before %s", after.Digest, after.Dirty, before.Digest)
	}
}

func TestLFSContentIsNoChange(t *testing.T) {
	dir, repo, _ := repository(t)
	// The SHA-256 of "a\n".
	write(t, dir, "big", "version https://git-lfs.github.com/spec/v1\noid sha256:87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7\nsize 2\n", 0o644)
	commitAll(t, repo)
	write(t, dir, "big", "a\n", 0o644)
	if s, warnings := describe(t, dir); s.Dirty {
		t.Error(warnings)
	}
	write(t, dir, "big", "b\n", 0o644)
	if s, _ := describe(t, dir); !s.Dirty {
		t.Error("other content counts as the pointer's")
	}
}

func TestWithoutCommit(t *testing.T) {
	empty := t.TempDir()
	if _, err := git.PlainInit(empty, false); err != nil {
		t.Fatal(err)
	}
	worktree := t.TempDir()
	write(t, worktree, ".git", "gitdir: /nowhere/else/.git/worktrees/x\n", 0o644)
	link := t.TempDir()
	if err := os.Symlink(empty+"/.git", filepath.Join(link, ".git")); err != nil {
		t.Fatal(err)
	}
	broken, _, h := repository(t)
	if err := os.RemoveAll(filepath.Join(broken, ".git", "objects", h.String()[:2])); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{t.TempDir(): "holds no .git", empty: "no commit yet", worktree: "a worktree or submodule", link: "is a symbolic link",
		broken: "reading commit " + h.String()} {
		write(t, dir, "a.txt", "a\n", 0o644)
		s, warnings := describe(t, dir)
		if s.Commit != "" || s.Epoch != 0 || !strings.Contains(warnings, want) || !strings.HasPrefix(s.Digest, "sha256:") {
			t.Errorf("%s: %+v: %s", want, s, warnings)
		}
	}
}

func TestMissingTreeCountsAsDirty(t *testing.T) {
	dir, repo, h := repository(t)
	c, err := repo.CommitObject(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".git", "objects", c.TreeHash.String()[:2])); err != nil {
		t.Fatal(err)
	}
	s, warnings := describe(t, dir)
	if s.Commit != h.String() || !s.Dirty || !strings.Contains(warnings, "it counts as changed") {
		t.Errorf("%+v: %s", s, warnings)
	}
}

func TestDigestDependsOnTheTreeOnly(t *testing.T) {
	digest := func(names ...string) string {
		dir := t.TempDir()
		for _, n := range names {
			write(t, dir, n, "content of "+n, 0o644)
		}
		write(t, dir, ".git/HEAD", strings.Join(names, ""), 0o644)
		s, _ := describe(t, dir)
		return s.Digest
	}
	const want = "sha256:f3bd72df876ef38af3a32a03349fb9b231505d577b4a618e8fff95052b52c35a"
	a, b := digest("x", "d/y", "d/z"), digest("d/z", "x", "d/y")
	if a != b {
		t.Errorf("order of writing shows: %s, %s", a, b)
	}
	if a != want {
		t.Errorf("digest is %s: its definition is a contract", a)
	}
	if c := digest("x", "d/y"); c == a {
		t.Error("a missing file does not show")
	}
}

func TestCleanRemote(t *testing.T) {

	for in, want := range map[string]string{
		"https://user:token@github.com/org/app.git":   "https://github.com/org/app",
		"https://token@github.com/org/app":            "https://github.com/org/app",
		"git@github.com:org/app.git":                  "https://github.com/org/app",
		"github.com:org/app":                          "https://github.com/org/app",
		"ssh://git@git.example.com:2222/org/app.git":  "https://git.example.com/org/app",
		"https://git.example.com:8443/org/app.git/":   "https://git.example.com:8443/org/app",
		"http://git.example.com/app?private_token=x":  "http://git.example.com/app",
		"https://github.com/org/app#secret":           "https://github.com/org/app",
		"git://GitHub.com/org/app":                    "https://github.com/org/app",
		"https://user:p%40ss@[::1]:3000/app":          "https://[::1]:3000/app",
		"/srv/git/app.git":                            "",
		"file:///srv/git/app.git":                     "",
		"../app":                                      "",
		`C:\src\app`:                                  "",
		"https://user:pa ss@github.com/org/app":       "",
		"ext::sh -c 'cat /etc/passwd'":                "",
		"":                                            "",
		"https://x-access-token:a:b@github.com/o/app": "https://github.com/o/app",
	} {
		if got := CleanRemote(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func FuzzCleanRemote(f *testing.F) {
	f.Add("https://user:SECRET@github.com/org/app.git")
	f.Add("SECRET@host.example:org/app")
	f.Fuzz(func(t *testing.T, raw string) {
		got := CleanRemote(raw)
		if got != "" && CleanRemote(got) != got {
			t.Errorf("%q becomes %q and then %q", raw, got, CleanRemote(got))
		}
		if u, err := url.Parse(got); err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("%q becomes %q", raw, got)
		}
	})
}

func BenchmarkDescribe(b *testing.B) {
	dir, repo, _ := repository(b)
	for i := range 2000 {
		write(b, dir, "pkg"+string(rune('a'+i%20))+"/f"+strings.Repeat("x", i%50)+string(rune('a'+i/100))+".go", strings.Repeat("package p\n", 100), 0o644)
	}
	commitAll(b, repo)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Describe(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLicense(t *testing.T) {
	const isc = `Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND
FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS
OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER
TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
`
	for text, want := range map[string]string{"ISC License\n\nCopyright 2026 A\n\n" + isc: "ISC", "All rights reserved.\n": "", isc + strings.Repeat("But not on Sundays. ", 60): ""} {
		dir := t.TempDir()
		write(t, dir, "LICENSE", text, 0o644)
		if s, _ := describe(t, dir); s.License != want {
			t.Errorf("%.40q: %q, want %q", text, s.License, want)
		}
	}
}
