package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Export writes the manifests with the image in them, as they would be applied but for their slot. It needs no cluster.
func Export(ctx context.Context, in Inputs) (*result.Result, error) {
	image, err := name.NewDigest(in.Reference)
	if err != nil {
		return nil, result.Inputf("reference %q has no digest: a tag may mean another image tomorrow", in.Reference)
	}
	objects, err := in.objects(ctx, image)
	if err != nil {
		return nil, err
	}
	if in.HandTo != "" {
		if objects, err = Handover(in.HandTo, objects, image, in.Settings); err != nil {
			return nil, err
		}
	}
	text, err := Render(objects)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(in.Out, ManifestsName), text, 0o644); err != nil {
		return nil, err
	}
	return &result.Result{Verdict: result.Pass, Summary: fmt.Sprintf("%d objects", len(objects)), Files: []result.File{{Path: ManifestsName, MediaType: "application/yaml"}}}, nil
}
