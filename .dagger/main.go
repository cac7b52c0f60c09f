// Slipway takes a repository from source to a verified release, with the same containerised steps everywhere.
//
// Start with "plan" to see what it found and what it will run. "lint", "test" and "build" each do one step; "pipeline" does all of
// them: lint, test, build, SBOM, scan, sign, publish, verify, promote. One image digest travels the whole way, and what was proved
// about it travels along as signed evidence. "release ... deploy" takes it to Kubernetes.
package main

import (
	"context"
	"time"

	"dagger/slipway/internal/dagger"
)

// One repository on its way to a release.
type Slipway struct {
	// +private
	Source *dagger.Directory
	// +private
	Config *dagger.File
	// +private
	Main []string
	// +private
	Version string
	// +private
	ToolboxSource *dagger.Directory
	// +private
	ToolboxImage *dagger.Container
	// +private
	GoImage string
	// +private
	Registry *dagger.Service
	// +private
	RegistryConfig *dagger.Secret
	// +private
	RegistryAuths []*RegistryAuth
	// +private
	PlainHTTP []string
	// +private
	CABundle *dagger.File
	// +private
	KeyCredentials []*KeyCredential
	// +private
	CacheNamespace string
}

// Point Slipway at a repository.
func New(
	// The repository. Include .git: version, commit and dates come from there.
	//
	// +defaultPath="/"
	source *dagger.Directory,
	// A slipway.yaml to use instead of the repository's own.
	//
	// +optional
	config *dagger.File,
	// Main packages to build, as directories ("./cmd/app"), instead of those in slipway.yaml or found by detection.
	//
	// +optional
	main []string,
	// The release's version; by default the commit's semantic version tag, else 0.0.0-COMMIT.
	//
	// +optional
	version string,
	// A registry on the caller's machine that references such as localhost:5000/app mean: tcp://127.0.0.1:5000
	//
	// +optional
	registry *dagger.Service,
	// Registry credentials as Docker's config.json: file://$HOME/.docker/config.json
	//
	// +optional
	registryConfig *dagger.Secret,
	// Registries (host or host:port) to be talked to without TLS. Those on localhost always are.
	//
	// +optional
	plainHttp []string,
	// Certificates (PEM) to trust beside Mozilla's, for registries behind a private authority.
	//
	// +optional
	caBundle *dagger.File,
	// An image with the stage programs in /usr/local/bin, to skip compiling them; see "toolbox".
	//
	// +optional
	toolbox *dagger.Container,
	// The Go toolchain's image.
	//
	// +optional
	// +default="docker.io/library/golang:1.26-bookworm"
	goImage string,
	// Keeps the caches of different trust apart: give pull requests another one than releases.
	//
	// +optional
	// +default="default"
	cacheNamespace string,
	// The stage programs' source; leave it alone.
	//
	// +defaultPath="/"
	// +ignore=["*", "!go.mod", "!go.sum", "!stages", "**/testdata", "**/*_test.go"]
	toolboxSource *dagger.Directory,
) *Slipway {
	return &Slipway{
		Source:         source,
		Config:         config,
		Main:           main,
		Version:        version,
		ToolboxSource:  toolboxSource,
		ToolboxImage:   toolbox,
		GoImage:        goImage,
		Registry:       registry,
		RegistryConfig: registryConfig,
		PlainHTTP:      plainHttp,
		CABundle:       caBundle,
		CacheNamespace: cacheNamespace,
	}
}

// A user name and password for one registry.
type RegistryAuth struct {
	// +private
	Address string
	// +private
	Username string
	// +private
	Password *dagger.Secret
}

// Add a user name and password for a registry; only the steps that talk to a registry see them.
func (s *Slipway) WithRegistryAuth(
	// The registry's host, with its port if it has one: ghcr.io
	address string,
	username string,
	// The password or token: env:GITHUB_TOKEN
	password *dagger.Secret,
) *Slipway {
	s.RegistryAuths = append(s.RegistryAuths, &RegistryAuth{Address: address, Username: username, Password: password})
	return s
}

// An environment variable that a key management service's client reads.
type KeyCredential struct {
	// +private
	Name string
	// +private
	Value *dagger.Secret
}

// Add a credential for a key management service; only the steps that sign and verify see it.
//
// It is an environment variable that the service's client reads: VAULT_TOKEN, AWS_ACCESS_KEY_ID, ...
func (s *Slipway) WithKeyCredential(
	name string,
	value *dagger.Secret,
) *Slipway {
	s.KeyCredentials = append(s.KeyCredentials, &KeyCredential{Name: name, Value: value})
	return s
}

// Show what was found in the repository and what will run.
func (s *Slipway) Plan(
	ctx context.Context,
	// text or json
	//
	// +optional
	// +default="text"
	format ReportFormat,
) (string, error) {
	r, err := s.plan(ctx)
	if err != nil {
		return "", err
	}
	name := "plan.txt"
	if format == ReportFormatJson {
		name = "plan.json"
	}
	return r.Files.File(name).Contents(ctx)
}

// ReportFormat is how a report is printed.
type ReportFormat string

const (
	// For people.
	ReportFormatText ReportFormat = "text"
	// For programs.
	ReportFormatJson ReportFormat = "json"
)

// plan runs the plan stage. Its plan.json carries the policy to every later stage.
func (s *Slipway) plan(ctx context.Context) (*Report, error) {
	args := []string{"plan", "-source", "/src"}
	ctr := s.program("plan").WithMountedDirectory("/src", s.Source)
	if s.Config != nil {
		ctr = ctr.WithMountedFile("/config/slipway.yaml", s.Config)
		args = append(args, "-config", "/config/slipway.yaml")
	}
	for _, m := range s.Main {
		args = append(args, "-main", m)
	}
	return run(ctx, "plan", ctr, args)
}

// hour is the reference time of what is decided about a moving world. It moves once an hour, so that within the hour nothing is done
// twice.
func hour() time.Time { return time.Now().UTC().Truncate(time.Hour) }
