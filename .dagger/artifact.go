package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"dagger/slipway/internal/dagger"
)

// A built image: one digest for all its platforms, the same on every machine. Nothing after this rebuilds it.
type Artifact struct {
	// The digest of the image index.
	Digest string
	// The image as an OCI layout.
	Layout *dagger.Directory
	// +private
	Slipway *Slipway
	// +private
	PlanReport *Report
	// +private
	BuildReport *Report
	// +private
	ImageReport *Report
	// +private
	Reports []*OwnReport
	// +private
	Signed *dagger.Directory
	// +private
	Repository string
}

// Compile static binaries for every platform and assemble one image, with the same digest every time.
func (s *Slipway) Build(ctx context.Context) (*Artifact, error) {
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	built, err := s.compileProject(ctx, plan)
	if err != nil {
		return nil, err
	}
	if _, err := built.Gate(); err != nil {
		return nil, err
	}
	return s.assemble(ctx, plan, built)
}

// compileProject runs the compilers; a program that does not compile is a failing report.
func (s *Slipway) compileProject(ctx context.Context, plan *Report) (*Report, error) {
	args := []string{"gobuild", "-source", "/src", "-plan", "/plan/plan.json"}
	if s.Version != "" {
		args = append(args, "-version", s.Version)
	}
	ctr, err := s.projectContainer(ctx, "release", "gobuild", plan)
	if err != nil {
		return nil, err
	}
	return run(ctx, "build", ctr, args)
}

// assemble turns binaries into the image.
func (s *Slipway) assemble(ctx context.Context, plan, built *Report) (*Artifact, error) {
	facts, err := plan.facts(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"image", "-bin", "/bin-in", "-plan", "/plan/plan.json", "-zoneinfo", "/zoneinfo.zip"}
	if s.Version != "" {
		args = append(args, "-version", s.Version)
	}
	ctr := s.program("image").
		WithMountedDirectory("/bin-in", built.Files.Directory("bin")).
		WithMountedFile("/plan/plan.json", plan.Files.File("plan.json")).
		WithMountedFile("/zoneinfo.zip", dag.Container().From(s.goImage(facts)).File("/usr/local/go/lib/time/zoneinfo.zip"))
	image, err := run(ctx, "image", ctr, args)
	if err != nil {
		return nil, err
	}
	if _, err := image.Gate(); err != nil {
		return nil, err
	}
	digest, err := image.output("digest")
	if err != nil {
		return nil, err
	}
	return &Artifact{
		Digest:      digest,
		Layout:      image.Files.Directory("layout"),
		Slipway:     s,
		PlanReport:  plan,
		BuildReport: built,
		ImageReport: image,
	}, nil
}

// The compiled programs, one folder for each platform.
func (a *Artifact) Binaries() *dagger.Directory { return a.BuildReport.Files.Directory("bin") }

// The image for one platform, as it will run.
func (a *Artifact) Container(
	// The platform; by default the engine's own.
	//
	// +optional
	platform dagger.Platform,
) *dagger.Container {
	return dag.Container(dagger.ContainerOpts{Platform: platform}).Import(a.ImageReport.Files.File("image.tar"))
}

// The image's bill of materials: SPDX 2.3 and CycloneDX for each platform.
func (a *Artifact) Sbom(ctx context.Context) (*dagger.Directory, error) {
	r, err := a.sbom(ctx)
	if err != nil {
		return nil, err
	}
	return r.Files, nil
}

func (a *Artifact) sbom(ctx context.Context) (*Report, error) {
	facts, err := a.PlanReport.facts(ctx)
	if err != nil {
		return nil, err
	}
	ctr := a.Slipway.program("sbom").
		WithMountedDirectory("/layout", a.Layout).
		WithMountedDirectory("/licenses", a.BuildReport.Files.Directory("licenses"))
	return run(ctx, "sbom", ctr, []string{"sbom", "-layout", "/layout", "-licenses", "/licenses", "-name", facts.Name,
		"-epoch", strconv.FormatInt(facts.Source.Epoch, 10)})
}

// Look for vulnerabilities, licences, secrets and misconfiguration; fails on findings above the threshold.
//
// Vulnerabilities and licences are those of what is shipped, by its SBOM; secrets and misconfiguration those of the source.
//
// +cache="2h"
func (a *Artifact) Scan(
	ctx context.Context,
	// The vulnerability database as an OCI reference; mirrors may follow, tried in order.
	//
	// +optional
	database []string,
	// The vulnerability database as a folder with trivy.db and metadata.json, for machines without network.
	//
	// +optional
	databaseDir *dagger.Directory,
) (string, error) {
	r, err := a.ScanReport(ctx, database, databaseDir)
	if err != nil {
		return "", err
	}
	return r.Gate()
}

