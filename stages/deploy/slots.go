package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// SlotLabel says to which of the two sets of pods a pod, and what a Service leads to, belongs.
const SlotLabel = "slipway.dev/slot"

// The two slots take turns: one has the traffic, the other the next version. Blue's Deployment has the manifest's own name.
const (
	blue  = "blue"
	green = "green"
	// fresh is the old version anew beside a canary, for a baseline that is as young as it.
	fresh = "baseline"
	// unpinned is for a Service that leads to both.
	unpinned = ""
)

func otherSlot(slot string) string {
	if slot == blue {
		return green
	}
	return blue
}

// app is what a set of manifests says about the application itself.
type app struct {
	objects []*unstructured.Unstructured
	// main is the Deployment that a strategy is about; nil when there is none, or no one more than another.
	main *unstructured.Unstructured
	// services lead to main's pods; the first is the one that is divided.
	services []*unstructured.Unstructured
	// several says why main is nil.
	several string
	// settle is how long a pod must have been ready before its Deployment's controller counts it, and ends an old one for it, where the
	// manifest says nothing: one that ends after some seconds would have replaced them all by then.
	settle time.Duration
}

// understand finds the main Deployment among objects: the only one with the image, or the only one of these that a Service leads to.
func understand(objects []*unstructured.Unstructured, image name.Digest) *app {
	a := &app{objects: objects}
	var with, served []*unstructured.Unstructured
	for _, o := range objects {
		if o.GetKind() != "Deployment" || !runs(o, image) {
			continue
		}
		with = append(with, o)
		if len(servicesOf(objects, o)) > 0 {
			served = append(served, o)
		}
	}
	switch {
	case len(served) == 1:
		a.main = served[0]
	case len(served) == 0 && len(with) == 1:
		a.main = with[0]
	case len(with) == 0:
		a.several = "no Deployment runs the image"
	default:
		var names []string
		for _, o := range with {
			names = append(names, o.GetName())
		}
		a.several = "several Deployments run the image, and none of them alone has a Service: " + strings.Join(names, ", ")
	}
	if a.main != nil {
		a.services = servicesOf(objects, a.main)
		slices.SortStableFunc(a.services, func(x, y *unstructured.Unstructured) int { return a.foreign(x) - a.foreign(y) })
	}
	return a
}

// foreign sorts the Service with the Deployment's own name first.
func (a *app) foreign(service *unstructured.Unstructured) int {
	if service.GetName() == a.main.GetName() {
		return 0
	}
	return 1
}

func runs(o *unstructured.Unstructured, image name.Digest) bool {
	containers, _, err := unstructured.NestedSlice(o.Object, append(slices.Clone(podSpecs[o.GetKind()]), "containers")...)
	return err == nil && slices.ContainsFunc(containers, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["image"] == image.String()
	})
}

// servicesOf are the Services whose selector fits the Deployment's pods.
func servicesOf(objects []*unstructured.Unstructured, deployment *unstructured.Unstructured) []*unstructured.Unstructured {
	labels, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "template", "metadata", "labels")
	if err != nil {
		return nil
	}
	var found []*unstructured.Unstructured
	for _, o := range objects {
		if o.GetKind() != "Service" || o.GetNamespace() != deployment.GetNamespace() {
			continue
		}
		selector, _, err := unstructured.NestedStringMap(o.Object, "spec", "selector")
		if err != nil || len(selector) == 0 {
			continue
		}
		fits := true
		for k, v := range selector {
			fits = fits && (k == SlotLabel || labels[k] == v)
		}
		if fits {
			found = append(found, o)
		}
	}
	return found
}

// slotName is what the main Deployment is called in a slot.
func (a *app) slotName(slot string) string {
	if slot == green {
		return a.main.GetName() + "-" + green
	}
	return a.main.GetName()
}

// place is the manifests with the main Deployment in slot, and its Services leading to pin. The autoscaler goes along.
func (a *app) place(slot, pin string) ([]*unstructured.Unstructured, error) {
	placed := make([]*unstructured.Unstructured, 0, len(a.objects))
	for _, o := range a.objects {
		c := o.DeepCopy()
		if _, found, err := unstructured.NestedFieldNoCopy(c.Object, "spec", "minReadySeconds"); o.GetKind() == "Deployment" && !found && err == nil && a.settle > 0 {
			if err := unstructured.SetNestedField(c.Object, int64(a.settle.Seconds()), "spec", "minReadySeconds"); err != nil {
				return nil, result.Inputf("%s: %w", Name(o), err)
			}
		}
		switch {
		case a.main == nil:
		case o == a.main:
			c.SetName(a.slotName(slot))
			if err := unstructured.SetNestedField(c.Object, slot, "spec", "template", "metadata", "labels", SlotLabel); err != nil {
				return nil, result.Inputf("%s: %w", Name(o), err)
			}
			if slot == green { // blue's may be older than its slot, and a selector cannot be changed
				if err := unstructured.SetNestedField(c.Object, slot, "spec", "selector", "matchLabels", SlotLabel); err != nil {
					return nil, result.Inputf("%s: %w", Name(o), err)
				}
			}
		case slices.Contains(a.services, o):
			if err := pinService(c, pin); err != nil {
				return nil, result.Inputf("%s: %w", Name(o), err)
			}
		case o.GetKind() == "HorizontalPodAutoscaler" && a.scales(o):
			if err := unstructured.SetNestedField(c.Object, a.slotName(slot), "spec", "scaleTargetRef", "name"); err != nil {
				return nil, result.Inputf("%s: %w", Name(o), err)
			}
		}
		placed = append(placed, c)
	}
	return placed, nil
}

