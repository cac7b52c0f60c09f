package deploy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The controllers that Handover writes for.
const (
	ArgoRollouts = "argo-rollouts"
	Flagger      = "flagger"
)

// allTraffic is the weight of a step at which nothing goes to the old version any more.
const allTraffic = 100

// Controllers are the names that Handover knows.
var Controllers = []string{ArgoRollouts, Flagger}

// Handover makes, of manifests with the image in them, those for a controller that does in the cluster what this package does from outside: the
// strategy, the ladder and the analysis of slipway.yaml in the controller's words. What the controller cannot do is wrong input, with the key of
// slipway.yaml and the way out: a team must not believe that something is checked when nobody checks it. It needs no cluster, and changes no input.
func Handover(to string, objects []*unstructured.Unstructured, image name.Digest, d config.Deploy) ([]*unstructured.Unstructured, error) {
	h := &handover{}
	var write func() ([]*unstructured.Unstructured, error)
	switch to {
	case ArgoRollouts:
		h.controller, write = "Argo Rollouts", h.argo
	case Flagger:
		h.controller, write = "Flagger", h.flagger
	default:
		return nil, result.Inputf("there is no handover to %q: choose %s", to, strings.Join(Controllers, " or "))
	}
	own := make([]*unstructured.Unstructured, 0, len(objects))
	for _, o := range objects {
		own = append(own, o.DeepCopy())
	}
	h.deployment = &deployment{Inputs: Inputs{Settings: d, Cluster: &Cluster{}}, image: image, app: understand(own, image), state: &State{Settings: d, Strategy: d.Strategy}}
	if err := h.possible(); err != nil {
		return nil, err
	}
	return write()
}

// handover is a deployment that somebody else carries out: of the state, only the settings and the strategy are there, and of the cluster nothing.
type handover struct {
	*deployment
	// controller is its name in messages.
	controller string
}

// possible refuses what no controller does.
func (h *handover) possible() error {
	d, a := h.Settings, h.app
	switch {
	case d.Strategy == config.Rolling:
		return result.Inputf("deploy.strategy: rolling is what a Deployment does by itself: set it to canary or blue-green for %s, or hand nothing over", h.controller)
	case len(d.Hooks.Before)+len(d.Hooks.After) > 0:
		// Argo Rollouts could run Jobs as an analysis at the end, but not at a first deployment, and not when somebody promotes it by hand.
		return result.Inputf("deploy.hooks: %s has no Jobs that run once around each deployment: remove them, and run these Jobs where the manifests are applied, as Argo CD's PreSync and PostSync hooks, or a step of the pipeline",
			h.controller)
	case d.Strategy == config.Canary && d.Analysis.Baseline:
		return result.Inputf("deploy.analysis.baseline: %s compares with the pods that run, and starts no others beside them: remove the key", h.controller)
	case a.main == nil:
		return result.Inputf("deploy.strategy: %s is about one Deployment with a Service, and %s: hand over manifests with one, and apply the others by themselves", d.Strategy, a.several)
	case len(a.services) == 0:
		return result.Inputf("deploy.strategy: %s moves traffic, and no Service leads to %s: add one to the manifests", d.Strategy, Name(a.main))
	}
	if s, _, err := unstructured.NestedString(a.main.Object, "spec", "strategy", "type"); err != nil || s == "Recreate" {
		return result.Inputf("deploy.strategy: %s has the old and the new version side by side, and spec.strategy of %s forbids that: remove Recreate there", d.Strategy, Name(a.main))
	}
	return nil
}

// object is a new one beside the main Deployment, with its labels.
func (h *handover) object(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}, "spec": number(spec)}}
	if ns := h.app.main.GetNamespace(); ns != "" {
		o.SetNamespace(ns)
	}
	if labels := h.app.main.GetLabels(); len(labels) > 0 {
		o.SetLabels(labels)
	}
	return o
}

// scaler says whether an object scales the main Deployment: Kubernetes' own, or KEDA's, whose reference needs no kind.
func (h *handover) scaler(o *unstructured.Unstructured) bool {
	if o.GetKind() == "ScaledObject" {
		ref, _, err := unstructured.NestedStringMap(o.Object, "spec", "scaleTargetRef")
		return err == nil && ref["name"] == h.app.main.GetName() && (ref["kind"] == "" || ref["kind"] == "Deployment")
	}
	return o.GetKind() == "HorizontalPodAutoscaler" && h.app.scales(o)
}