// What scan found, also when it failed: SARIF, JSON and a table.
//
// +cache="2h"
func (a *Artifact) ScanReport(
	ctx context.Context,
	// The vulnerability database as an OCI reference; mirrors may follow, tried in order.
	//
	// +optional
	database []string,
	// The vulnerability database as a folder with trivy.db and metadata.json, for machines without network.
	//
	// +optional
	databaseDir *dagger.Directory,
) (*Report, error) {
	sbom, err := a.sbom(ctx)
	if err != nil {
		return nil, err
	}
	db, err := a.Slipway.database(ctx, a.PlanReport, database, databaseDir)
	if err != nil {
		return nil, err
	}
	if !db.ok() {
		return db, nil
	}
	return a.scan(ctx, sbom, db)
}

// scan has the SBOM, the database and the source; it has no credential and needs no network.
func (a *Artifact) scan(ctx context.Context, sbom, db *Report) (*Report, error) {
	facts, err := a.PlanReport.facts(ctx)
	if err != nil {
		return nil, err
	}
	source, err := a.Slipway.sourceOnly(ctx, facts)
	if err != nil {
		return nil, err
	}
	ctr := a.Slipway.program("scan").
		WithMountedDirectory("/sbom", sbom.Files).
		WithMountedDirectory("/db", db.Files.Directory("db")).
		WithMountedDirectory("/src", source).
		WithMountedFile("/plan/plan.json", a.PlanReport.Files.File("plan.json"))
	return run(ctx, "scan", ctr, []string{"scan", "-sbom", "/sbom", "-db", "/db", "-source", "/src", "-plan", "/plan/plan.json",
		"-now", hour().Format(time.RFC3339)})
}

// database fetches the vulnerability database; it is the only part of scanning that sees the network.
func (s *Slipway) database(ctx context.Context, plan *Report, refs []string, dir *dagger.Directory) (*Report, error) {
	facts, err := plan.facts(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"vulndb", "-max-age", facts.Config.Scan.MaxDatabaseAge, "-now", hour().Format(time.RFC3339)}
	ctr := s.program("vulndb")
	if dir != nil {
		return run(ctx, "vulndb", ctr.WithMountedDirectory("/db", dir), append(args, "-from", "/db"))
	}
	if len(refs) == 0 {
		refs = []string{facts.Config.Scan.Database}
	}
	for _, ref := range refs {
		args = append(args, "-ref", ref)
	}
	ctr, flags, err := s.registryAccess(ctr, anonymous, refs...)
	if err != nil {
		return nil, fmt.Errorf("vulndb: %w", err)
	}
	return run(ctx, "vulndb", ctr, append(args, flags...))
}

// Run the image as a service: "preview up --ports 8080:8080".
func (a *Artifact) Preview(
	ctx context.Context,
	// The port that the service listens on; by default the plan's.
	//
	// +optional
	port int,
) (*dagger.Service, error) {
	port, err := a.port(ctx, port)
	if err != nil {
		return nil, err
	}
	return a.Container("").WithExposedPort(port).AsService(dagger.ContainerAsServiceOpts{UseEntrypoint: true}), nil
}

func (a *Artifact) port(ctx context.Context, port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	facts, err := a.PlanReport.facts(ctx)
	if err != nil {
		return 0, err
	}
	if p := facts.Config.Smoke.Port; p != 0 {
		return p, nil
	}
	if p := facts.Config.Build.Ports; len(p) > 0 {
		return p[0], nil
	}
	return 8080, nil
}

// Start the image, wait until it is healthy and send it requests; fails when an answer is wrong.
func (a *Artifact) Smoke(
	ctx context.Context,
	// The path that answers 2xx when the service is healthy; by default slipway.yaml's, else /healthz.
	//
	// +optional
	health string,
	// More paths to request; each must answer 2xx.
	//
	// +optional
	paths []string,
	// The port that the service listens on; by default the plan's.
	//
	// +optional
	port int,
) (string, error) {
	r, err := a.SmokeReport(ctx, health, paths, port)
	if err != nil {
		return "", err
	}
	return r.Gate()
}

// What smoke found, also when it failed.
func (a *Artifact) SmokeReport(
	ctx context.Context,
	// The path that answers 2xx when the service is healthy; by default slipway.yaml's, else /healthz.
	//
	// +optional
	health string,
	// More paths to request; each must answer 2xx.
	//
	// +optional
	paths []string,
	// The port that the service listens on; by default the plan's.
	//
	// +optional
	port int,
) (*Report, error) {
	port, err := a.port(ctx, port)
	if err != nil {
		return nil, err
	}
	service, err := a.Preview(ctx, port)
	if err != nil {
		return nil, err
	}
	args := []string{"smoke", "-url", "http://" + net.JoinHostPort("app", strconv.Itoa(port)), "-plan", "/plan/plan.json"}
	if health != "" {
		args = append(args, "-health", health)
	}
	for _, p := range paths {
		args = append(args, "-path", p)
	}
	ctr := a.Slipway.program("smoke").
		WithMountedFile("/plan/plan.json", a.PlanReport.Files.File("plan.json")).
		WithServiceBinding("app", service)
	return run(ctx, "smoke", ctr, args)
}
