package deploy

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The Gateway API's HTTPRoute: spec.rules[].backendRefs[] {name, port, weight}.

// backend says whether a reference is to the Service of that name in the route's own namespace.
func backend(service string) func(map[string]any) bool {
	return func(ref map[string]any) bool {
		kind, ok := ref["kind"]
		_, elsewhere := ref["namespace"]
		return ref["name"] == service && (!ok || kind == "Service") && !elsewhere
	}
}

func gatewayLeads(o *unstructured.Unstructured, service string) bool {
	found := false
	_ = each(o.Object, func(rule map[string]any) error {
		return each(rule, func(ref map[string]any) error {
			found = found || backend(service)(ref)
			return nil
		}, "backendRefs")
	}, "spec", "rules")
	return found
}

func gatewayDivide(o *unstructured.Unstructured, s split, header, value string) error {
	rename := func(ref map[string]any, to string) { ref["name"] = to }
	return divideRules(o, []string{"spec", "rules"}, "backendRefs", backend(s.stable), rename, s, 1, header, func(rule map[string]any) {
		matches, _ := rule["matches"].([]any)
		if len(matches) == 0 {
			matches = []any{map[string]any{}}
		}
		for i, m := range matches {
			m, ok := m.(map[string]any)
			if !ok {
				continue
			}
			headers, _ := m["headers"].([]any)
			m["headers"] = append(headers, map[string]any{"type": "Exact", "name": header, "value": value})
			matches[i] = m
		}
		rule["matches"] = matches
		delete(rule, "name") // a rule's name is unique
	})
}

// divideRules is what the Gateway API's and Istio's routes have in common: a list of rules, each with a list of destinations.
func divideRules(o *unstructured.Unstructured, path []string, list string, isStable func(map[string]any) bool, rename func(ref map[string]any, to string), s split, without int64,
	header string, match func(rule map[string]any)) error {
	field, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		return err
	}
	rules, _ := field.([]any)
	var out []any
	divided := false
	for _, item := range rules {
		rule, ok := item.(map[string]any)
		if !ok {
			continue
		}
		if header != "" { // before the rule itself: the more particular one comes first
			if testers := only(rule, list, isStable, rename, s.candidate); testers != nil {
				match(testers)
				out = append(out, testers)
			}
		}
		divided = share(rule, list, isStable, rename, s, without) || divided
		out = append(out, rule)
	}
	if !divided {
		return fmt.Errorf("%s leads to no Service of this application any more", Name(o))
	}
	return unstructured.SetNestedSlice(o.Object, numbers(out), path...)
}

// numbers makes JSON's numbers those that the Kubernetes libraries copy.
func numbers(list []any) []any {
	for i, v := range list {
		list[i] = number(v)
	}
	return list
}

func number(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	case int:
		return int64(v)
	case []any:
		return numbers(v)
	case map[string]any:
		for k, e := range v {
			v[k] = number(e)
		}
	}
	return v
}

// gatewayTold asks every Gateway of the route whether it has taken its present form.
func gatewayTold(o *unstructured.Unstructured) (e Event, why string) {
	parents := 0
	_ = each(o.Object, func(parent map[string]any) error {
		parents++
		return each(parent, func(c map[string]any) error {
			seen, _ := number(c["observedGeneration"]).(int64)
			switch c["type"] {
			case "Accepted", "ResolvedRefs":
				if c["status"] != "True" || seen < o.GetGeneration() {
					why = fmt.Sprintf("%s: the Gateway has not taken it yet: %v=%v: %v", Name(o), c["type"], c["status"], c["message"])
				}
			}
			return nil
		}, "conditions")
	}, "status", "parents")
	if parents == 0 {
		why = Name(o) + ": no Gateway has taken it: see its parentRefs"
	}
	if why != "" {
		return "", why
	}
	return OK, ""
}
