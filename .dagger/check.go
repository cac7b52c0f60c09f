package main

import (
	"context"

	"dagger/slipway/internal/dagger"
)

// Check formatting, go vet, golangci-lint and the state of go.mod and go.sum; fails on findings.
//
// +check
func (s *Slipway) Lint(ctx context.Context) (string, error) {
	r, err := s.LintReport(ctx)
	if err != nil {
		return "", err
	}
	return r.Gate()
}

// What lint found, also when it failed: "lint-report files export --path lint" writes SARIF.
func (s *Slipway) LintReport(ctx context.Context) (*Report, error) {
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	ctr, err := s.projectContainer(ctx, "check", "lint", plan)
	if err != nil {
		return nil, err
	}
	golangci, err := s.linterFile(ctx)
	if err != nil {
		return nil, err
	}
	ctr = ctr.WithFile(programPath(linter), golangci)
	return run(ctx, "lint", ctr, []string{"lint", "-source", "/src", "-plan", "/plan/plan.json", "-golangci", programPath(linter)})
}

// Run the tests with race detector and coverage; fails on a failing test or too little coverage.
//
// +check
func (s *Slipway) Test(ctx context.Context) (string, error) {
	r, err := s.TestReport(ctx)
	if err != nil {
		return "", err
	}
	return r.Gate()
}

// What the tests gave, also when they failed: "test-report files export --path test" writes JUnit and Cobertura.
func (s *Slipway) TestReport(ctx context.Context) (*Report, error) {
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	ctr, err := s.projectContainer(ctx, "check", "gotest", plan)
	if err != nil {
		return nil, err
	}
	return run(ctx, "test", ctr, []string{"gotest", "-source", "/src", "-plan", "/plan/plan.json"})
}

// projectContainer is a Go container with one stage program, the project's source and the plan.
func (s *Slipway) projectContainer(ctx context.Context, trust, program string, plan *Report) (*dagger.Container, error) {
	facts, err := plan.facts(ctx)
	if err != nil {
		return nil, err
	}
	source, err := s.sourceOnly(ctx, facts)
	if err != nil {
		return nil, err
	}
	return s.goContainer(s.goImage(facts), trust).
		WithFile(programPath(program), s.programFile(program)).
		WithMountedFile("/plan/plan.json", plan.Files.File("plan.json")).
		WithDirectory("/src", source).
		WithWorkdir("/src"), nil
}
