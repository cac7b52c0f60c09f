package deploy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	flaggerVersion = "flagger.app/v1beta1"
	// flaggerShortest is the shortest interval that Flagger keeps to.
	flaggerShortest = config.Duration(10 * time.Second)
	primary         = "-primary"
)

// flaggerLabels are the labels by which Flagger tells its copy of the pods from the new version, unless it was started with others.
var flaggerLabels = []string{"app", "name", "app.kubernetes.io/name"}

// flagger has a Canary beside the Deployment. Flagger makes everything else: a copy of the Deployment that has the traffic, the Services, and the
// route. What it makes is not among the manifests any more; what it makes it from is in the Canary, or refused.
func (h *handover) flagger() ([]*unstructured.Unstructured, error) {
	label, value, err := h.flaggerLabel()
	if err != nil {
		return nil, err
	}
	var route *unstructured.Unstructured // when Flagger makes it
	spec := map[string]any{"targetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": h.app.main.GetName()},
		"progressDeadlineSeconds": int64(time.Duration(h.Settings.Deadline).Seconds())}
	service := map[string]any{}
	var templates []*unstructured.Unstructured
	var port map[string]any
	if h.Settings.Strategy == config.BlueGreen {
		port, err = h.servicePort("", 0)
		// Flagger changes the copy once the new version has been ready for one interval.
		spec["provider"], spec["analysis"] = "kubernetes", map[string]any{"interval": span(max(flaggerShortest, h.Settings.Settle)), "iterations": 1, "threshold": 1}
	} else {
		if port, route, err = h.flaggerRouting(spec, service); err != nil {
			return nil, err
		}
		spec["analysis"], templates, err = h.flaggerAnalysis()
	}
	if err != nil {
		return nil, err
	}
	if err := h.flaggerService(service, port); err != nil {
		return nil, err
	}
	spec["service"] = service
	var out []*unstructured.Unstructured
	for _, o := range h.app.objects {
		switch {
		case o == h.app.services[0], o == route:
			continue
		case h.scaler(o):
			if spec["autoscalerRef"] != nil {
				return nil, result.Inputf("deploy.strategy: %s is scaled by two objects, and Flagger copies one: take %s out of the manifests", Name(h.app.main), Name(o))
			}
			spec["autoscalerRef"] = map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "name": o.GetName()}
		case o.GetKind() == "NetworkPolicy", o.GetKind() == "PodDisruptionBudget":
			alsoPrimary(o.Object["spec"], label, value)
		}
		out = append(out, o)
	}
	return append(append(out, templates...), h.object(flaggerVersion, "Canary", h.app.main.GetName(), spec)), nil
}

// flaggerLabel is the label of the Deployment's selector to whose value Flagger adds -primary, in its copy. Of what selects pods by it, Flagger
// changes only the Services that it makes.
func (h *handover) flaggerLabel() (label, value string, err error) {
	selector, _, err := unstructured.NestedStringMap(h.app.main.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return "", "", result.Inputf("%s: %w", Name(h.app.main), err)
	}
	i := slices.IndexFunc(flaggerLabels, func(l string) bool { return selector[l] != "" })
	if i < 0 {
		return "", "", result.Inputf("deploy.strategy: Flagger tells versions apart by one of the labels %s, and spec.selector.matchLabels of %s has none: add one there and to the pods",
			strings.Join(flaggerLabels, ", "), Name(h.app.main))
	}
	if len(h.app.services) > 1 {
		return "", "", result.Inputf("deploy.strategy: %s and %s lead to the same pods, and Flagger makes one Service: the other would lead to no pod most of the time: take it out of the manifests",
			Name(h.app.services[0]), Name(h.app.services[1]))
	}
	return flaggerLabels[i], selector[flaggerLabels[i]], nil
}

// alsoPrimary lets what selects pods by Flagger's label select those of Flagger's copy, too.
func alsoPrimary(v any, label, value string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			alsoPrimary(e, label, value)
		}
	case map[string]any:
		expressions, _ := v["matchExpressions"].([]any)
		if labels, ok := v["matchLabels"].(map[string]any); ok && labels[label] == value {
			if delete(labels, label); len(labels) == 0 {
				delete(v, "matchLabels")
			}
			v["matchExpressions"] = append(expressions, map[string]any{"key": label, "operator": "In", "values": []any{value, value + primary}})
		}
		for _, e := range mappings(v, "matchExpressions") {
			if values, _ := e["values"].([]any); e["key"] == label && slices.Contains(values, any(value)) && !slices.Contains(values, any(value+primary)) {
				e["values"] = append(values, value+primary)
			}
		}
		for k, e := range v {
			if k != "namespaceSelector" {
				alsoPrimary(e, label, value)
			}
		}
	}
}

