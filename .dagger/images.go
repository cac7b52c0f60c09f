package main

import (
	"context"
	"fmt"

	"dagger/slipway/internal/dagger"
)

// golangciLint is installed from its Go module, like every linter from its ecosystem's own registry.
const golangciLint = "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0"

// Pin the base images: slipway.lock, with the digest that each tag stands for now, to commit beside slipway.yaml.
//
// "lock export --path slipway.lock" writes it. From then on, the project is checked and built with exactly these images.
//
// +cache="never"
func (s *Slipway) Lock(ctx context.Context) (*dagger.File, error) {
	ref, err := dag.Container().From(s.GoImage).ImageRef(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	r, err := run(ctx, "lock", s.program("lock"), []string{"lock", "-image", ref})
	if err != nil {
		return nil, err
	}
	return r.Files.File("slipway.lock"), nil
}

// goImage is the Go toolchain's image for the project: the digest that slipway.lock gives it, or what its tag stands for.
func (s *Slipway) goImage(plan *planFacts) string {
	if digest, ok := plan.Images[s.GoImage]; ok {
		return repository(s.GoImage) + "@" + digest
	}
	return s.GoImage
}
