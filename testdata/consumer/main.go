// Shop is a team's own pipeline, put together from Slipway's parts, its own check and its own way to deploy.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"dagger/shop/internal/dagger"
)

type Shop struct{}

// Build, scan, hold against the house's rules, sign, publish, and deploy in the house's way.
//
// +cache="never"
func (m *Shop) Release(
	ctx context.Context,
	// The repository, with .git.
	source *dagger.Directory,
	// Where to publish: ghcr.io/you/app:1.2.3
	publish string,
	// The private key (PEM) and its password.
	key, password *dagger.Secret,
	// The public key (PEM).
	publicKey *dagger.File,
	// The vulnerability database as an OCI reference.
	//
	// +optional
	database []string,
	// A registry on the caller's machine.
	//
	// +optional
	registry *dagger.Service,
	// Packages that may not be in the image.
	//
	// +optional
	forbidden []string,
	// Slipway's programs as an image, to skip compiling them.
	//
	// +optional
	toolbox *dagger.Container,
) (string, error) {
	image := dag.Slipway(dagger.SlipwayOpts{Source: source, Registry: registry, Toolbox: toolbox}).Build()
	if _, err := image.Scan(ctx, dagger.SlipwayArtifactScanOpts{Database: database}); err != nil {
		return "", err
	}
	rules := dag.HouseRules(dagger.HouseRulesOpts{Forbidden: forbidden})
	size, err := m.size(ctx, image.Layout())
	if err != nil {
		return "", err
	}
	repository := publish[:strings.LastIndex(publish, ":")]
	release := image.
		WithCheck(rules.AsSlipwayImageCheck()).
		WithReport(size).
		Sign(repository, dagger.SlipwayArtifactSignOpts{Key: key, Password: password, Database: database}).
		Publish(publish, dagger.SlipwayArtifactPublishOpts{MoveTag: true})
	return release.DeployWith(ctx, rules.AsSlipwayDeployer(), dagger.SlipwayReleaseDeployWithOpts{PublicKey: publicKey, Environment: "production"})
}

// size is a report of the pipeline's own: the image may have a hundred megabytes.
func (m *Shop) size(ctx context.Context, layout *dagger.Directory) (*dagger.Directory, error) {
	names, err := layout.Glob(ctx, "blobs/**")
	if err != nil {
		return nil, err
	}
	total := 0
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			continue
		}
		n, err := layout.File(name).Size(ctx)
		if err != nil {
			return nil, err
		}
		total += n
	}
	verdict := "pass"
	if total > 100<<20 {
		verdict = "fail"
	}
	text, err := json.Marshal(map[string]any{
		"schema":  "https://slipway.dev/schema/result/v1",
		"stage":   "size",
		"verdict": verdict,
		"summary": fmt.Sprintf("%d blobs, %.1f MB", len(names), float64(total)/1e6),
		"metrics": map[string]float64{"bytes": float64(total)},
	})
	if err != nil {
		return nil, err
	}
	return dag.Directory().WithNewFile("result.json", string(text)), nil
}