// flaggerService describes the Service that Flagger makes instead of the application's own.
func (h *handover) flaggerService(service, port map[string]any) error {
	o := h.app.services[0]
	spec, _ := o.Object["spec"].(map[string]any)
	refused := func(what string) error {
		return result.Inputf("deploy.strategy: %s has %s, and the Services that Flagger makes have not: remove it, or put such a Service beside it under another name, once Flagger has made its own", Name(o), what)
	}
	if s := strangers(spec, "ports", "selector", "type", "clusterIP", "sessionAffinity"); s != "" {
		return refused("spec." + s)
	}
	for _, is := range []struct{ key, usual string }{{"type", "ClusterIP"}, {"sessionAffinity", "None"}, {"clusterIP", "None"}} {
		if v, ok := spec[is.key]; ok && v != is.usual {
			return refused("spec." + is.key)
		}
	}
	if spec["clusterIP"] != nil {
		service["headless"] = true
	}
	if o.GetName() != h.app.main.GetName() {
		service["name"] = o.GetName()
	}
	for from, to := range map[string]string{"port": "port", "name": "portName", "targetPort": "targetPort", "appProtocol": "appProtocol"} {
		if v, ok := port[from]; ok {
			service[to] = v
		}
	}
	ports := mappings(o.Object, "spec", "ports")
	service["portDiscovery"] = len(ports) > 1
	for _, p := range ports {
		if v, ok := p["protocol"]; ok && v != "TCP" {
			return refused("a port that is not TCP")
		}
		if s := strangers(p, "name", "port", "targetPort", "protocol", "appProtocol"); s != "" {
			return refused("spec.ports." + s)
		}
		if wholeOf(p["port"]) != wholeOf(port["port"]) && !h.discovered(p) {
			return refused("several ports, and not each is a container's by the same name and number")
		}
	}
	about := map[string]any{}
	metadata, _ := o.Object["metadata"].(map[string]any)
	for _, k := range []string{"labels", "annotations"} {
		if v, ok := metadata[k]; ok {
			about[k] = v
		}
	}
	if len(about) > 0 {
		service["apex"] = about
	}
	return nil
}

// discovered says whether Flagger finds a Service's port in the containers.
func (h *handover) discovered(p map[string]any) bool {
	if t, ok := p["targetPort"]; ok && wholeOf(t) != wholeOf(p["port"]) && (textOf(t) == "" || textOf(t) != textOf(p["name"])) {
		return false
	}
	for _, c := range mappings(h.app.main.Object, "spec", "template", "spec", "containers") {
		for _, cp := range mappings(c, "ports") {
			if wholeOf(cp["containerPort"]) == wholeOf(p["port"]) && textOf(cp["name"]) == textOf(p["name"]) {
				return true
			}
		}
	}
	return false
}

// flaggerRouting writes what divides the requests, and says to which of the Service's ports it leads. An Ingress stays among the manifests; an
// HTTPRoute and a VirtualService do not, and what they hold has to be in the Canary.
func (h *handover) flaggerRouting(spec, service map[string]any) (port map[string]any, route *unstructured.Unstructured, err error) {
	stable, _ := h.divided()
	if h.Settings.Traffic.Header != "" {
		return nil, nil, result.Inputf("deploy.traffic.header: Flagger has either a header or weights: remove the key, or hand over to %s", ArgoRollouts)
	}
	switch h.Settings.Traffic.Driver {
	case config.ByGateway, config.ByIstio:
		provider, take := "gatewayapi:v1", h.flaggerGateway
		if h.Settings.Traffic.Driver == config.ByIstio {
			provider, take = "istio", h.flaggerIstio
		}
		spec["provider"] = provider
		if route, err = h.proxied(); err != nil {
			return nil, nil, err
		}
		n, err := take(route, service)
		if err != nil {
			return nil, nil, err
		}
		port, err = h.servicePort("", n)
		return port, route, err
	case config.ByNginx:
		spec["provider"] = "nginx"
		o, err := h.balanced()
		if err != nil {
			return nil, nil, err
		}
		spec["ingressRef"] = map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": o.GetName()}
		var name string
		var n int64
		eachPath(o, func(s map[string]any) {
			if p, ok := s["port"].(map[string]any); ok && s["name"] == stable {
				name = textOf(p["name"])
				n = wholeOf(p["number"])
			}
		})
		port, err = h.servicePort(name, n)
		return port, nil, err
	}
	return nil, nil, result.Inputf("deploy.traffic.driver: Flagger divides requests with a proxy, and not by the number of pods: set it to gateway, istio or nginx, or deploy.strategy to blue-green")
}

