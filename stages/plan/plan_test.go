package plan

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestVersion(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	tests := []struct {
		name string
		s    Source
		want string
	}{
		{"no git", Source{}, "dev"},
		{"no tag", Source{Commit: commit}, "0.0.0-0123456789ab"},
		{"tag", Source{Commit: commit, Tags: []string{"v1.2.3"}}, "v1.2.3"},
		{"tag without v", Source{Commit: commit, Tags: []string{"1.2.3"}}, "1.2.3"},
		{"highest", Source{Commit: commit, Tags: []string{"v1.10.0", "v1.9.0", "v1.10.0-rc.1"}}, "v1.10.0"},
		{"moving and other tags", Source{Commit: commit, Tags: []string{"latest", "v1", "v1.2", "sub/v1.2.3", "v1.2.3+meta"}}, "0.0.0-0123456789ab"},
		{"dirty tag", Source{Commit: commit, Tags: []string{"v1.2.3"}, Dirty: true}, "0.0.0-0123456789ab-dirty"},
	}
	for _, tt := range tests {
		if got := Version(tt.s); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestReadBack(t *testing.T) {
	p := mustPlan(t, map[string]string{"go.mod": goMod, "main.go": mainFile}, "scan: {exceptions: [{id: a, reason: b, expires: 2027-01-31}]}")
	p.Source = Source{Commit: "abc", Time: time.Unix(1767323045, 0).UTC(), Epoch: 1767323045}
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.JSON()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%s\n%s, %v", b, again, err)
	}
	if _, err := Read(name + "x"); !result.IsInput(err) {
		t.Errorf("missing file: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := mustPlan(t, map[string]string{"go.mod": goMod, "cmd/shop/main.go": mainFile}, "").JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, replacement, want string }{
		{"plan/v1", "plan/v9", "make the plan with the same Slipway"},
		{`"path": "."`, `"path": "../x"`, "lies outside the source"},
		{`"path": "."`, `"path": "/x"`, "lies outside the source"},
		{`"binary": "shop"`, `"binary": "../shop"`, "binary name"},
		{`"binary": "shop"`, `"binary": "-o"`, "binary name"},
		{`"dir": "./cmd/shop"`, `"dir": "-toolexec=x"`, "must start with ./"},
		{`"dir": "./cmd/shop"`, `"dir": "./../../x"`, "must start with ./"},
		{`"entrypoint": "shop"`, `"entrypoint": "sh"`, "is none of the binaries"},
		{`"name": "shop"`, `"name": "a/b"`, "name \"a/b\""},
		{`"timeout": "10m"`, `"timeout": "soon"`, "is not a duration"},
		{"{", "[", "cannot unmarshal"},
	} {
		bad := strings.ReplaceAll(string(good), tt.old, tt.replacement)
		if tt.old == "{" {
			bad = "[]"
		}
		if _, err := Parse([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.replacement, err, tt.want)
		}
	}
	if _, err := Parse(make([]byte, maxSize+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
	if _, err := Parse([]byte(`{"schema":"` + Schema + `"}`)); err == nil || !strings.Contains(err.Error(), "no components") {
		t.Errorf("empty: %v", err)
	}
}

func TestComponent(t *testing.T) {
	p := &Plan{Components: []Component{{Name: "lib"}, {Name: "api", Mains: []Main{{Binary: "api"}}}}}
	if c, err := p.Component(""); err != nil || c.Name != "api" {
		t.Errorf("the only one that builds: %+v, %v", c, err)
	}
	if c, err := p.Component("lib"); err != nil || c.Name != "lib" {
		t.Errorf("by name: %+v, %v", c, err)
	}
	if _, err := p.Component("x"); err == nil || !strings.Contains(err.Error(), "it has lib, api") || !result.IsInput(err) {
		t.Errorf("unknown: %v", err)
	}
	p.Components = append(p.Components, Component{Name: "web", Mains: []Main{{Binary: "web"}}})
	if _, err := p.Component(""); err == nil || !strings.Contains(err.Error(), "-component: lib, api, web") {
		t.Errorf("ambiguous: %v", err)
	}
}

func TestText(t *testing.T) {
	p := mustPlan(t, map[string]string{"go.mod": goMod, "cmd/shop/main.go": mainFile, "cmd/job/main.go": mainFile, "cmd/job/main_test.go": "package main\n"},
		"test: {coverage: 80, race: off}\nbuild: {platforms: [linux/amd64]}")
	p.Source = Source{Commit: "0123456789abcdef", Ref: "refs/heads/main", Time: time.Unix(1767323045, 0), Remote: "https://example.com/shop", Digest: "sha256:00"}
	p.Version = Version(p.Source)
	p.Warnings = []string{"mind the gap"}
	const want = `shop 0.0.0-0123456789ab
  commit     0123456789ab on main, 2026-01-02T03:04:05Z
  remote     https://example.com/shop
  source     sha256:00

shop (go, .)
  found      go 1.25.0, 2 packages, 1 with tests
  program    job              ./cmd/job
  program    shop             ./cmd/shop  <- the image starts this one
  why        go.mod stands at the top of the source
             go.mod:1: module example.com/shop
             go.mod:3: go 1.25.0
             the entrypoint is shop because it has the component's name
  will run
    lint     (a Go module; lint.tools chooses them)
             gofmt -l .
             go vet ./...
             golangci-lint run ./...
             go mod tidy -diff
             go mod verify
    test     (1 package with tests; coverage must reach 80 %)
             go test -json -coverprofile=coverage.out ./...
    build    (2 main packages)
             go build -trimpath ./cmd/job ./cmd/shop (linux/amd64, CGO_ENABLED=0)
    image    (the build leaves static binaries)
             OCI index for linux/amd64, entrypoint shop, user 65532:65532
    sbom     (an image is built)
             SPDX and CycloneDX for each platform
    scan     (fails from severity high)
             vulnerabilities and licences of the image
             secrets and misconfiguration of the source

warnings
  - mind the gap
`
	if got := p.Text(); got != want {
		t.Errorf("got\n%s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"https://slipway.dev/schema/plan/v1","components":[{"name":"a","path":"."}]}`))
	f.Add([]byte(`{"schema":"https://slipway.dev/schema/plan/v1","components":[{"name":"a","path":"..","mains":[{"dir":"-x"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		for _, c := range p.Components {
			if !filepath.IsLocal(c.Path) {
				t.Errorf("path %q", c.Path)
			}
		}
		p.Text()
	})
}
