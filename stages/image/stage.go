package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

// FileName is the stage's record of what was assembled: Image as JSON.
const FileName = "image.json"

var versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

// Inputs are the stage's.
type Inputs struct {
	// Bin is the build stage's bin directory.
	Bin  string
	Plan *plan.Plan
	// Component's name; empty means the only one that builds programs.
	Component string
	// Version; empty means the plan's.
	Version  string
	Zoneinfo string
	Out      string
}

// Run assembles the image of a component and reports it.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	c, err := in.Plan.Component(in.Component)
	if err != nil {
		return nil, err
	}
	if c.Undecided != "" {
		return nil, result.Inputf("%s", c.Undecided)
	}
	if len(c.Mains) == 0 {
		return nil, result.Inputf("component %s has no main package: a library leaves nothing to put into an image", c.Name)
	}
	if in.Version == "" {
		in.Version = in.Plan.Version
	}
	if !versionForm.MatchString(in.Version) {
		return nil, result.Inputf("version %q: use letters, digits, '.', '_', '+' and '-'", in.Version)
	}
	cfg := in.Plan.Config.Build
	o := Options{
		Bin: in.Bin, Entrypoint: c.Entrypoint, Args: cfg.Args, Platforms: cfg.Platforms, User: cfg.User, Env: cfg.Env, Ports: cfg.Ports,
		Labels: Labels(in.Plan, c, in.Version), Created: time.Unix(in.Plan.Source.Epoch, 0), Zoneinfo: in.Zoneinfo, Out: in.Out,
	}
	for _, m := range c.Mains {
		o.Binaries = append(o.Binaries, m.Binary)
	}
	img, err := Assemble(ctx, o)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(img, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(in.Out, FileName), append(b, '\n'), 0o644); err != nil {
		return nil, err
	}
	if err := Archive(filepath.Join(in.Out, LayoutDir), filepath.Join(in.Out, ArchiveName)); err != nil {
		return nil, err
	}
	return report(img, o), nil
}

func report(img *Image, o Options) *result.Result {
	var parts []string
	for _, p := range img.Platforms {
		parts = append(parts, fmt.Sprintf("%s %.1f MB", p.Platform, float64(p.Size)/1e6))
	}
	r := &result.Result{
		Verdict: result.Pass,
		Summary: fmt.Sprintf("%s (%s)", img.Digest, strings.Join(parts, ", ")),
		Metrics: map[string]float64{"platforms": float64(len(img.Platforms))},
		Outputs: map[string]string{"digest": img.Digest, "mediaType": img.MediaType},
		Files: []result.File{
			{Path: FileName, MediaType: "application/json"},
			{Path: LayoutDir + "/index.json", MediaType: "application/vnd.oci.image.index.v1+json"},
			{Path: ArchiveName, MediaType: "application/x-tar"},
		},
	}
	if o.Zoneinfo == "" {
		r.Findings = []result.Finding{{ID: "no-time-zones", Severity: result.Info, Status: "note",
			Message: "the image has no time zones", Fix: "give -zoneinfo"}}
	}
	return r
}