// leading finds the object of the manifests that is of kind, and leads to the application's Service; nil when none does.
func (h *handover) leading(kind string, leads func(*unstructured.Unstructured) bool) (*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	var names []string
	for _, o := range h.app.objects {
		named := h.Settings.Traffic.Route == "" || h.Settings.Traffic.Route == o.GetName()
		if o.GetKind() == kind && o.GetNamespace() == h.app.main.GetNamespace() && named && leads(o) {
			found, names = append(found, o), append(names, o.GetName())
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, result.Inputf("deploy.traffic.route: several of %s lead to Service %s: choose one of %s", kind, h.app.services[0].GetName(), strings.Join(names, ", "))
}

// proxied finds the HTTPRoute or VirtualService: the controllers take it over, and so need it among the manifests.
func (h *handover) proxied() (*unstructured.Unstructured, error) {
	r, ok := h.traffic().(*route)
	if !ok {
		return nil, fmt.Errorf("traffic driver %s has no route", h.Settings.Traffic.Driver)
	}
	stable, _ := h.divided()
	o, err := h.leading(r.kind.Kind, func(o *unstructured.Unstructured) bool {
		return o.GroupVersionKind().Group == r.kind.Group && r.leads(o, stable)
	})
	if o == nil && err == nil {
		err = result.Inputf("deploy.traffic.route: no %s among the manifests leads to Service %s, and %s needs it there: add it, or correct the key", r.kind.Kind, stable, h.controller)
	}
	return o, err
}

// balanced finds the Ingress; its name alone when it is not among the manifests.
func (h *handover) balanced() (*unstructured.Unstructured, error) {
	stable, _ := h.divided()
	o, err := h.leading("Ingress", func(o *unstructured.Unstructured) bool {
		found := false
		eachPath(o, func(service map[string]any) { found = found || service["name"] == stable })
		return found && o.GetAnnotations()[nginx+"canary"] != "true"
	})
	switch {
	case o != nil || err != nil:
		return o, err
	case h.Settings.Traffic.Route == "":
		return nil, result.Inputf("deploy.traffic.route: no Ingress among the manifests has a path to Service %s: add one, or name the one in the cluster", stable)
	case slices.ContainsFunc(h.app.objects, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Ingress" && o.GetName() == h.Settings.Traffic.Route
	}):
		return nil, result.Inputf("deploy.traffic.route: Ingress %s has no path to Service %s: correct the key, or the Ingress", h.Settings.Traffic.Route, stable)
	}
	return newIngress(h.app.main.GetNamespace(), h.Settings.Traffic.Route), nil
}

// eachPath is eachBackend without the default one, which both controllers overlook.
func eachPath(o *unstructured.Unstructured, do func(service map[string]any)) {
	o = o.DeepCopy()
	unstructured.RemoveNestedField(o.Object, "spec", "defaultBackend")
	eachBackend(o, do)
}

// alone refuses a route whose rules have the Service among others: the controllers write two weights that are all of a rule's.
func (h *handover) alone(o *unstructured.Unstructured, rule map[string]any, list string, isStable func(map[string]any) bool) (leads bool, err error) {
	refs, _ := rule[list].([]any)
	for _, item := range refs {
		ref, ok := item.(map[string]any)
		leads = leads || ok && isStable(ref)
	}
	if leads && len(refs) > 1 {
		return true, result.Inputf("deploy.traffic.route: a rule of %s leads to Service %s and elsewhere, and %s divides a rule between two versions alone: take the other one out of it",
			Name(o), h.app.services[0].GetName(), h.controller)
	}
	return leads, nil
}

// wholeOf is a number of a manifest's; 0 when it is none.
func wholeOf(v any) int64 {
	n, _ := number(v).(int64)
	return n
}

// textOf is a text of a manifest's; empty when it is none.
func textOf(v any) string {
	s, _ := v.(string)
	return s
}

// strangers are the keys that are not among those known; empty when there are none.
func strangers(m map[string]any, known ...string) string {
	var others []string
	for k := range m {
		if !slices.Contains(known, k) {
			others = append(others, k)
		}
	}
	slices.Sort(others)
	return strings.Join(others, ", ")
}

// mappings are those of a list at path.
func mappings(o map[string]any, path ...string) []map[string]any {
	var out []map[string]any
	_ = each(o, func(entry map[string]any) error {
		out = append(out, entry)
		return nil
	}, path...)
	return out
}

// servicePort is the port of the application's Service with that name or number; without either, the one that is called http, or the first.
func (h *handover) servicePort(name string, number int64) (map[string]any, error) {
	service := h.app.services[0]
	ports := mappings(service.Object, "spec", "ports")
	for _, p := range ports {
		if name != "" && p["name"] == name || number != 0 && wholeOf(p["port"]) == number {
			return p, nil
		}
	}
	switch {
	case name != "" || number != 0:
		return nil, result.Inputf("deploy.traffic.route: it leads to port %s of Service %s, which has no such port: correct the manifests", cmp.Or(name, strconv.FormatInt(number, 10)), service.GetName())
	case len(ports) == 0:
		return nil, result.Inputf("deploy.strategy: %s has no port: add one to the manifests", Name(service))
	}
	for _, p := range ports {
		if p["name"] == "http" {
			return p, nil
		}
	}
	return ports[0], nil
}

// span writes a duration as Go, Prometheus and both controllers read it: they know no days, and Prometheus no fractions.
func span(d config.Duration) string {
	v := time.Duration(d).Round(time.Second)
	if v%(24*time.Hour) == 0 {
		return v.String()
	}
	return config.Duration(v).String()
}

// prometheusURL is where a controller inside the cluster asks.
func (h *handover) prometheusURL() (string, error) {
	address := h.Settings.Analysis.Prometheus
	if address == "" {
		return "", result.Inputf("deploy.analysis.prometheus: a metric asks Prometheus: say where it is, as NAMESPACE/SERVICE:PORT or a URL")
	}
	if strings.Contains(address, "://") {
		return address, nil
	}
	namespace, service, _ := strings.Cut(address, "/")
	service, port, _ := strings.Cut(service, ":")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", result.Inputf("deploy.analysis.prometheus: %s has its port by name, and %s connects to a number: write %s/%s:9090, or whatever number it has", address, h.controller, namespace, service)
	}
	return "http://" + service + "." + namespace + ":" + port, nil
}

