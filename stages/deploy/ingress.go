package deploy

import (
	"context"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

const nginx = "nginx.ingress.kubernetes.io/"

// ingress is ingress-nginx' way: a second Ingress, whose annotations say that it is the canary of the first.
type ingress struct {
	*deployment
	main *unstructured.Unstructured
}

func newIngress(namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"namespace": namespace, "name": name}}}
}

func (i *ingress) plan(ctx context.Context) error {
	if err := i.find(ctx); err != nil {
		return err
	}
	i.state.Settings.Traffic.Route = i.main.GetName()
	i.Settings.Traffic.Route = i.main.GetName()
	return nil
}

// find looks for the Ingress that leads to the Service, among the manifests and in the cluster.
func (i *ingress) find(ctx context.Context) error {
	if i.main != nil {
		return nil
	}
	stable, _ := i.divided()
	var found []*unstructured.Unstructured
	consider := func(o *unstructured.Unstructured) {
		canary := o.GetAnnotations()[nginx+"canary"] == "true"
		if o.GetKind() == "Ingress" && !canary && ingressLeads(o, stable) && (i.Settings.Traffic.Route == "" || i.Settings.Traffic.Route == o.GetName()) {
			found = append(found, o)
		}
	}
	for _, o := range i.app.objects {
		consider(o)
	}
	if len(found) == 0 {
		client, err := i.Cluster.resource(newIngress(i.namespace(), ""))
		if err != nil {
			return err
		}
		list, err := client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return i.Cluster.explain("listing every Ingress", err)
		}
		for n := range list.Items {
			consider(&list.Items[n])
		}
	}
	var names []string
	for _, o := range found {
		names = append(names, o.GetName())
	}
	switch len(found) {
	case 1:
		i.main = found[0]
		return nil
	case 0:
		return result.Inputf("no Ingress in %s leads to Service %s: add one to the manifests, correct deploy.traffic.route, or set deploy.traffic.driver to replicas", i.namespace(), stable)
	}
	return result.Inputf("several Ingresses lead to Service %s: choose one with deploy.traffic.route: %s", stable, strings.Join(names, ", "))
}

// services of an Ingress are at spec.rules[].http.paths[].backend.service.
func eachBackend(o *unstructured.Unstructured, do func(service map[string]any)) {
	visit := func(backend map[string]any, path ...string) {
		if s, _, err := unstructured.NestedFieldNoCopy(backend, path...); err == nil {
			if s, ok := s.(map[string]any); ok {
				do(s)
			}
		}
	}
	visit(o.Object, "spec", "defaultBackend", "service")
	_ = each(o.Object, func(rule map[string]any) error {
		return each(rule, func(path map[string]any) error {
			visit(path, "backend", "service")
			return nil
		}, "http", "paths")
	}, "spec", "rules")
}

func ingressLeads(o *unstructured.Unstructured, service string) bool {
	found := false
	eachBackend(o, func(s map[string]any) { found = found || s["name"] == service })
	return found
}

// ingressCanary is the second Ingress.
func ingressCanary(main *unstructured.Unstructured, stable, candidate string, weight int, header string) (*unstructured.Unstructured, error) {
	c := newIngress(main.GetNamespace(), candidate)
	annotations := map[string]string{nginx + "canary": "true", nginx + "canary-weight": strconv.Itoa(weight)}
	if header != "" {
		name, value, err := config.ParseHeader(header)
		if err != nil {
			return nil, result.Inputf("deploy.traffic.header: %w", err)
		}
		annotations[nginx+"canary-by-header"], annotations[nginx+"canary-by-header-value"] = name, value
	}
	c.SetAnnotations(annotations)
	spec, _, err := unstructured.NestedMap(main.Object, "spec")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(main), err)
	}
	// The certificate is the first one's affair; and only the paths that lead to the Service have a canary.
	delete(spec, "tls")
	delete(spec, "defaultBackend")
	rules, _ := spec["rules"].([]any)
	for _, r := range rules {
		rule, ok := r.(map[string]any)
		if !ok {
			continue
		}
		http, ok := rule["http"].(map[string]any)
		if !ok {
			continue
		}
		paths, _ := http["paths"].([]any)
		http["paths"] = slices.DeleteFunc(paths, func(p any) bool {
			m, ok := p.(map[string]any)
			if !ok {
				return true
			}
			name, _, err := unstructured.NestedString(m, "backend", "service", "name")
			return err != nil || name != stable
		})
	}
	spec["rules"] = slices.DeleteFunc(rules, func(r any) bool {
		rule, ok := r.(map[string]any)
		if !ok {
			return true
		}
		paths, _, err := unstructured.NestedSlice(rule, "http", "paths")
		return err != nil || len(paths) == 0
	})
	c.Object["spec"] = spec
	eachBackend(c, func(s map[string]any) { s["name"] = candidate })
	return c, nil
}

func (i *ingress) send(ctx context.Context, weight int) error {
	if err := i.find(ctx); err != nil {
		return err
	}
	stable, candidate := i.divided()
	if weight == wholly {
		client, err := i.Cluster.resource(newIngress(i.main.GetNamespace(), candidate))
		if err != nil {
			return err
		}
		if err := client.Delete(ctx, candidate, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return i.Cluster.explain("deleting Ingress "+candidate, err)
		}
		return nil
	}
	c, err := ingressCanary(i.main, stable, candidate, weight, i.Settings.Traffic.Header)
	if err != nil {
		return err
	}
	inOrder([]*unstructured.Unstructured{c}, i.App)
	return i.Cluster.apply(ctx, []*unstructured.Unstructured{c}, true)
}

// arrived: an Ingress reports nothing about its annotations; the drain time is for that.
func (i *ingress) arrived(context.Context) (e Event, why string, err error) { return OK, "", nil }
