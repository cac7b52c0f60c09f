package main

import (
	"context"
	"fmt"
	"time"

	"dagger/slipway/internal/dagger"
)

// An image in a registry, by digest, with its signature and evidence beside it.
type Release struct {
	// The reference with its digest: what to deploy.
	Reference string
	// The digest of the image index; promotion never changes it.
	Digest string
	// The tag that names it, if any.
	Tag string
	// +private
	Slipway *Slipway
	// +private
	Report *Report
}

// Sign the image and what was proved about it: SBOMs, scan, tests and SLSA provenance as in-toto attestations.
//
// The signing step sees the digest, the statements and the key, and nothing else.
//
// +cache="never"
func (a *Artifact) Sign(
	ctx context.Context,
	// The repository that the signature names: ghcr.io/you/app
	repository string,
	// The private key, PEM (cosign's or PKCS#8): file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// The key in a key management service instead: awskms://, gcpkms://, azurekms://, hashivault://
	//
	// +optional
	kms string,
	// The vulnerability database as an OCI reference; mirrors may follow, tried in order.
	//
	// +optional
	database []string,
	// The vulnerability database as a folder with trivy.db and metadata.json, for machines without network.
	//
	// +optional
	databaseDir *dagger.Directory,
) (*Artifact, error) {
	sbom, err := a.sbom(ctx)
	if err != nil {
		return nil, err
	}
	scan, err := a.ScanReport(ctx, database, databaseDir)
	if err != nil {
		return nil, err
	}
	test, err := a.Slipway.TestReport(ctx)
	if err != nil {
		return nil, err
	}
	attested, err := a.attest(ctx, sbom, scan, test, nil)
	if err != nil {
		return nil, err
	}
	signed, err := a.Slipway.sign(ctx, a.Digest, repository, attested.Files.Directory("statements"), key, password, kms)
	if err != nil {
		return nil, err
	}
	return a.signedWith(signed, repository), nil
}

func (a *Artifact) signedWith(signed *Report, repository string) *Artifact {
	b := *a
	b.Signed, b.Repository = signed.Files.Directory("signed"), repository
	return &b
}

// attest writes the unsigned statements about the digest.
func (a *Artifact) attest(ctx context.Context, sbom, scan, test, lint *Report) (*Report, error) {
	args := []string{"attest", "-layout", "/layout", "-plan", "/plan/plan.json", "-sbom", "/sbom",
		"-result", "scan=/results/scan", "-result", "test=/results/test", "-result", "build=/results/build",
		"-now", hour().Format(time.RFC3339)}
	facts, err := a.PlanReport.facts(ctx)
	if err != nil {
		return nil, err
	}
	goImage, err := dag.Container().From(a.Slipway.goImage(facts)).ImageRef(ctx)
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	args = append(args, "-base", goImage)
	if a.Slipway.Version != "" {
		args = append(args, "-version", a.Slipway.Version)
	}
	ctr := a.Slipway.program("attest").
		WithMountedDirectory("/layout", a.Layout).
		WithMountedFile("/plan/plan.json", a.PlanReport.Files.File("plan.json")).
		WithMountedDirectory("/sbom", sbom.Files).
		WithMountedDirectory("/results/scan", scan.Files).
		WithMountedDirectory("/results/test", test.Files).
		WithMountedDirectory("/results/build", a.BuildReport.Files.WithoutDirectory("bin"))
	if lint != nil {
		ctr = ctr.WithMountedDirectory("/results/lint", lint.Files)
		args = append(args, "-result", "lint=/results/lint")
	}
	for _, r := range a.Reports {
		ctr = ctr.WithMountedDirectory("/reports/"+r.Name, r.Files)
		args = append(args, "-report", r.Name+"=/reports/"+r.Name)
	}
	return run(ctx, "attest", ctr, args)
}

// sign is the only step that sees the key.
func (s *Slipway) sign(
	ctx context.Context, digest, repository string, statements *dagger.Directory, key, password *dagger.Secret, kms string,
) (*Report, error) {
	ctr, flags, err := s.withKey(s.program("sign"), key, password, kms)
	if err != nil {
		return nil, err
	}
	args := []string{"sign", "-digest", digest, "-name", repository, "-statements", "/statements"}
	return run(ctx, "sign", ctr.WithMountedDirectory("/statements", statements), append(args, flags...))
}