// unlike refuses a route that Flagger would make without something that it has.
func unlike(o *unstructured.Unstructured, what string) error {
	return result.Inputf("deploy.traffic.route: Flagger makes the route anew, and cannot make what %s has: %s: remove it, choose another route, or hand over to %s", Name(o), what, ArgoRollouts)
}

// part is a mapping of a route, and the keys that Flagger makes of it.
type part struct {
	path string
	of   map[string]any
	keys []string
}

// onlyThose refuses a route in which something stands that Flagger would not make.
func onlyThose(o *unstructured.Unstructured, parts []part) error {
	for _, p := range parts {
		if s := strangers(p.of, p.keys...); s != "" {
			return unlike(o, p.path+"."+s)
		}
	}
	return nil
}

// flaggerGateway takes from an HTTPRoute what Flagger makes one of: a single rule, without filters.
func (h *handover) flaggerGateway(o *unstructured.Unstructured, service map[string]any) (port int64, err error) {
	stable, _ := h.divided()
	spec, _ := o.Object["spec"].(map[string]any)
	rules := mappings(o.Object, "spec", "rules")
	if len(rules) != 1 {
		return 0, unlike(o, "several rules")
	}
	rule := rules[0]
	if _, err := h.alone(o, rule, "backendRefs", backend(stable)); err != nil {
		return 0, err
	}
	ref := mappings(rule, "backendRefs")[0]
	timeouts, _ := rule["timeouts"].(map[string]any)
	if err := onlyThose(o, []part{{"spec", spec, []string{"parentRefs", "hostnames", "rules"}}, {"spec.rules[0]", rule, []string{"name", "matches", "backendRefs", "timeouts"}},
		{"spec.rules[0].timeouts", timeouts, []string{"request"}}, {"spec.rules[0].backendRefs[0]", ref, []string{"group", "kind", "name", "port", "weight"}}}); err != nil {
		return 0, err
	}
	var matches []any
	for _, m := range mappings(rule, "matches") {
		like, ok := istioMatch(m)
		if !ok {
			return 0, unlike(o, "such spec.rules[0].matches")
		}
		matches = append(matches, like)
	}
	for k, v := range map[string]any{"gatewayRefs": spec["parentRefs"], "hosts": spec["hostnames"], "timeout": timeouts["request"]} {
		if v != nil {
			service[k] = v
		}
	}
	if service["gatewayRefs"] == nil {
		return 0, result.Inputf("deploy.traffic.route: %s has no spec.parentRefs, and Flagger needs its Gateways: add them", Name(o))
	}
	if len(matches) > 0 {
		service["match"] = matches
	}
	return wholeOf(ref["port"]), nil
}

// istioMatch writes a match of the Gateway API as one of Istio's, which Flagger has for both. Of a path, a header or a parameter, Flagger has one
// value by each name.
func istioMatch(m map[string]any) (map[string]any, bool) {
	if strangers(m, "path", "headers", "queryParams", "method") != "" {
		return nil, false
	}
	kinds := map[string]string{"PathPrefix": "prefix", "Exact": "exact", "RegularExpression": "regex"}
	kind := func(v map[string]any, usual string) (string, bool) {
		k, ok := kinds[cmp.Or(textOf(v["type"]), usual)]
		return k, ok
	}
	out := map[string]any{}
	if p, ok := m["path"].(map[string]any); ok {
		k, ok := kind(p, "PathPrefix")
		if !ok {
			return nil, false
		}
		out["uri"] = map[string]any{k: cmp.Or(textOf(p["value"]), "/")}
	}
	for _, from := range []string{"headers", "queryParams"} {
		named := map[string]any{}
		for _, e := range mappings(m, from) {
			k, ok := kind(e, "Exact")
			name := textOf(e["name"])
			if !ok || name == "" || named[name] != nil {
				return nil, false
			}
			named[name] = map[string]any{k: textOf(e["value"])}
		}
		if len(named) > 0 {
			out[from] = named
		}
	}
	if v, ok := m["method"]; ok {
		out["method"] = map[string]any{"exact": v}
	}
	return out, true
}

