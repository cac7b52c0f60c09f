// Package deploy takes a verified image to a Kubernetes cluster, and leaves the cluster no worse than it was.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The files that the stage writes.
const (
	DiffName      = "changes.diff"
	ManifestsName = "manifests.yaml"
)

// cleanUp bounds what is done after a failure or an interruption.
const cleanUp = 5 * time.Minute

// Inputs are the stage's.
type Inputs struct {
	// App is the application's name: its record and its lease hang on it.
	App string
	// Reference is the image by digest: a tag may mean another one tomorrow.
	Reference string
	// Manifests is a folder; without one, Defaults make them.
	Manifests string
	Defaults  Defaults
	// Deadline is how long the workloads may take to be ready, Settle how long they must have been so, without a restart, to count.
	Deadline, Settle time.Duration
	// DryRun shows what would change.
	DryRun  bool
	By      string
	Now     time.Time
	Cluster *Cluster
	Out     string
	Say     func(format string, args ...any)
}

// Run deploys, or shows what it would do.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	image, err := name.NewDigest(in.Reference)
	if err != nil {
		return nil, result.Inputf("reference %q has no digest: what is deployed was verified, and that is a digest", in.Reference)
	}
	objects, err := in.objects(image)
	if err != nil {
		return nil, err
	}
	d := &deployment{Inputs: in, image: image, objects: objects}
	return d.run(ctx)
}

// objects are the manifests with the image in them.
func (in Inputs) objects(image name.Digest) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	var err error
	if in.Manifests == "" {
		in.Defaults.Name, in.Defaults.Namespace, in.Defaults.Image = in.App, in.Cluster.Namespace, image
		objects, err = in.Defaults.Manifests()
	} else if objects, err = ReadManifests(in.Manifests); err == nil {
		err = errors.Join(SetImage(objects, image), watched(objects))
	}
	if err != nil {
		return nil, err
	}
	inOrder(objects, in.App)
	return objects, nil
}

// deployment is one run.
type deployment struct {
	Inputs
	image   name.Digest
	objects []*unstructured.Unstructured
	history *history
}

func (d *deployment) run(ctx context.Context) (*result.Result, error) {
	changes, err := d.Cluster.preview(ctx, d.objects)
	if err != nil {
		return nil, err
	}
	r := &result.Result{Verdict: result.Pass, Inputs: []result.Resource{{Name: d.image.Context().String(), Digest: map[string]string{"sha256": d.image.DigestStr()[len("sha256:"):]}}},
		Outputs: map[string]string{"digest": d.image.DigestStr(), "reference": d.image.String()}}
	text, differing, err := diff(changes)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(d.Out, DiffName), []byte(text), 0o644); err != nil {
		return nil, err
	}
	r.Files = []result.File{{Path: DiffName, MediaType: "text/x-diff"}}
	if d.DryRun {
		r.Summary = fmt.Sprintf("%d of %d objects would change", differing, len(d.objects))
		return r, nil
	}
	held, unlock, err := d.Cluster.lock(ctx, d.App, d.By)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if d.history, err = d.Cluster.history(held, d.App); err != nil {
		return nil, err
	}
	return r, d.roll(held, r, changes)
}

// roll applies, waits, and goes back when it does not come up.
func (d *deployment) roll(ctx context.Context, r *result.Result, changes []change) error {
	_, before, err := d.history.good()
	if err != nil {
		return err
	}
	failed, why, err := d.tryOut(ctx)
	if err != nil || why != "" {
		// Also when this run is told to end: what it began it takes back.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if err != nil {
			why = err.Error()
		}
		r.Findings = d.Cluster.reasons(after, failed)
		d.Say("%s: %s", d.App, why)
		back, backErr := d.goBack(after, before, changes)
		r.Verdict = result.Fail
		r.Summary = fmt.Sprintf("%s; %s", why, back)
		d.Say("%s", back)
		recordErr := d.history.add(after, d.record(r.Verdict, r.Summary), nil)
		return errors.Join(err, backErr, recordErr)
	}
	pruned, err := d.Cluster.remove(ctx, without(before, d.objects), d.App)
	if err != nil {
		return err
	}
	for _, p := range pruned {
		d.Say("%s: removed: the manifests have it no more", p)
	}
	r.Summary = fmt.Sprintf("%s runs %s", d.App, d.image.DigestStr())
	return d.history.add(ctx, d.record(r.Verdict, r.Summary), d.objects)
}

func (d *deployment) record(v result.Verdict, summary string) Record {
	return Record{Time: d.Now.UTC().Format(time.RFC3339), By: d.By, Reference: d.image.String(), Digest: d.image.DigestStr(), Strategy: "rolling",
		Action: "deploy", Verdict: v, Summary: summary}
}

func (d *deployment) tryOut(ctx context.Context) (failed []*unstructured.Unstructured, why string, err error) {
	if err := d.Cluster.apply(ctx, d.objects, false); err != nil {
		return nil, "", err
	}
	return d.Cluster.wait(ctx, d.objects, d.patience(), d.Say)
}

func (d *deployment) patience() patience { return patience{deadline: d.Deadline, settle: d.Settle} }

// goBack makes it as it was: what the last good deployment applied is applied again, and what this run created goes.
func (d *deployment) goBack(ctx context.Context, before []*unstructured.Unstructured, changes []change) (said string, err error) {
	var created []*unstructured.Unstructured
	for _, ch := range changes {
		if ch.created() {
			created = append(created, ch.object)
		}
	}
	if len(before) > 0 {
		if err := d.Cluster.apply(ctx, before, true); err != nil {
			return "going back failed", err
		}
	}
	if _, err := d.Cluster.remove(ctx, without(created, before), d.App); err != nil {
		return "going back failed", err
	}
	if len(before) == 0 {
		if len(created) == len(changes) {
			return "nothing ran before, and what was created is gone again", nil
		}
		return "there is no earlier deployment by Slipway to go back to: what was there before was changed, and stays so", nil
	}
	_, why, err := d.Cluster.wait(ctx, before, d.patience(), d.Say)
	if err != nil {
		return "going back failed", err
	}
	if why != "" {
		return "the last good deployment was applied again, and does not come up either: " + why, nil
	}
	return "rolled back to the last good deployment", nil
}
