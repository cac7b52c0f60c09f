package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"dagger/slipway/internal/dagger"
)

// The stage programs by what they cost to compile: somebody who only lints does not wait for the scanners.
var (
	lightPrograms = []string{"plan/cmd/plan", "lint/cmd/lint", "test/cmd/gotest", "build/cmd/gobuild", "image/cmd/image",
		"smoke/cmd/smoke", "report/cmd/report", "lock/cmd/lock", "keys/cmd/keypair", "generate/cmd/generate"}
	heavyPrograms = []string{"sbom/cmd/sbom", "vulndb/cmd/vulndb", "scan/cmd/scan", "attest/cmd/attest", "sign/cmd/sign",
		"publish/cmd/publish", "verify/cmd/verify", "promote/cmd/promote"}
	// Who deploys waits for a Kubernetes client, and nobody else.
	clusterPrograms = []string{"deploy/cmd/deploy"}
)

// linter is the one program that is not ours, and runs beside a stage's own.
const linter = "golangci-lint"

// The image with all stage programs, to pull instead of compiling: see the constructor's "toolbox".
func (s *Slipway) Toolbox() *dagger.Container {
	ctr := dag.Container().WithFile(programPath(linter), s.compiledLinter())
	for _, p := range slices.Concat(lightPrograms, heavyPrograms, clusterPrograms) {
		ctr = ctr.WithFile(programPath(path.Base(p)), s.programFile(path.Base(p)))
	}
	return ctr.WithDefaultArgs([]string{})
}

func programPath(name string) string { return "/usr/local/bin/" + name }

// programFile is one compiled stage program.
func (s *Slipway) programFile(name string) *dagger.File {
	if s.ToolboxImage != nil {
		return s.ToolboxImage.File(programPath(name))
	}
	for _, group := range [][]string{heavyPrograms, clusterPrograms} {
		if slices.ContainsFunc(group, func(p string) bool { return path.Base(p) == name }) {
			return s.compile(group).File("/out/" + name)
		}
	}
	return s.compile(lightPrograms).File("/out/" + name)
}

// linterFile is golangci-lint, from the given toolbox if it is there.
func (s *Slipway) linterFile(ctx context.Context) (*dagger.File, error) {
	if s.ToolboxImage != nil {
		found, err := s.ToolboxImage.Rootfs().Glob(ctx, strings.TrimPrefix(programPath(linter), "/"))
		if err != nil {
			return nil, fmt.Errorf("looking for %s in the toolbox: %w", linter, err)
		}
		if len(found) > 0 {
			return s.ToolboxImage.File(programPath(linter)), nil
		}
	}
	return s.compiledLinter(), nil
}

func (s *Slipway) compiledLinter() *dagger.File {
	return s.compiler().
		WithExec([]string{"go", "install", "-trimpath", noDWARF, "-ldflags", "-s -w", golangciLint}).
		File("/go/bin/" + linter)
}

// noDWARF spares the compiler what the linker's -s -w throws away, a tenth of its time.
const noDWARF = "-gcflags=all=-dwarf=false"

// compiler is the container that Slipway's own tools are compiled in: without a C compiler, and with a go command whose short-lived
// processes collect garbage less often, which spares a sixth of the processor time. The standard library comes first, because go
// commands that start at the same time would each compile all of it.
func (s *Slipway) compiler() *dagger.Container {
	return s.goContainer(s.GoImage, "toolbox").
		WithEnvVariable("CGO_ENABLED", "0").
		WithEnvVariable("GOGC", "400").
		WithExec([]string{"go", "build", "-trimpath", noDWARF, "archive/...", "compress/...", "crypto/...", "database/sql", "encoding/...",
			"go/types", "html/template", "log/slog", "net/http/..."})
}

// compile builds programs in one go command, so that what they share is compiled once.
func (s *Slipway) compile(programs []string) *dagger.Container {
	args := []string{"go", "build", "-trimpath", noDWARF, "-ldflags", "-s -w -buildid=", "-o", "/out/"}
	for _, p := range programs {
		args = append(args, "./stages/"+p)
	}
	return s.compiler().
		WithMountedDirectory("/slipway", s.ToolboxSource).
		WithWorkdir("/slipway").
		WithExec(args)
}

// program is a container with nothing in it but one stage program: no shell, no other tool, no network unless something is bound.
func (s *Slipway) program(name string) *dagger.Container {
	return dag.Container().
		WithFile(programPath(name), s.programFile(name)).
		WithMountedTemp("/tmp")
}

// goContainer has a Go toolchain and caches of its own for each trust: what a project's tests wrote never reaches a release.
func (s *Slipway) goContainer(image, trust string) *dagger.Container {
	volume := func(kind string) *dagger.CacheVolume {
		return dag.CacheVolume("slipway-" + s.CacheNamespace + "-" + trust + "-go-" + kind)
	}
	return dag.Container().
		From(image).
		WithMountedCache("/go/pkg/mod", volume("mod")).
		WithMountedCache("/root/.cache/go-build", volume("build"))
}
