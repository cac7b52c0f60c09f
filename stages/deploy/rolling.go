package deploy

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// inPlace is the world of a rolling deployment: the Deployments' own controller replaces pod after pod.
type inPlace struct {
	*deployment
	placed, before []*unstructured.Unstructured
	watch          *rollout
}

func (d *deployment) rolling(before []*unstructured.Unstructured) (*inPlace, error) {
	placed, err := d.app.place(d.state.Candidate, d.finalPin())
	if err != nil {
		return nil, err
	}
	return &inPlace{deployment: d, placed: placed, before: before}, nil
}

func (w *inPlace) enter(ctx context.Context) error {
	settle := time.Duration(w.Settings.Settle)
	switch w.state.Phase {
	case Updating:
		w.watch = w.Cluster.rollout(w.placed, settle)
		w.watch.strict = true
		if err := w.Cluster.leaveReplicas(ctx, w.placed); err != nil {
			return err
		}
		return w.Cluster.apply(ctx, w.placed, false)
	case Retiring:
		return w.prune(ctx, w.before, w.placed)
	case Restoring:
		w.watch = w.Cluster.rollout(w.before, settle)
		if err := w.Cluster.apply(ctx, w.before, true); err != nil {
			return err
		}
		return w.removeCreated(ctx, w.before)
	}
	return nil
}

func (w *inPlace) observe(ctx context.Context) (e Event, why string, err error) {
	switch w.state.Phase {
	case Preparing:
		return w.hooks(ctx, w.Settings.Hooks.Before)
	case Holding:
		return w.hooks(ctx, w.Settings.Hooks.After)
	case Updating, Restoring:
		return w.watch.look(ctx)
	}
	return OK, "", nil
}

func (w *inPlace) failed(ctx context.Context) []result.Finding {
	if w.watch == nil {
		return nil
	}
	return w.Cluster.reasons(ctx, w.watch.open)
}

// prune removes what the last good deployment applied and this one has no more.
func (d *deployment) prune(ctx context.Context, before, placed []*unstructured.Unstructured) error {
	pruned, err := d.Cluster.remove(ctx, without(before, placed), d.App)
	for _, p := range pruned {
		d.Say("%s: removed: the manifests have it no more", p)
	}
	return err
}

// removeCreated takes back what this deployment created, and the last good one did not have.
func (d *deployment) removeCreated(ctx context.Context, before []*unstructured.Unstructured) error {
	var created []*unstructured.Unstructured
	for _, o := range d.state.Created {
		created = append(created, o.unstructured())
	}
	_, err := d.Cluster.remove(ctx, without(created, before), d.App)
	return err
}