// scales says whether an autoscaler is the main Deployment's.
func (a *app) scales(hpa *unstructured.Unstructured) bool {
	ref, _, err := unstructured.NestedStringMap(hpa.Object, "spec", "scaleTargetRef")
	return err == nil && ref["kind"] == "Deployment" && ref["name"] == a.main.GetName()
}

func pinService(service *unstructured.Unstructured, slot string) error {
	if slot == unpinned {
		unstructured.RemoveNestedField(service.Object, "spec", "selector", SlotLabel)
		return nil
	}
	return unstructured.SetNestedField(service.Object, slot, "spec", "selector", SlotLabel)
}

// besides is a Service like the divided one for one slot alone, with the suffix in its name.
func (a *app) besides(slot, suffix string) (*unstructured.Unstructured, error) {
	if len(a.services) == 0 {
		return nil, fmt.Errorf("%s has no Service", Name(a.main))
	}
	s := a.services[0].DeepCopy()
	s.SetName(s.GetName() + "-" + suffix)
	s.SetAnnotations(nil)
	ports, _, err := unstructured.NestedSlice(s.Object, "spec", "ports")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(a.services[0]), err)
	}
	for _, p := range ports {
		if p, ok := p.(map[string]any); ok {
			delete(p, "nodePort")
		}
	}
	selector, _, err := unstructured.NestedMap(s.Object, "spec", "selector")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(a.services[0]), err)
	}
	selector[SlotLabel] = slot
	return s, unstructured.SetNestedMap(s.Object, map[string]any{"type": "ClusterIP", "ports": ports, "selector": selector}, "spec")
}

// anew is the Deployment of the last good manifests once more, in the slot of its own.
func (a *app) anew(before []*unstructured.Unstructured, stable string) (*unstructured.Unstructured, error) {
	i := slices.IndexFunc(before, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Deployment" && o.GetName() == a.slotName(stable)
	})
	if i < 0 {
		return nil, fmt.Errorf("the last good deployment had no Deployment %s", a.slotName(stable))
	}
	o := before[i].DeepCopy()
	o.SetName(a.main.GetName() + "-" + fresh)
	for _, path := range [][]string{{"spec", "template", "metadata", "labels", SlotLabel}, {"spec", "selector", "matchLabels", SlotLabel}} {
		if err := unstructured.SetNestedField(o.Object, fresh, path...); err != nil {
			return nil, result.Inputf("%s: %w", Name(o), err)
		}
	}
	return o, nil
}

// split are the placed objects by when they are applied: what the pods need first, then the Services' selectors, the main Deployment, and what
// comes when the new version has the traffic: other workloads, and the autoscaler.
func (a *app) split(placed []*unstructured.Unstructured) (support, services, later []*unstructured.Unstructured, main *unstructured.Unstructured) {
	for i, o := range placed {
		switch original := a.objects[i]; {
		case original == a.main:
			main = o
		case slices.Contains(a.services, original):
			services = append(services, o)
		case slices.Contains(awaited, o.GetKind()), o.GetKind() == "CronJob", o.GetKind() == "HorizontalPodAutoscaler":
			later = append(later, o)
		default:
			support = append(support, o)
		}
	}
	return support, services, later, main
}

// unplaced is place taken back: recorded manifests as they would be without slots.
func unplaced(placed []*unstructured.Unstructured, slot string) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, 0, len(placed))
	for _, o := range placed {
		o := o.DeepCopy()
		unstructured.RemoveNestedField(o.Object, "spec", "template", "metadata", "labels", SlotLabel)
		unstructured.RemoveNestedField(o.Object, "spec", "selector", SlotLabel)
		unstructured.RemoveNestedField(o.Object, "spec", "selector", "matchLabels", SlotLabel)
		if slot == green {
			switch o.GetKind() {
			case "Deployment":
				if name, is := strings.CutSuffix(o.GetName(), "-"+green); is {
					o.SetName(name)
				}
			case "HorizontalPodAutoscaler":
				if name, _, err := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name"); err == nil {
					_ = unstructured.SetNestedField(o.Object, strings.TrimSuffix(name, "-"+green), "spec", "scaleTargetRef", "name")
				}
			}
		}
		out = append(out, o)
	}
	return out
}

// replicasOf is what a manifest asks for; zero when it leaves that to an autoscaler.
func replicasOf(deployment *unstructured.Unstructured) int64 {
	n, _, err := unstructured.NestedFieldNoCopy(deployment.Object, "spec", "replicas")
	if err != nil {
		return 0
	}
	switch n := n.(type) { // a number of YAML's is a float, one of the API server's is not
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

func setReplicas(deployment *unstructured.Unstructured, n int64) error {
	return unstructured.SetNestedField(deployment.Object, n, "spec", "replicas")
}
