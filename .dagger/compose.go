package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"dagger/slipway/internal/dagger"
)

// A report that is not Slipway's own, and becomes evidence.
type OwnReport struct {
	// +private
	Name string
	// +private
	Files *dagger.Directory
}

// A check of the built image that somebody else brings: an object of any module that has this function.
type ImageCheck interface {
	DaggerObject
	// Report looks at the image, an OCI layout, and its bills of materials, and leaves a result.json.
	Report(ctx context.Context, layout *dagger.Directory, sbom *dagger.Directory) *dagger.Directory
}

// A way to deploy that somebody else brings: an object of any module that has this function.
type Deployer interface {
	DaggerObject
	// Deploy takes a verified release, by digest, to where it runs, and says what it did.
	Deploy(ctx context.Context, reference string) (string, error)
}

// Add a report of your own to the evidence: a folder with a result.json, in the form that Slipway's stages write.
//
// It fails unless the report's verdict is a pass. "sign" signs it with the rest, and slipway.yaml can require it, as "report:NAME".
func (a *Artifact) WithReport(
	ctx context.Context,
	// The folder with result.json: {"schema": "https://slipway.dev/schema/result/v1", "stage": NAME, "verdict": "pass", "summary": "..."}
	report *dagger.Directory,
) (*Artifact, error) {
	text, err := report.File("result.json").Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("report: there is no result.json: %w", err)
	}
	var res struct {
		Stage string `json:"stage"`
		stageResult
	}
	if err := json.Unmarshal([]byte(text), &res); err != nil {
		return nil, inputf("report: result.json: %w", err)
	}
	if slices.ContainsFunc(a.Reports, func(r *OwnReport) bool { return r.Name == res.Stage }) {
		return nil, inputf("report: there is one named %q already", res.Stage)
	}
	r := &Report{Stage: res.Stage, Verdict: res.Verdict, Summary: res.Summary, Files: report, Details: details(res.stageResult)}
	if _, err := r.Gate(); err != nil {
		return nil, err
	}
	b := *a
	b.Reports = append(slices.Clone(a.Reports), &OwnReport{Name: res.Stage, Files: report})
	return &b, nil
}

// Run a check of your own on the image, and add its report to the evidence.
func (a *Artifact) WithCheck(ctx context.Context, check ImageCheck) (*Artifact, error) {
	sbom, err := a.Sbom(ctx)
	if err != nil {
		return nil, err
	}
	return a.WithReport(ctx, check.Report(ctx, a.Layout, sbom))
}

// Verify the release, then deploy it in your own way.
//
// +cache="never"
func (r *Release) DeployWith(
	ctx context.Context,
	deployer Deployer,
	// The public key (PEM) that the evidence is verified with: file:cosign.pub
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
	reference, err := r.verified(ctx, publicKey, kms, environment)
	if err != nil {
		return "", fmt.Errorf("deploy: refused: %w", err)
	}
	return deployer.Deploy(ctx, reference)
}
