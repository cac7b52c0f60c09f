package deploy

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Istio's VirtualService: spec.http[].route[] {destination: {host}, weight}.

// destination says whether a route's entry leads to the Service, by its short or its full name, and to no subset of it.
func destination(service, namespace string) func(map[string]any) bool {
	return func(ref map[string]any) bool {
		d, ok := ref["destination"].(map[string]any)
		if !ok || d["subset"] != nil {
			return false
		}
		host, _ := d["host"].(string)
		rest, ok := strings.CutPrefix(host, service)
		return ok && (rest == "" || namespace != "" && (rest == "."+namespace || rest == "."+namespace+".svc" || rest == "."+namespace+".svc.cluster.local"))
	}
}

func istioLeads(o *unstructured.Unstructured, service string) bool {
	found := false
	_ = each(o.Object, func(rule map[string]any) error {
		return each(rule, func(ref map[string]any) error {
			found = found || destination(service, o.GetNamespace())(ref)
			return nil
		}, "route")
	}, "spec", "http")
	return found
}

func istioDivide(o *unstructured.Unstructured, s split, header, value string) error {
	rename := func(ref map[string]any, to string) {
		if d, ok := ref["destination"].(map[string]any); ok {
			host, _ := d["host"].(string)
			d["host"] = to + strings.TrimPrefix(host, s.stable)
		}
	}
	// Istio's weights are percentages of the rule; a lone destination needs none.
	const alone = 100
	if err := divideRules(o, []string{"spec", "http"}, "route", destination(s.stable, o.GetNamespace()), rename, s, alone, header, func(rule map[string]any) {
		matches, _ := rule["match"].([]any)
		if len(matches) == 0 {
			matches = []any{map[string]any{}}
		}
		for _, m := range matches {
			m, ok := m.(map[string]any)
			if !ok {
				continue
			}
			headers, _ := m["headers"].(map[string]any)
			if headers == nil {
				headers = map[string]any{}
			}
			// Istio's header names are written small.
			headers[strings.ToLower(header)] = map[string]any{"exact": value}
			m["headers"] = headers
		}
		rule["match"] = matches
		delete(rule, "name")
	}); err != nil {
		return err
	}
	// Back to percentages: shares of 100 times a percentage.
	return each(o.Object, func(rule map[string]any) error {
		return each(rule, func(ref map[string]any) error {
			if w, ok := ref["weight"].(int64); ok {
				ref["weight"] = w / alone
			}
			return nil
		}, "route")
	}, "spec", "http")
}
