// Command fixturedb builds a small vulnerability database from advisories, and pushes it as Trivy's own is.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/vulndb/fixture"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var registry oci.Flags
	var dir, push, updated string
	return result.Stage{
		Name:  "fixturedb",
		Usage: "builds a small vulnerability database from advisories",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&dir, "advisories", "", "`directory` of advisories, *.json")
			fs.StringVar(&push, "push", "", "`reference` to push the database to")
			fs.StringVar(&updated, "updated", "", "the database's `time`, RFC 3339; the default is now")
			registry.Register(fs)
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			at := time.Now().UTC().Truncate(time.Hour)
			if updated != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, updated); err != nil {
					return nil, result.Inputf("flag -updated: %w", err)
				}
			}
			all, err := fixture.Read(dir)
			if err != nil {
				return nil, result.Inputf("reading advisories: %w", err)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return nil, err
			}
			if err := fixture.Build(out, all, at); err != nil {
				return nil, fmt.Errorf("building the database: %w", err)
			}
			r := &result.Result{Verdict: result.Pass, Summary: fmt.Sprintf("%d advisories, as of %s", len(all), at.Format(time.RFC3339))}
			if push == "" {
				return r, nil
			}
			client, err := registry.Client()
			if err != nil {
				return nil, err
			}
			ref, err := client.Reference(push)
			if err != nil {
				return nil, err
			}
			img, err := fixture.Artifact(out)
			if err != nil {
				return nil, err
			}
			if err := remote.Write(ref, img, client.Options(ctx)...); err != nil {
				return nil, fmt.Errorf("pushing %s: %w", ref, oci.Explain(err, ref))
			}
			r.Summary += ", pushed to " + push
			return r, nil
		},
	}
}