// measure is a question to Prometheus whose answer is one number, and what that must be.
type measure struct {
	name   string
	query  string
	limit  config.Limit
	dryRun bool
}

// measured are the metrics of slipway.yaml under names that objects can have.
func (h *handover) measured() (metrics []config.Metric, names []string, err error) {
	metrics = h.metrics()
	for _, m := range metrics {
		for _, text := range append([]string{m.Errors, m.Total, m.Query, m.Count, m.Probe.Path}, m.Job...) {
			if strings.Contains(text, "{{") {
				return nil, nil, result.Inputf("deploy.analysis.metrics: %s: two braces begin a variable of %s: write %q in another way", m.Title(), h.controller, text)
			}
		}
		base := strings.Trim(notName.ReplaceAllString(strings.ToLower(m.Title()), "-"), "-")
		if base == "" {
			base = "metric"
		}
		name := base
		for n := 2; slices.Contains(names, name); n++ {
			name = base + "-" + strconv.Itoa(n)
		}
		names = append(names, name)
	}
	return metrics, names, nil
}

var (
	notName = regexp.MustCompile(`[^a-z0-9]+`)
	// promSelector is a plain one of PromQL, which a range may follow.
	promSelector = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{([^{}"]|"([^"\\]|\\.)*")*\})?$`)
)

// asked makes of a metric what to ask Prometheus: once for its limit, and once for its comparison with the old version, when that has traffic.
// Both controllers have nothing but numbers to decide by, so what this package judges by is in the query: without enough samples, and without a
// baseline, it has no answer, and that is no pass. What they have not is the test against chance: a few errors among few requests count.
func (h *handover) asked(name string, m config.Metric, candidate, old side, window string, compared bool) ([]measure, error) {
	fill := func(s side, promQL string) string { return s.fill(strings.ReplaceAll(promQL, "${window}", window)) }
	step := span(h.Settings.Analysis.Interval)
	var value, times, enough string
	if m.Errors != "" {
		// No errors are no series, and none of these is a 0; no requests at all are none.
		part := func(s side) string {
			return fmt.Sprintf("(sum(%s) or vector(0)) / sum(%s)", grown("rate", fill(s, m.Errors), window, step), grown("rate", fill(s, m.Total), window, step))
		}
		value = part(candidate)
		times = fmt.Sprintf("%s / clamp_min(%s, %s)", value, part(old), promNumber(baselineFloor))
		enough = "sum(" + grown("increase", fill(candidate, m.Total), window, step) + ")"
	} else {
		// A scalar is one number; of several series, or none, it is NaN.
		value = "vector(scalar(" + fill(candidate, m.Query) + "))"
		times = "vector(scalar(" + fill(candidate, m.Query) + ") / scalar(" + fill(old, m.Query) + "))"
		enough = fill(candidate, m.Count)
	}
	if enough == "" && m.Samples > 1 {
		return nil, result.Inputf("deploy.analysis.metrics: %s: it needs %d samples, and does not say how to count them: add count, or remove samples", m.Title(), m.Samples)
	}
	counted := ""
	if enough != "" && m.Samples > 0 {
		counted = fmt.Sprintf(" and on() (%s) >= %d", enough, m.Samples)
	}
	limit, has, err := limitOf(m)
	if err != nil {
		return nil, result.Inputf("deploy.analysis.metrics: %s: %w", m.Title(), err)
	}
	var all []measure
	if has {
		if strings.HasPrefix(limit.Op, ">") {
			value += " < Inf" // a division by nothing is no good value
		}
		all = append(all, measure{name, value + counted, limit, m.DryRun})
	}
	if m.Times > 0 && compared {
		if has {
			name += "-baseline"
		}
		all = append(all, measure{name, times + counted, config.Limit{Op: "<=", Value: m.Times}, m.DryRun})
	}
	return all, nil
}

// grown applies rate or increase to counters: to each selector of several that are joined with or, and over a subquery to anything else.
func grown(function, counters, window, step string) string {
	parts := []string{counters}
	if !promSelector.MatchString(strings.TrimSpace(counters)) {
		parts = strings.Split(counters, " or ")
	}
	for i, p := range parts {
		p = strings.TrimSpace(p)
		if !promSelector.MatchString(p) {
			return fmt.Sprintf("%s((%s)[%s:%s])", function, counters, window, step)
		}
		parts[i] = fmt.Sprintf("%s(%s[%s])", function, p, window)
	}
	return strings.Join(parts, " or ")
}

// promNumber writes a number as PromQL and the controllers' expressions have it.
func promNumber(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
