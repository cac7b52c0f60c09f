package config

import (
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// Words that a key accepts.
var (
	lintTools    = []string{"gofmt", "vet", "golangci-lint", "mod-tidy", "mod-verify"}
	raceModes    = []string{"auto", "on", "off"}
	scanLevels   = []string{"low", "medium", "high", "critical"}
	linuxArches  = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64le", "riscv64", "s390x"}
	archVariants = map[string][]string{"amd64": {"v1", "v2", "v3", "v4"}, "arm": {"v5", "v6", "v7"}, "arm64": {"v8"}}
)

var (
	nameForm       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	tagForm        = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	envForm        = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	userForm       = regexp.MustCompile(`^(\d{1,10})(?::(\d{1,10}))?$`)
	repositoryForm = regexp.MustCompile(`^[A-Za-z0-9.-]+(:\d{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)
)

func (c *checker) validate(cfg *Config) {
	if cfg.Name != "" {
		c.name("name", cfg.Name)
	}
	c.components(cfg.Components)
	c.words("lint.tools", cfg.Lint.Tools, lintTools)
	c.test(cfg.Test)
	c.build(cfg.Build)
	c.scan(cfg.Scan)
	c.smoke(cfg.Smoke)
	c.require("verify.require", cfg.Verify.Require)
	c.deploy(cfg.Deploy)
	c.quantities("deploy.requests", cfg.Deploy.Requests)
	c.quantities("deploy.limits", cfg.Deploy.Limits)
	for _, name := range slices.Sorted(maps.Keys(cfg.Environments)) {
		env, key := cfg.Environments[name], join("environments", name)
		c.name(key, name)
		if env.Repository == "" {
			c.at(key, "repository is missing: name where this environment's releases live, such as registry.example.com/app")
		} else if !repositoryForm.MatchString(env.Repository) {
			c.at(join(key, "repository"), "%q is not a repository: write registry.example.com/app, without tag or digest", env.Repository)
		}
		c.require(join(key, "require"), env.Require)
	}
}

// at complains about the value of key; a key that stands nowhere takes its parent's place.
func (c *checker) at(key, format string, args ...any) {
	for k := key; ; {
		if p, ok := c.positions[k]; ok {
			c.add(p, key, fmt.Sprintf(format, args...))
			return
		}
		k = k[:max(0, strings.LastIndexAny(k, ".["))]
	}
}

func (c *checker) name(key, s string) {
	if !nameForm.MatchString(s) {
		c.at(key, "%q is not a name: use letters, digits, '.', '_' and '-'", short(s))
	}
}

func (c *checker) components(list []Component) {
	paths, names := map[string]bool{}, map[string]bool{}
	for i, comp := range list {
		key := index("components", i)
		if comp.Path == "" {
			c.at(key, "path is missing: give the component's directory")
			continue
		}
		c.local(join(key, "path"), comp.Path)
		if p := path.Clean(comp.Path); paths[p] {
			c.at(join(key, "path"), "%q is listed twice", comp.Path)
		} else {
			paths[p] = true
		}
		if comp.Name == "" {
			continue
		}
		c.name(join(key, "name"), comp.Name)
		if names[comp.Name] {
			c.at(join(key, "name"), "%q is used twice", comp.Name)
		}
		names[comp.Name] = true
	}
}

func (c *checker) test(t Test) {
	c.words("test.race", []string{t.Race}, raceModes)
	if math.IsNaN(t.Coverage) || t.Coverage < 0 || t.Coverage > 100 {
		c.at("test.coverage", "must be between 0 and 100 percent")
	}
	if len(t.Packages) == 0 {
		c.at("test.packages", "is empty: remove the key to test ./...")
	}
	for i, p := range t.Packages {
		// A pattern that starts with a dash would become a flag of the go command.
		if p == "" || strings.HasPrefix(p, "-") || strings.ContainsFunc(p, isControl) {
			c.at(index("test.packages", i), "%q is not a package pattern", short(p))
		}
	}
	c.tags("test.tags", t.Tags)
	if t.Timeout == 0 {
		c.at("test.timeout", "must be longer than 0")
	}
}

func (c *checker) tags(key string, tags []string) {
	for i, t := range tags {
		if !tagForm.MatchString(t) {
			c.at(index(key, i), "%q is not a build tag", short(t))
		}
	}
}

func (c *checker) build(b Build) {
	for i, m := range b.Main {
		c.local(index("build.main", i), m)
	}
	if b.Entrypoint != "" {
		c.name("build.entrypoint", b.Entrypoint)
	}
	c.platforms(b.Platforms)
	c.tags("build.tags", b.Tags)
	if _, _, err := ParseUser(b.User); err != nil {
		c.at("build.user", "%v", err)
	}
	seen := map[int]bool{}
	for i, p := range b.Ports {
		c.port(index("build.ports", i), p)
		if seen[p] {
			c.at(index("build.ports", i), "%d is listed twice", p)
		}
		seen[p] = true
	}
	for _, k := range slices.Sorted(maps.Keys(b.Env)) {
		if !envForm.MatchString(k) || strings.ContainsRune(b.Env[k], 0) {
			c.at(join("build.env", k), "%q is not an environment variable", short(k))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b.Labels)) {
		if strings.ContainsFunc(k, isControl) || strings.ContainsRune(k, ' ') {
			c.at(join("build.labels", k), "%q is not a label: use a name such as org.example.team", short(k))
		}
	}
}

func (c *checker) platforms(list []string) {
	if len(list) == 0 {
		c.at("build.platforms", "is empty: remove the key to build for %s", strings.Join(Default().Build.Platforms, " and "))
	}
	seen := map[string]bool{}
	for i, s := range list {
		p, err := ParsePlatform(s)
		if err != nil {
			c.at(index("build.platforms", i), "%v", err)
			continue
		}
		if seen[p.String()] {
			c.at(index("build.platforms", i), "%q is listed twice", s)
		}
		seen[p.String()] = true
	}
}

func (c *checker) scan(s Scan) {
	c.words("scan.severity", []string{s.Severity}, scanLevels)
	if s.Database == "" || strings.ContainsFunc(s.Database, isControl) || strings.ContainsRune(s.Database, ' ') {
		c.at("scan.database", "%q is not an OCI reference", short(s.Database))
	}
	if s.MaxDatabaseAge == 0 {
		c.at("scan.maxDatabaseAge", "must be longer than 0")
	}
	for i, g := range s.Skip {
		c.local(index("scan.skip", i), g)
	}
	for i, id := range s.Licenses.Allow {
		if slices.Contains(s.Licenses.Deny, id) {
			c.at(index("scan.licenses.allow", i), "%q is denied, too: remove one", short(id))
		}
	}
	for i, e := range s.Exceptions {
		key := index("scan.exceptions", i)
		if strings.TrimSpace(e.ID) == "" {
			c.at(key, "id is missing: name the finding, such as CVE-2026-1234")
		}
		if strings.TrimSpace(e.Reason) == "" {
			c.at(key, "reason is missing: say why %s is accepted", orThis(e.ID))
		}
		if e.Expires.IsZero() {
			c.at(key, "expires is missing: give the last day on which %s is accepted, such as 2027-01-31", orThis(e.ID))
		}
	}
}

func (c *checker) smoke(s Smoke) {
	if s.Port != 0 {
		c.port("smoke.port", s.Port)
	}
	c.urlPath("smoke.health", s.Health)
	for i, r := range s.Requests {
		key := index("smoke.requests", i)
		c.urlPath(join(key, "path"), r.Path)
		if r.Status != 0 && (r.Status < 100 || r.Status > 599) {
			c.at(join(key, "status"), "%d is not an HTTP status", r.Status)
		}
	}
	if s.Timeout == 0 {
		c.at("smoke.timeout", "must be longer than 0")
	}
}

func (c *checker) require(key string, list []string) {
	evidence := statement.KindNames()
	seen := map[string]bool{}
	for i, s := range list {
		if report, ok := strings.CutPrefix(s, statement.ReportPrefix); ok {
			if err := statement.CheckReportName(report); err != nil {
				c.at(index(key, i), "%v", err)
			}
		} else if !slices.Contains(evidence, s) && !strings.Contains(s, "://") {
			c.at(index(key, i), "unknown evidence %q: %s, or %sNAME for a report of your own, or a predicate type's full URI", short(s), suggest(s, evidence), statement.ReportPrefix)
		}
		if seen[s] {
			c.at(index(key, i), "%q is listed twice", short(s))
		}
		seen[s] = true
	}
}

func (c *checker) words(key string, list, valid []string) {
	_, isList := c.positions[index(key, 0)]
	seen := map[string]bool{}
	for i, s := range list {
		at := key
		if isList {
			at = index(key, i)
		}
		if !slices.Contains(valid, s) {
			c.at(at, "unknown value %q: %s", short(s), suggest(s, valid))
		} else if seen[s] {
			c.at(at, "%q is listed twice", s)
		}
		seen[s] = true
	}
}

// local accepts a relative path, with slashes, that stays where it starts.
func (c *checker) local(key, s string) {
	if s == "" || !filepath.IsLocal(filepath.FromSlash(s)) || strings.ContainsFunc(s, isControl) || strings.ContainsRune(s, '\\') {
		c.at(key, "%q must be a relative path, with slashes, inside the repository", short(s))
	}
}

func (c *checker) port(key string, p int) {
	if p < 1 || p > 65535 {
		c.at(key, "%d is not a port: use 1 to 65535", p)
	}
}

func (c *checker) urlPath(key, s string) {
	if !strings.HasPrefix(s, "/") || strings.ContainsFunc(s, isControl) {
		c.at(key, "%q is not a path: start it with /", short(s))
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func orThis(id string) string {
	if id == "" {
		return "this finding"
	}
	return short(id)
}

// Platform is what a binary or an image is for.
type Platform struct{ OS, Arch, Variant string }

// ParsePlatform reads os/arch[/variant]. Only Linux is known: images hold Linux programs. The variants that say nothing (arm64/v8,
// amd64/v1) are dropped, and arm without a variant is arm/v7.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("%q is not a platform: write linux/amd64 or linux/arm/v7", short(s))
	}
	p := Platform{OS: parts[0], Arch: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	switch {
	case p.OS != "linux":
		return Platform{}, fmt.Errorf("platform %q: only linux is supported", short(s))
	case !slices.Contains(linuxArches, p.Arch):
		return Platform{}, fmt.Errorf("platform %q: unknown architecture: %s", short(s), suggest(p.Arch, linuxArches))
	case len(parts) == 3 && !slices.Contains(archVariants[p.Arch], p.Variant):
		return Platform{}, fmt.Errorf("platform %q: unknown variant", short(s))
	case p.Arch == "arm64", p.Arch == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Arch == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p, nil
}

// String is os/arch[/variant].
func (p Platform) String() string { return strings.TrimSuffix(p.OS+"/"+p.Arch+"/"+p.Variant, "/") }

// Dir is the platform as one path element: linux-arm-v7.
func (p Platform) Dir() string { return strings.ReplaceAll(p.String(), "/", "-") }

// ParseUser reads a numeric uid[:gid]; the gid defaults to the uid. User 0 is refused: a process in a container needs no root.
func ParseUser(s string) (uid, gid int, err error) {
	m := userForm.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, fmt.Errorf("%q is not a numeric uid or uid:gid: write 65532:65532", short(s))
	}
	u, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("uid %s is too large", m[1])
	}
	if u == 0 {
		return 0, 0, fmt.Errorf("user %q is root: use another uid, such as 65532", s)
	}
	g := u
	if m[2] != "" {
		if g, err = strconv.ParseInt(m[2], 10, 32); err != nil {
			return 0, 0, fmt.Errorf("gid %s is too large", m[2])
		}
	}
	return int(u), int(g), nil
}
