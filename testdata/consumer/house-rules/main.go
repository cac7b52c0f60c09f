// House rules are what a company holds its images against, and how it deploys them. Both fit where Slipway takes such parts: ImageCheck, Deployer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"dagger/house-rules/internal/dagger"
)

type HouseRules struct {
	// +private
	Forbidden []string
}

func New(
	// Packages that may not be in an image.
	//
	// +optional
	forbidden []string,
) *HouseRules {
	return &HouseRules{Forbidden: forbidden}
}

// Look for forbidden packages in the bills of materials.
func (h *HouseRules) Report(ctx context.Context, layout *dagger.Directory, sbom *dagger.Directory) (*dagger.Directory, error) {
	documents, err := sbom.Glob(ctx, "*/sbom.spdx.json")
	if err != nil {
		return nil, err
	}
	type finding struct {
		ID       string `json:"id"`
		Severity string `json:"severity"`
		Message  string `json:"message"`
	}
	var found []finding
	packages := 0
	for _, name := range documents {
		text, err := sbom.File(name).Contents(ctx)
		if err != nil {
			return nil, err
		}
		var document struct {
			Packages []struct {
				Name string `json:"name"`
			} `json:"packages"`
		}
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, p := range document.Packages {
			packages++
			if slices.Contains(h.Forbidden, p.Name) {
				found = append(found, finding{"forbidden-package", "high", p.Name + " may not be in an image, and is in " + name})
			}
		}
	}
	verdict := "pass"
	if len(found) > 0 {
		verdict = "fail"
	}
	text, err := json.Marshal(map[string]any{
		"schema":   "https://slipway.dev/schema/result/v1",
		"stage":    "house-rules",
		"verdict":  verdict,
		"summary":  fmt.Sprintf("%d packages, %d forbidden", packages, len(found)),
		"findings": found,
	})
	if err != nil {
		return nil, err
	}
	return dag.Directory().WithNewFile("result.json", string(text)), nil
}

// Hand the release over to the house's deployment, here by naming it.
func (h *HouseRules) Deploy(_ context.Context, reference string) (string, error) {
	return "the house deploys " + reference, nil
}
