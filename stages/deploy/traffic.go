package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// traffic divides the requests between the application's Service and the new version's own.
type traffic interface {
	// plan looks whether it can, and changes nothing.
	plan(ctx context.Context) error
	// send gives the new version its share, in percent; wholly is as if there were no new version.
	send(ctx context.Context, weight int) error
	// arrived says whether what was sent last is in force.
	arrived(ctx context.Context) (e Event, why string, err error)
}

// wholly makes the route as it was before.
const wholly = -1

// route is a traffic driver that edits an object of the proxy's: its rules name both Services with weights.
type route struct {
	*deployment
	kind   schema.GroupVersionKind
	needed string
	// leads says whether a route has the Service among its destinations.
	leads func(o *unstructured.Unstructured, service string) bool
	// divide writes the weights into a route as it was.
	divide func(o *unstructured.Unstructured, s split, name, value string) error
	// told says whether the proxy has taken it.
	told func(o *unstructured.Unstructured) (Event, string)
}

// traffic is the driver of slipway.yaml; nil for one by the number of pods, which needs none.
func (d *deployment) traffic() traffic {
	switch d.Settings.Traffic.Driver {
	case config.ByGateway:
		return &route{deployment: d, kind: schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"},
			needed: "the Gateway API's CustomResourceDefinitions", leads: gatewayLeads, divide: gatewayDivide, told: gatewayTold}
	case config.ByIstio:
		return &route{deployment: d, kind: schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
			needed: "Istio", leads: istioLeads, divide: istioDivide, told: alwaysTold}
	case config.ByNginx:
		return &ingress{deployment: d}
	}
	return nil
}

func alwaysTold(*unstructured.Unstructured) (Event, string) { return OK, "" }

// divided are the names of the Services between which the traffic is divided.
func (d *deployment) divided() (stable, candidate string) {
	stable = d.app.services[0].GetName()
	return stable, stable + "-" + d.suffix()
}

// plan finds the route.
func (r *route) plan(ctx context.Context) error {
	own, live, err := r.find(ctx)
	if err != nil {
		return err
	}
	o := own
	if o == nil {
		o = live
	}
	rules, err := json.Marshal(o.Object["spec"])
	if err != nil {
		return err
	}
	r.state.Route, r.state.Settings.Traffic.Route = string(rules), o.GetName()
	r.Settings.Traffic.Route = o.GetName()
	trial := o.DeepCopy()
	return r.edit(trial, r.state.Settings.Steps[0].Weight)
}

// find looks for the route among the manifests and in the cluster.
func (r *route) find(ctx context.Context) (own, live *unstructured.Unstructured, err error) {
	stable, _ := r.divided()
	var candidates []*unstructured.Unstructured
	for _, o := range r.app.objects {
		if o.GroupVersionKind().GroupKind() == r.kind.GroupKind() && (o.GetName() == r.Settings.Traffic.Route || r.Settings.Traffic.Route == "" && r.leads(o, stable)) {
			candidates = append(candidates, o)
		}
	}
	if len(candidates) == 1 {
		return candidates[0], nil, nil
	}
	probe := &unstructured.Unstructured{}
	probe.SetGroupVersionKind(r.kind)
	probe.SetNamespace(r.namespace())
	probe.SetName(r.Settings.Traffic.Route)
	client, err := r.Cluster.resource(probe)
	if result.IsInput(err) {
		return nil, nil, result.Inputf("the cluster does not know the kind %s of %s: install %s, or set deploy.traffic.driver to replicas", r.kind.Kind, r.kind.GroupVersion(), r.needed)
	}
	if err != nil {
		return nil, nil, err
	}
	if r.Settings.Traffic.Route != "" {
		live, err = client.Get(ctx, r.Settings.Traffic.Route, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil, result.Inputf("there is no %s %s/%s: correct deploy.traffic.route", r.kind.Kind, r.namespace(), r.Settings.Traffic.Route)
		}
		if err == nil && !r.leads(live, stable) {
			return nil, nil, result.Inputf("%s does not lead to Service %s: correct deploy.traffic.route", Name(live), stable)
		}
		return nil, live, r.Cluster.explain("reading "+Name(probe), err)
	}
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, r.Cluster.explain("listing every "+r.kind.Kind, err)
	}
	for i := range list.Items {
		if r.leads(&list.Items[i], stable) {
			candidates = append(candidates, &list.Items[i])
		}
	}
	var names []string
	for _, o := range candidates {
		names = append(names, o.GetName())
	}
	switch len(candidates) {
	case 1:
		return nil, candidates[0], nil
	case 0:
		return nil, nil, result.Inputf("no %s in %s leads to Service %s: add one to the manifests, or set deploy.traffic.driver to replicas", r.kind.Kind, r.namespace(), stable)
	}
	return nil, nil, result.Inputf("several of %s lead to Service %s: choose one with deploy.traffic.route: %s", r.kind.Kind, stable, strings.Join(names, ", "))
}