// flaggerIstio takes from a VirtualService what Flagger makes one of: a single rule, in Istio's own words.
func (h *handover) flaggerIstio(o *unstructured.Unstructured, service map[string]any) (port int64, err error) {
	stable, _ := h.divided()
	spec, _ := o.Object["spec"].(map[string]any)
	rules := mappings(o.Object, "spec", "http")
	if len(rules) != 1 {
		return 0, unlike(o, "several rules")
	}
	rule := rules[0]
	if _, err := h.alone(o, rule, "route", destination(stable, o.GetNamespace())); err != nil {
		return 0, err
	}
	ref := mappings(rule, "route")[0]
	to, _ := ref["destination"].(map[string]any)
	rewrite, _ := rule["rewrite"].(map[string]any)
	taken := []string{"match", "rewrite", "timeout", "retries", "headers", "corsPolicy"}
	if err := onlyThose(o, []part{{"spec", spec, []string{"hosts", "gateways", "http"}}, {"spec.http[0]", rule, append([]string{"name", "route"}, taken...)},
		{"spec.http[0].rewrite", rewrite, []string{"uri", "authority"}}, {"spec.http[0].route[0]", ref, []string{"destination", "weight"}},
		{"spec.http[0].route[0].destination", to, []string{"host", "port"}}}); err != nil {
		return 0, err
	}
	for _, k := range []string{"hosts", "gateways"} {
		if v, ok := spec[k]; ok {
			service[k] = v
		}
	}
	for _, k := range taken {
		if v, ok := rule[k]; ok {
			service[k] = v
		}
	}
	at, _ := to["port"].(map[string]any)
	return wholeOf(at["number"]), nil
}

// flaggerAnalysis is the ladder without its end, after which Flagger promotes: it measures once in a step, over all of it, and all its steps are as
// long as the longest. One bad answer, or none, ends it: Flagger cannot tell these two apart, and has no patience.
func (h *handover) flaggerAnalysis() (analysis map[string]any, templates []*unstructured.Unstructured, err error) {
	longest := flaggerShortest
	var weights []any
	for _, s := range h.Settings.Steps {
		if s.Weight < allTraffic {
			weights, longest = append(weights, s.Weight), max(longest, s.Hold)
		}
	}
	if len(weights) == 0 {
		return nil, nil, result.Inputf("deploy.steps: Flagger promotes after the last step below %d, and there is none: add one, or set deploy.strategy to blue-green", allTraffic)
	}
	metrics, names, err := h.measured()
	if err != nil {
		return nil, nil, err
	}
	analysis = map[string]any{"interval": span(longest), "threshold": 1, "stepWeights": weights}
	var all []any
	for i, m := range metrics {
		made, entries, err := h.flaggerMetric(names[i], m, span(longest))
		if err != nil {
			return nil, nil, err
		}
		templates, all = append(templates, made...), append(all, entries...)
	}
	if len(all) > 0 {
		analysis["metrics"] = all
	}
	return analysis, templates, nil
}

// flaggerMetric is the templates of a metric, and its entries in the analysis.
func (h *handover) flaggerMetric(name string, m config.Metric, interval string) (templates []*unstructured.Unstructured, entries []any, err error) {
	switch {
	case m.Probe.Path != "":
		return nil, nil, result.Inputf("deploy.analysis.metrics: %s: Flagger sends no requests by itself: remove the metric, measure with Prometheus, or hand over to %s", m.Title(), ArgoRollouts)
	case len(m.Job) > 0:
		return nil, nil, result.Inputf("deploy.analysis.metrics: %s: Flagger runs no Jobs: remove the metric, or hand over to %s", m.Title(), ArgoRollouts)
	case m.DryRun:
		return nil, nil, result.Inputf("deploy.analysis.metrics: %s: with Flagger every metric decides: remove the metric, or its dryRun, or hand over to %s", m.Title(), ArgoRollouts)
	}
	address, err := h.prometheusURL()
	if err != nil {
		return nil, nil, err
	}
	old := side{namespace: "{{ namespace }}", service: "{{ service }}" + primary, deployment: "{{ target }}" + primary, route: "{{ service }}"}
	if h.Settings.Traffic.Driver == config.ByNginx {
		old.route = "{{ ingress }}"
	}
	candidate := old
	candidate.service, candidate.deployment, candidate.canary = "{{ service }}-canary", "{{ target }}", true
	measures, err := h.asked(name, m, candidate, old, "{{ interval }}", true)
	if err != nil {
		return nil, nil, err
	}
	for _, q := range measures {
		ends := map[string]string{"<=": "max", ">=": "min"}
		end, ok := ends[q.limit.Op]
		if !ok {
			return nil, nil, result.Inputf("deploy.analysis.metrics: %s: a range of Flagger's includes its end: write limit: \"%s= %s\"", m.Title(), q.limit.Op, promNumber(q.limit.Value))
		}
		t := h.object(flaggerVersion, "MetricTemplate", h.app.main.GetName()+"-"+q.name,
			map[string]any{"provider": map[string]any{"type": "prometheus", "address": address}, "query": q.query})
		templates = append(templates, t)
		entries = append(entries, map[string]any{"name": t.GetName(), "interval": interval, "templateRef": map[string]any{"name": t.GetName()},
			"thresholdRange": map[string]any{end: q.limit.Value}})
	}
	return templates, entries, nil
}
