// Package config reads slipway.yaml: optional, decoded strictly, with defaults that work without it.
package config

import "time"

// FileName is where Slipway looks for its configuration in a repository.
const FileName = "slipway.yaml"

// Config is the whole of slipway.yaml after defaults. See Default for the values that hold when a key is absent.
type Config struct {
	// Name of the project; the default is the last element of the module path.
	Name         string                 `yaml:"name" json:"name,omitempty"`
	Components   []Component            `yaml:"components" json:"components,omitempty"`
	Lint         Lint                   `yaml:"lint" json:"lint"`
	Test         Test                   `yaml:"test" json:"test"`
	Build        Build                  `yaml:"build" json:"build"`
	Scan         Scan                   `yaml:"scan" json:"scan"`
	Smoke        Smoke                  `yaml:"smoke" json:"smoke"`
	Verify       Verify                 `yaml:"verify" json:"verify"`
	Deploy       Deploy                 `yaml:"deploy" json:"deploy"`
	Environments map[string]Environment `yaml:"environments" json:"environments,omitempty"`
}

// Component is a part of the repository that is built on its own. Without any, detection finds them.
type Component struct {
	Path     string `yaml:"path" json:"path"`
	Name     string `yaml:"name" json:"name,omitempty"`
	Language string `yaml:"language" json:"language,omitempty"`
}

// Lint chooses what is checked without running the code.
type Lint struct {
	// Tools to run, of: gofmt, vet, golangci-lint, mod-tidy, mod-verify.
	Tools []string `yaml:"tools" json:"tools"`
}

// Test says how the tests run and what they must reach.
type Test struct {
	// Race is auto (on where cgo and a C compiler are available), on, or off.
	Race string `yaml:"race" json:"race"`
	// Coverage is the least share of statements covered, in percent; 0 asks for none.
	Coverage float64 `yaml:"coverage" json:"coverage"`
	// Packages are the patterns handed to go test.
	Packages []string `yaml:"packages" json:"packages"`
	Tags     []string `yaml:"tags" json:"tags,omitempty"`
	// Timeout is the deadline for the tests of one package.
	Timeout Duration `yaml:"timeout" json:"timeout"`
}

// Build says what goes into the image.
type Build struct {
	// Main are the main packages to build, as directories relative to the component ("./cmd/app"); default: all that are found.
	Main []string `yaml:"main" json:"main,omitempty"`
	// Entrypoint is the binary that the image runs; needed only when several are built and none has the component's name.
	Entrypoint string `yaml:"entrypoint" json:"entrypoint,omitempty"`
	// Args are the entrypoint's default arguments.
	Args []string `yaml:"args" json:"args,omitempty"`
	// Platforms are os/arch[/variant]: linux/amd64, linux/arm64, linux/arm/v7.
	Platforms []string `yaml:"platforms" json:"platforms"`
	// Tags are Go build tags.
	Tags []string `yaml:"tags" json:"tags,omitempty"`
	// Ldflags are appended to Slipway's own (-s -w); {{.Version}}, {{.Commit}} and {{.Date}} are replaced.
	Ldflags []string `yaml:"ldflags" json:"ldflags,omitempty"`
	// Env is added to the environment of the image's process.
	Env map[string]string `yaml:"env" json:"env,omitempty"`
	// User is the numeric uid[:gid] of the image's process; never 0.
	User   string            `yaml:"user" json:"user"`
	Ports  []int             `yaml:"ports" json:"ports,omitempty"`
	Labels map[string]string `yaml:"labels" json:"labels,omitempty"`
}