// edit writes the weights.
func (r *route) edit(o *unstructured.Unstructured, weight int) error {
	var spec map[string]any
	if err := json.Unmarshal([]byte(r.state.Route), &spec); err != nil {
		return result.Inputf("the deployments' record: the route's rules cannot be read: %w", err)
	}
	if weight == wholly {
		o.Object["spec"] = spec
		return nil
	}
	o.Object["spec"] = spec
	var name, value string
	if h := r.Settings.Traffic.Header; h != "" {
		var err error
		if name, value, err = config.ParseHeader(h); err != nil {
			return result.Inputf("deploy.traffic.header: %w", err)
		}
	}
	s := split{weight: weight}
	s.stable, s.candidate = r.divided()
	if r.Settings.Analysis.Baseline {
		s.baseline = s.stable + "-" + fresh
	}
	return r.divide(o, s, name, value)
}

// send writes the route: one of the manifests is applied, another team's is updated.
func (r *route) send(ctx context.Context, weight int) error {
	own, live, err := r.find(ctx)
	if err != nil {
		return err
	}
	if own != nil {
		o := own.DeepCopy()
		if err := r.edit(o, weight); err != nil {
			return err
		}
		return r.Cluster.apply(ctx, []*unstructured.Unstructured{o}, true)
	}
	if err := r.edit(live, weight); err != nil {
		return err
	}
	client, err := r.Cluster.resource(live)
	if err != nil {
		return err
	}
	_, err = client.Update(ctx, live, metav1.UpdateOptions{FieldManager: FieldManager})
	if apierrors.IsConflict(err) { // somebody wrote it meanwhile
		return fmt.Errorf("updating %s: %w", Name(live), err)
	}
	return r.Cluster.explain("updating "+Name(live), err)
}

func (r *route) arrived(ctx context.Context) (e Event, why string, err error) {
	probe := &unstructured.Unstructured{}
	probe.SetGroupVersionKind(r.kind)
	probe.SetNamespace(r.namespace())
	probe.SetName(r.Settings.Traffic.Route)
	live, err := r.live(ctx, probe)
	if err != nil {
		return "", "", err
	}
	if live == nil {
		return Failed, Name(probe) + " is gone", nil
	}
	e, why = r.told(live)
	return e, why, nil
}

// each calls do for every entry of a list of mappings at path.
func each(o map[string]any, do func(entry map[string]any) error, path ...string) error {
	list, _, err := unstructured.NestedFieldNoCopy(o, path...)
	if err != nil {
		return err
	}
	items, _ := list.([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			if err := do(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// weightOf is an entry's weight, or what it has without one.
func weightOf(entry map[string]any, without int64) int64 {
	switch w := entry["weight"].(type) {
	case int64:
		return w
	case float64:
		return int64(w)
	}
	return without
}

// split is how the requests to one Service are divided.
type split struct {
	stable, candidate string
	// baseline gets as much as the candidate, while there is enough; empty is none.
	baseline string
	// weight is the candidate's share, in percent.
	weight int
}

// parts are the names beside the stable one with their shares, and what is left for that.
func (s split) parts() (names []string, shares []int, left int) {
	names, shares, left = []string{s.candidate}, []int{s.weight}, 100-s.weight
	if s.baseline != "" {
		same := min(s.weight, left)
		names, shares, left = append(names, s.baseline), append(shares, same), left-same
	}
	return names, shares, left
}

// share divides every destination of a rule that is the stable Service; the others keep their proportion.
func share(rule map[string]any, list string, isStable func(map[string]any) bool, rename func(ref map[string]any, to string), s split, without int64) bool {
	items, _ := rule[list].([]any)
	if !slices.ContainsFunc(items, func(item any) bool { m, ok := item.(map[string]any); return ok && isStable(m) }) {
		return false
	}
	var out []any
	for _, item := range items {
		ref, ok := item.(map[string]any)
		if !ok {
			out = append(out, item)
			continue
		}
		total := weightOf(ref, without)
		if !isStable(ref) {
			ref["weight"] = total * 100
			out = append(out, ref)
			continue
		}
		names, shares, left := s.parts()
		out = append(out, ref)
		for i, name := range names {
			other := (&unstructured.Unstructured{Object: ref}).DeepCopy().Object
			rename(other, name)
			other["weight"] = total * int64(shares[i])
			out = append(out, other)
		}
		ref["weight"] = total * int64(left)
	}
	rule[list] = out
	return true
}

// only makes a copy of a rule that leads to the new version alone.
func only(rule map[string]any, list string, isStable func(map[string]any) bool, rename func(ref map[string]any, to string), to string) map[string]any {
	c := (&unstructured.Unstructured{Object: rule}).DeepCopy().Object
	items, _ := c[list].([]any)
	i := slices.IndexFunc(items, func(item any) bool { m, ok := item.(map[string]any); return ok && isStable(m) })
	if i < 0 {
		return nil
	}
	ref, _ := items[i].(map[string]any)
	rename(ref, to)
	delete(ref, "weight")
	c[list] = []any{ref}
	return c
}