// tryKey is the signing program with nothing to sign: a key that does not open is known before the work is done.
func (s *Slipway) tryKey(ctx context.Context, key, password *dagger.Secret, kms string) (*Report, error) {
	ctr, flags, err := s.withKey(s.program("sign"), key, password, kms)
	if err != nil {
		return nil, err
	}
	return run(ctx, "key", fresh(ctr), append([]string{"sign", "-try"}, flags...))
}

// withKey lets the signing program see the key and returns the flags that say where it is.
func (s *Slipway) withKey(ctr *dagger.Container, key, password *dagger.Secret, kms string) (*dagger.Container, []string, error) {
	var flags []string
	switch {
	case key != nil && kms != "":
		return nil, nil, inputf("sign: --key and --kms exclude each other: give one")
	case key != nil:
		ctr = ctr.WithMountedSecret("/secrets/key", key)
		flags = append(flags, "-key", "/secrets/key")
	case kms != "":
		ctr = s.withKeyCredentials(ctr)
		flags = append(flags, "-key", kms)
	default:
		return nil, nil, inputf("sign: no key: give --key file:cosign.key, or --kms with a key management service's URI")
	}
	if password != nil {
		ctr = ctr.WithMountedSecret("/secrets/password", password)
		flags = append(flags, "-password", "/secrets/password")
	}
	return ctr, flags, nil
}

func (s *Slipway) withKeyCredentials(ctr *dagger.Container) *dagger.Container {
	for _, c := range s.KeyCredentials {
		ctr = ctr.WithSecretVariable(c.Name, c.Value)
	}
	return ctr
}

// Push the image, then its signature and evidence, then the tag; changes nothing when all is there already.
//
// +cache="never"
func (a *Artifact) Publish(
	ctx context.Context,
	// Where to: ghcr.io/you/app:1.2.3
	reference string,
	// Let an existing tag point to this image from now on.
	//
	// +optional
	moveTag bool,
) (*Release, error) {
	args := []string{"publish", "-layout", "/layout", "-ref", reference}
	ctr := a.Slipway.program("publish").WithMountedDirectory("/layout", a.Layout)
	if a.Signed != nil {
		ctr = ctr.WithMountedDirectory("/signed", a.Signed)
		args = append(args, "-signed", "/signed")
	}
	if moveTag {
		args = append(args, "-move-tag")
	}
	ctr, flags, err := a.Slipway.registryAccess(ctr, authenticated, reference)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	r, err := run(ctx, "publish", fresh(ctr), append(args, flags...))
	if err != nil {
		return nil, err
	}
	return a.Slipway.release(r)
}

// fresh makes an execution that looks at or changes the world run every time.
func fresh(ctr *dagger.Container) *dagger.Container {
	return ctr.WithEnvVariable("SLIPWAY_RUN", time.Now().UTC().Format(time.RFC3339Nano))
}

// release turns a report with the outputs reference, digest and tag into a Release.
func (s *Slipway) release(r *Report) (*Release, error) {
	if _, err := r.Gate(); err != nil {
		return nil, err
	}
	reference, err := r.output("reference")
	if err != nil {
		return nil, err
	}
	digest, err := r.output("digest")
	if err != nil {
		return nil, err
	}
	tag, _ := r.output("tag") // a release by digest alone has none
	return &Release{Reference: reference, Digest: digest, Tag: tag, Slipway: s, Report: r}, nil
}

// An image that is in a registry already, to be verified or promoted.
func (s *Slipway) Release(
	// The image by tag or, better, by digest: ghcr.io/you/app@sha256:...
	reference string,
) *Release {
	return &Release{Reference: reference, Slipway: s}
}

// Check the signature and each required piece of evidence; fails and names every missing or wrong piece.
//
// Of each piece: its type, subject, signer, age, and the verdict inside.
//
// +cache="never"
func (r *Release) Verify(
	ctx context.Context,
	// The public key (PEM): file:cosign.pub
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service instead.
	//
	// +optional
	kms string,
	// An environment of slipway.yaml whose requirements hold.
	//
	// +optional
	environment string,
) (string, error) {
	rep, err := r.VerifyReport(ctx, publicKey, kms, environment)
	if err != nil {
		return "", err
	}
	return rep.Gate()
}

