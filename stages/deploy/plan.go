package deploy

import (
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// plan looks at what runs, and decides what this deployment will do. It changes nothing.
func (d *deployment) plan(ctx context.Context, action string) error {
	s := &State{position: position{Phase: Preparing}, Action: action, By: d.By, Reference: d.image.String(), Digest: d.image.DigestStr(),
		Strategy: d.Settings.Strategy, Began: time.Now().UTC(), Settings: d.Settings, Smoke: d.Smoke, Stable: blue}
	d.state = s
	for _, o := range d.app.objects { // what names no namespace gets its own now, and so stands complete in the record
		if _, err := d.Cluster.resource(o); err != nil {
			return err
		}
	}
	for _, hooks := range [][]config.Hook{s.Settings.Hooks.Before, s.Settings.Hooks.After} {
		for i := range hooks {
			if hooks[i].Deadline == 0 {
				hooks[i].Deadline = s.Settings.Deadline
			}
		}
	}
	if good := d.history.good(); good != nil {
		s.Before = good.Objects
	}
	running, err := d.running(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.Strategy == config.Rolling:
		s.Candidate = s.Stable
		return nil
	case d.app.main == nil:
		return result.Inputf("strategy %s: it is about one Deployment with a Service, and %s: use strategy rolling", s.Strategy, d.app.several)
	}
	return d.planProgressive(ctx, running)
}

// running finds the slot that has the traffic, and its Deployment; nil when none runs yet.
func (d *deployment) running(ctx context.Context) (*unstructured.Unstructured, error) {
	if d.app.main == nil {
		return nil, nil
	}
	s := d.state
	for _, service := range d.app.services {
		live, err := d.live(ctx, service)
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue
		}
		if slot, found, err := unstructured.NestedString(live.Object, "spec", "selector", SlotLabel); err == nil && found {
			s.Stable, s.Pinned = slot, true
			break
		}
	}
	for _, slot := range []string{s.Stable, otherSlot(s.Stable)} {
		o := d.app.main.DeepCopy()
		o.SetName(d.app.slotName(slot))
		live, err := d.live(ctx, o)
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue
		}
		if !s.Pinned { // no Service says which: the one that exists
			s.Stable = slot
		}
		if slot == s.Stable {
			s.Replicas = max(1, replicasOf(live))
			return live, nil
		}
	}
	return nil, nil
}

// live is the object as it is; nil when it is not there.
func (d *deployment) live(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r, err := d.Cluster.resource(o)
	if err != nil {
		return nil, err
	}
	live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, d.Cluster.explain("reading "+Name(o), err)
}

// planProgressive says what has to be so that two versions can stand side by side.
func (d *deployment) planProgressive(ctx context.Context, running *unstructured.Unstructured) error {
	s := d.state
	if len(d.app.services) == 0 {
		return result.Inputf("strategy %s: no Service leads to %s, so there is no traffic to move: use strategy rolling", s.Strategy, Name(d.app.main))
	}
	asked := s.Strategy
	inPlace := func(why string) {
		d.Say("%s: %s: all at once, instead of %s", d.App, why, asked)
		s.Strategy, s.Candidate, s.Pinned = config.Rolling, s.Stable, true
	}
	if running == nil {
		inPlace("nothing runs yet")
		return nil
	}
	slot, _, err := unstructured.NestedString(running.Object, "spec", "template", "metadata", "labels", SlotLabel)
	if err != nil || slot != s.Stable || s.Before == "" {
		return result.Inputf("strategy %s: %s was not deployed by Slipway, or by an older one: its pods cannot be told from the new version's: deploy it once with strategy rolling",
			s.Strategy, Name(running))
	}
	before, err := d.history.read(s.Before)
	if err != nil {
		return err
	}
	placed, err := d.app.place(s.Stable, s.Stable)
	if err != nil {
		return err
	}
	if sameTemplate(placed, before, d.app.slotName(s.Stable)) {
		inPlace("the pods are the same as those that run")
		return nil
	}
	s.Candidate, s.Pinned = otherSlot(s.Stable), true
	return d.planTraffic(ctx)
}

// sameTemplate says whether two sets of manifests give the named Deployment the same pods.
func sameTemplate(a, b []*unstructured.Unstructured, deployment string) bool {
	template := func(objects []*unstructured.Unstructured) string {
		i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool {
			return o.GetKind() == "Deployment" && o.GetName() == deployment
		})
		if i < 0 {
			return ""
		}
		t, _, err := unstructured.NestedMap(objects[i].Object, "spec", "template")
		if err != nil {
			return ""
		}
		text, err := encode([]*unstructured.Unstructured{{Object: t}})
		if err != nil {
			return ""
		}
		return string(text)
	}
	x := template(a)
	return x != "" && x == template(b)
}

// previewAll asks the API server about everything that this deployment will apply, in the slot where it will.
func (d *deployment) previewAll(ctx context.Context) ([]change, error) {
	pin := unpinned
	if d.state.Pinned {
		pin = d.state.Stable
	}
	placed, err := d.app.place(d.state.Candidate, pin)
	if err != nil {
		return nil, err
	}
	if d.state.Strategy != config.Rolling {
		before, err := d.history.read(d.state.Before)
		if err != nil {
			return nil, err
		}
		beside, err := d.beside(before)
		if err != nil {
			return nil, err
		}
		placed = append(placed, beside...)
	}
	return d.Cluster.preview(ctx, placed)
}

// suffix is what the name of the new version's own Service ends with.
func (d *deployment) suffix() string {
	if d.state.Strategy == config.Canary {
		return "canary"
	}
	return "preview"
}

// planTraffic looks whether the traffic can be divided, and measured.
func (d *deployment) planTraffic(ctx context.Context) error {
	if d.state.Strategy != config.Canary {
		return nil
	}
	if t := d.traffic(); t != nil {
		if err := t.plan(ctx); err != nil {
			return err
		}
	}
	return d.planAnalysis(ctx)
}
