package main

import (
	"context"

	"dagger/slipway/internal/dagger"
)

// Files for a repository: CI wrappers.
type Generate struct {
	// +private
	Slipway *Slipway
	// +private
	Wrappers *dagger.Directory
}

// Write files for a repository: CI wrappers.
func (s *Slipway) Generate(
	// Slipway's own wrappers; leave it alone.
	//
	// +defaultPath="/ci"
	// +ignore=["*", "!jenkins", "jenkins/*", "!jenkins/Jenkinsfile", "!circleci", "circleci/*", "!circleci/config.yml"]
	wrappers *dagger.Directory,
) *Generate {
	return &Generate{Slipway: s, Wrappers: wrappers}
}

// CiProvider is a CI service.
type CiProvider string

const (
	// GitHub Actions: .github/workflows/slipway.yml
	CiProviderGithub CiProvider = "github"
	// GitLab CI: .gitlab-ci.yml, or .gitlab/slipway.yml to be included where the former exists.
	CiProviderGitlab CiProvider = "gitlab"
	// Jenkins: Jenkinsfile
	CiProviderJenkins CiProvider = "jenkins"
	// CircleCI: .circleci/config.yml
	CiProviderCircleci CiProvider = "circleci"
	// Azure Pipelines: azure-pipelines.yml
	CiProviderAzure CiProvider = "azure"
)

// Write the file that runs Slipway under a CI service, adapted to what the plan found. Pull requests and the default branch are checked,
// tags are released; a library is only checked.
//
// "dagger call generate ci ..." shows the change and applies it to the current folder; "as-patch contents" only prints it. A file that
// somebody wrote by hand is never replaced.
func (g *Generate) Ci(
	ctx context.Context,
	// github, gitlab, jenkins, circleci or azure
	provider CiProvider,
	// The full commit of Slipway that runs, 40 hexadecimal digits.
	commit string,
	// The repository to publish to, without a tag: ghcr.io/you/app. By default the environment's, else, under GitHub and GitLab, the
	// project's own.
	//
	// +optional
	publish string,
	// Where to promote the release afterwards, one after the other, without a tag: ghcr.io/you/production/app
	//
	// +optional
	promote []string,
	// An environment of slipway.yaml whose requirements hold; by default the first by name.
	//
	// +optional
	environment string,
	// The Dagger engine: tcp://HOST:PORT, kube-pod://, ...; local for one without Docker. By default the runner's Docker.
	//
	// +optional
	engine string,
) (*dagger.Changeset, error) {
	s := g.Slipway
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"generate", "-plan", "/plan/plan.json", "-source", "/src", "-wrappers", "/wrappers",
		"-provider", string(provider), "-commit", commit, "-publish", publish, "-environment", environment, "-engine", engine}
	for _, p := range promote {
		args = append(args, "-promote", p)
	}
	ctr := s.program("generate").
		WithMountedFile("/plan/plan.json", plan.Files.File("plan.json")).
		WithMountedDirectory("/src", s.Source).
		WithMountedDirectory("/wrappers", g.Wrappers)
	r, err := run(ctx, "generate", ctr, args)
	if err != nil {
		return nil, err
	}
	if _, err := r.Gate(); err != nil {
		return nil, err
	}
	return s.Source.WithDirectory("/", r.Files.Directory("files")).Changes(s.Source), nil
}