// What verify found, also when it failed.
//
// +cache="never"
func (r *Release) VerifyReport(
	ctx context.Context,
	// The public key (PEM): file:cosign.pub
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service instead.
	//
	// +optional
	kms string,
	// An environment of slipway.yaml whose requirements hold.
	//
	// +optional
	environment string,
) (*Report, error) {
	return r.verify(ctx, publicKey, kms, environment, "")
}

// verify checks the release, and writes the statements of its promotion if it may go on and to says where.
func (r *Release) verify(ctx context.Context, publicKey *dagger.File, kms, environment, to string) (*Report, error) {
	s := r.Slipway
	plan, err := s.plan(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"verify", "-ref", r.Reference, "-plan", "/plan/plan.json", "-now", time.Now().UTC().Format(time.RFC3339)}
	ctr := s.program("verify").WithMountedFile("/plan/plan.json", plan.Files.File("plan.json"))
	switch {
	case publicKey != nil && kms != "":
		return nil, inputf("verify: --public-key and --kms exclude each other: give one")
	case publicKey != nil:
		ctr = ctr.WithMountedFile("/trust/key.pub", publicKey)
		args = append(args, "-pub", "/trust/key.pub")
	case kms != "":
		ctr = s.withKeyCredentials(ctr)
		args = append(args, "-pub", kms)
	default:
		return nil, inputf("verify: no key: give --public-key cosign.pub, or --kms with a key management service's URI")
	}
	if environment != "" {
		args = append(args, "-environment", environment)
	}
	if to != "" {
		args = append(args, "-to", to)
	}
	ctr, flags, err := s.registryAccess(ctr, authenticated, r.Reference)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return run(ctx, "verify", fresh(ctr), append(args, flags...))
}

// Verify the release, then copy it with all its evidence to another repository, and record that with a signature.
//
// Nothing is rebuilt: the digest stays.
//
// +cache="never"
func (r *Release) Promote(
	ctx context.Context,
	// Where to: ghcr.io/you/production/app:1.2.3
	to string,
	// The private key that signs the record of the promotion: file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// The public key (PEM) that the evidence is verified with: file:cosign.pub
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service, for both.
	//
	// +optional
	kms string,
	// An environment of slipway.yaml whose requirements hold.
	//
	// +optional
	environment string,
	// Let an existing tag point to this image from now on.
	//
	// +optional
	moveTag bool,
) (*Release, error) {
	verified, err := r.verify(ctx, publicKey, kms, environment, to)
	if err != nil {
		return nil, err
	}
	if _, err := verified.Gate(); err != nil {
		return nil, fmt.Errorf("promote: refused: %w", err)
	}
	promoted, err := r.promote(ctx, verified, to, key, password, kms, moveTag)
	if err != nil {
		return nil, err
	}
	return r.Slipway.release(promoted)
}

// promote signs the statements that verify wrote, and copies a verified release by the digest that was verified, so that a tag moved under way changes nothing.
func (r *Release) promote(
	ctx context.Context, verified *Report, to string, key, password *dagger.Secret, kms string, moveTag bool,
) (*Report, error) {
	s := r.Slipway
	from, err := verified.output("reference")
	if err != nil {
		return nil, err
	}
	digest, err := verified.output("digest")
	if err != nil {
		return nil, err
	}
	signed, err := s.sign(ctx, digest, repository(to), verified.Files.Directory("statements"), key, password, kms)
	if err != nil {
		return nil, err
	}
	args := []string{"promote", "-from", from, "-to", to, "-signed", "/signed"}
	if moveTag {
		args = append(args, "-move-tag")
	}
	ctr := s.program("promote").WithMountedDirectory("/signed", signed.Files.Directory("signed"))
	ctr, flags, err := s.registryAccess(ctr, authenticated, from, to)
	if err != nil {
		return nil, fmt.Errorf("promote: %w", err)
	}
	return run(ctx, "promote", fresh(ctr), append(args, flags...))
}

// repository is a reference without its tag and digest.
func repository(ref string) string {
	for i := len(ref) - 1; i >= 0 && ref[i] != '/'; i-- {
		if ref[i] == '@' {
			return repository(ref[:i])
		}
	}
	for i := len(ref) - 1; i >= 0 && ref[i] != '/'; i-- {
		if ref[i] == ':' {
			return ref[:i]
		}
	}
	return ref
}