// Scan is the policy that findings are held against.
type Scan struct {
	// Severity is the lowest one that fails: low, medium, high or critical.
	Severity string `yaml:"severity" json:"severity"`
	// FixableOnly leaves vulnerabilities without a fixed version out of the verdict; they are still reported.
	FixableOnly bool `yaml:"fixableOnly" json:"fixableOnly"`
	// Database is the OCI reference of the vulnerability database.
	Database string `yaml:"database" json:"database"`
	// MaxDatabaseAge is how old the database may be; an older one is inconclusive.
	MaxDatabaseAge Duration `yaml:"maxDatabaseAge" json:"maxDatabaseAge"`
	// Skip are paths of the source (globs with **) that the secret and misconfiguration scans leave out.
	Skip     []string `yaml:"skip" json:"skip,omitempty"`
	Licenses Licenses `yaml:"licenses" json:"licenses"`
	// Exceptions accept a finding for a time.
	Exceptions []Exception `yaml:"exceptions" json:"exceptions,omitempty"`
}

// Licenses holds SPDX licence IDs beyond Trivy's categories.
type Licenses struct {
	// Deny are never accepted, Allow always; the rest goes by category: forbidden is critical, restricted high, and so on.
	Deny  []string `yaml:"deny" json:"deny,omitempty"`
	Allow []string `yaml:"allow" json:"allow,omitempty"`
}

// Exception accepts findings with this ID until it expires.
type Exception struct {
	ID string `yaml:"id" json:"id"`
	// Package (name or package URL without version) or Path (glob) narrows the exception; both may be absent.
	Package string `yaml:"package" json:"package,omitempty"`
	Path    string `yaml:"path" json:"path,omitempty"`
	Reason  string `yaml:"reason" json:"reason"`
	// Expires is the last day on which it holds, in UTC.
	Expires Date `yaml:"expires" json:"expires"`
	// Line is where it stands in the file, for messages.
	Line int `yaml:"-" json:"line,omitempty"`
}

// Smoke says how a started image shows that it works.
type Smoke struct {
	Port     int       `yaml:"port" json:"port,omitempty"`
	Health   string    `yaml:"health" json:"health"`
	Requests []Request `yaml:"requests" json:"requests,omitempty"`
	// Timeout is how long the health path may take to answer 2xx.
	Timeout Duration `yaml:"timeout" json:"timeout"`
}

// Request is one HTTP GET and what must come back.
type Request struct {
	Path string `yaml:"path" json:"path"`
	// Status is the expected code; 0 means any 2xx.
	Status int `yaml:"status" json:"status,omitempty"`
	// Contains must occur in the body.
	Contains string `yaml:"contains" json:"contains,omitempty"`
}

// Verify is the evidence that a release needs where its environment names none.
type Verify struct {
	// Require are predicate types or their short names: spdx, cyclonedx, scan, test, provenance.
	Require []string `yaml:"require" json:"require"`
	// MaxAge is how old a scan result may be; 0 asks for none.
	MaxAge Duration `yaml:"maxAge" json:"maxAge"`
}

// Environment is a place that a release is promoted to.
type Environment struct {
	Repository string   `yaml:"repository" json:"repository"`
	Require    []string `yaml:"require" json:"require,omitempty"`
	MaxAge     Duration `yaml:"maxAge" json:"maxAge,omitempty"`
}

// Default is the configuration of a repository without slipway.yaml.
func Default() Config {
	return Config{
		Lint:   Lint{Tools: []string{"gofmt", "vet", "golangci-lint", "mod-tidy", "mod-verify"}},
		Test:   Test{Race: "auto", Packages: []string{"./..."}, Timeout: Duration(10 * time.Minute)},
		Build:  Build{Platforms: []string{"linux/amd64", "linux/arm64"}, User: "65532:65532"},
		Scan:   Scan{Severity: "high", Database: "ghcr.io/aquasecurity/trivy-db:2", MaxDatabaseAge: Duration(7 * 24 * time.Hour)},
		Smoke:  Smoke{Health: "/healthz", Timeout: Duration(30 * time.Second)},
		Verify: Verify{Require: []string{"spdx", "cyclonedx", "scan", "test", "provenance"}},
		Deploy: defaultDeploy(),
	}
}
