package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	argoVersion = "argoproj.io/v1alpha1"
	// argoGateway is the plugin for the Gateway API, by the name that its own documentation gives it.
	argoGateway = "argoproj-labs/gatewayAPI"
	// Arguments of an analysis: a Rollout's own namespace, and the hashes in the names of its two versions' pods.
	argoNamespace = "namespace"
	argoCandidate = "canary-hash"
	argoOld       = "stable-hash"
)

// argoArguments is where an analysis gets its arguments from.
var argoArguments = map[string]map[string]any{
	argoNamespace: {"fieldRef": map[string]any{"fieldPath": "metadata.namespace"}},
	argoCandidate: {"podTemplateHashValue": "Latest"},
	argoOld:       {"podTemplateHashValue": "Stable"},
}

// argo has a Rollout in place of the main Deployment, with a Service for the new version alone. It needs Argo Rollouts 1.8 or newer.
func (h *handover) argo() ([]*unstructured.Unstructured, error) {
	_, beside := h.divided()
	service, err := h.app.besides(unpinned, h.suffix())
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(service.Object, "spec", "selector", SlotLabel) // Argo Rollouts has a label of its own for it
	var strategy map[string]any
	var templates []*unstructured.Unstructured
	if h.Settings.Strategy == config.BlueGreen {
		strategy = map[string]any{"blueGreen": map[string]any{"activeService": h.app.services[0].GetName(), "previewService": beside,
			"autoPromotionEnabled": true, "scaleDownDelaySeconds": h.lasting()}}
	} else {
		var canary map[string]any
		if canary, templates, err = h.argoCanary(); err != nil {
			return nil, err
		}
		strategy = map[string]any{"canary": canary}
	}
	var out []*unstructured.Unstructured
	for _, o := range h.app.objects {
		switch {
		case o == h.app.main:
			out = append(append(out, templates...), h.rollout(strategy))
			continue
		case o == h.app.services[0]:
			out = append(out, o, service)
			continue
		case h.scaler(o):
			for k, v := range map[string]string{"apiVersion": argoVersion, "kind": "Rollout"} {
				if err := unstructured.SetNestedField(o.Object, v, "spec", "scaleTargetRef", k); err != nil {
					return nil, result.Inputf("%s: %w", Name(o), err)
				}
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// lasting is for how long, in seconds, the old version stays after the traffic has left it: ready to be gone back to, and then for slow proxies.
func (h *handover) lasting() int64 {
	return int64((time.Duration(h.Settings.Hold) + time.Duration(h.Settings.Drain)).Seconds())
}

// rollout is the main Deployment as a Rollout. Where it leaves open how long a pod must be ready, or may take, slipway.yaml's word holds; and as
// here, a version that does not come up is taken back.
func (h *handover) rollout(strategy map[string]any) *unstructured.Unstructured {
	deployed, _ := h.app.main.Object["spec"].(map[string]any)
	const ready, deadline = "minReadySeconds", "progressDeadlineSeconds"
	spec := map[string]any{"progressDeadlineAbort": true, "strategy": strategy,
		ready: int64(time.Duration(h.Settings.Settle).Seconds()), deadline: int64(time.Duration(h.Settings.Deadline).Seconds())}
	for _, k := range []string{"replicas", "selector", "template", ready, deadline, "revisionHistoryLimit", "paused"} {
		if v, ok := deployed[k]; ok {
			spec[k] = v
		}
	}
	if wholeOf(spec[deadline]) <= wholeOf(spec[ready]) { // the one that the Deployment has goes before the other
		for _, k := range []string{ready, deadline} {
			if deployed[k] == nil {
				delete(spec, k)
			}
		}
	}
	o := h.object(argoVersion, "Rollout", h.app.main.GetName(), spec)
	o.Object["metadata"] = h.app.main.Object["metadata"]
	return o
}

// argoCanary is the ladder, and the templates of its analysis.
func (h *handover) argoCanary() (canary map[string]any, templates []*unstructured.Unstructured, err error) {
	stable, beside := h.divided()
	canary = map[string]any{"canaryService": beside}
	routing, route, err := h.argoRouting()
	if err != nil {
		return nil, nil, err
	}
	if routing == nil { // by the number of pods: the Service leads to both versions
		surge, _, err := unstructured.NestedMap(h.app.main.Object, "spec", "strategy", "rollingUpdate")
		if err != nil {
			return nil, nil, result.Inputf("%s: %w", Name(h.app.main), err)
		}
		for _, k := range []string{"maxSurge", "maxUnavailable"} {
			if v, ok := surge[k]; ok {
				canary[k] = v
			}
		}
	} else {
		canary["stableService"], canary["scaleDownDelaySeconds"], canary["trafficRouting"] = stable, h.lasting(), routing
	}
	var steps []any
	for i, s := range h.Settings.Steps {
		steps = append(steps, map[string]any{"setWeight": s.Weight})
		if header := h.Settings.Traffic.Header; i == 0 && header != "" && routing["managedRoutes"] != nil {
			step, err := h.argoTesters(header)
			if err != nil {
				return nil, nil, err
			}
			steps = append(steps, step)
		}
		template, arguments, err := h.argoAnalysis(s, route)
		switch {
		case err != nil:
			return nil, nil, err
		case template != nil:
			if !slices.ContainsFunc(templates, func(o *unstructured.Unstructured) bool { return o.GetName() == template.GetName() }) {
				templates = append(templates, template)
			}
			analysis := map[string]any{"templates": []any{map[string]any{"templateName": template.GetName()}}}
			if len(arguments) > 0 {
				analysis["args"] = arguments
			}
			steps = append(steps, map[string]any{"analysis": analysis})
		case s.Hold > 0:
			steps = append(steps, map[string]any{"pause": map[string]any{"duration": span(s.Hold)}})
		}
	}
	canary["steps"] = steps
	return canary, templates, nil
}

// testers is the name of the route that Argo Rollouts makes for the testers' header.
func (h *handover) testers() string { return h.app.main.GetName() + "-testers" }

// argoTesters sends requests with the testers' header to the new version.
func (h *handover) argoTesters(header string) (map[string]any, error) {
	name, value, err := config.ParseHeader(header)
	if err != nil {
		return nil, result.Inputf("deploy.traffic.header: %w", err)
	}
	if h.Settings.Traffic.Driver == config.ByIstio {
		name = strings.ToLower(name) // Istio's header names are written small
	}
	return map[string]any{"setHeaderRoute": map[string]any{"name": h.testers(),
		"match": []any{map[string]any{"headerName": name, "headerValue": map[string]any{"exact": value}}}}}, nil
}

// argoRouting says what divides the requests, and its name; nil when that is the number of pods. Of a route, both versions' Services have to be
// among the destinations already: Argo Rollouts writes nothing but weights.
func (h *handover) argoRouting() (routing map[string]any, route string, err error) {
	t := h.Settings.Traffic
	stable, beside := h.divided()
	routing = map[string]any{}
	if t.Header != "" && t.Driver != config.ByNginx {
		routing["managedRoutes"] = []any{map[string]any{"name": h.testers()}}
	}
	switch t.Driver {
	case config.ByGateway:
		o, err := h.proxied()
		if err != nil {
			return nil, "", err
		}
		for _, rule := range mappings(o.Object, "spec", "rules") {
			leads, err := h.alone(o, rule, "backendRefs", backend(stable))
			if err != nil {
				return nil, "", err
			}
			for _, ref := range mappings(rule, "backendRefs") {
				if leads {
					delete(ref, "weight") // of one alone it says nothing
				} else if ref["name"] == stable {
					return nil, "", result.Inputf("deploy.traffic.route: %s also leads to another %s that is not the Service beside it, and Argo Rollouts knows them by name alone: give it another route", Name(o), stable)
				}
			}
		}
		if err := gatewayDivide(o, split{stable: stable, candidate: beside}, "", ""); err != nil {
			return nil, "", result.Input(err)
		}
		plugin := map[string]any{"httpRoute": o.GetName()}
		if t.Header != "" {
			plugin = map[string]any{"httpRoutes": []any{map[string]any{"name": o.GetName(), "useHeaderRoutes": true}}}
		}
		if ns := h.app.main.GetNamespace(); ns != "" {
			plugin["namespace"] = ns
		}
		routing["plugins"] = map[string]any{argoGateway: plugin}
		return routing, o.GetName(), nil
	case config.ByIstio:
		o, err := h.proxied()
		if err != nil {
			return nil, "", err
		}
		service, err := h.argoIstio(o, stable, beside)
		if err != nil {
			return nil, "", err
		}
		routing["istio"] = map[string]any{"virtualService": service}
		return routing, o.GetName(), nil
	case config.ByNginx:
		o, err := h.balanced()
		if err != nil {
			return nil, "", err
		}
		ingress := map[string]any{"stableIngress": o.GetName()}
		if t.Header != "" {
			name, value, err := config.ParseHeader(t.Header)
			if err != nil {
				return nil, "", result.Inputf("deploy.traffic.header: %w", err)
			}
			ingress["additionalIngressAnnotations"] = map[string]any{"canary-by-header": name, "canary-by-header-value": value}
		}
		routing["nginx"] = ingress
		return routing, o.GetName(), nil
	}
	if t.Header != "" {
		return nil, "", result.Inputf("deploy.traffic.header: it needs a driver that reads requests: set deploy.traffic.driver to gateway, istio or nginx")
	}
	return nil, "", nil
}

// argoIstio divides a VirtualService, and names the rules that lead to the Service when there are others.
func (h *handover) argoIstio(o *unstructured.Unstructured, stable, beside string) (map[string]any, error) {
	spec, _ := o.Object["spec"].(map[string]any)
	for _, k := range []string{"tls", "tcp"} {
		if spec[k] != nil {
			return nil, result.Inputf("deploy.traffic.route: %s has spec.%s, which Argo Rollouts would have to divide, too: move it into a VirtualService of its own", Name(o), k)
		}
	}
	rules := mappings(o.Object, "spec", "http")
	var names []any
	for _, rule := range rules {
		leads, err := h.alone(o, rule, "route", destination(stable, o.GetNamespace()))
		if err != nil {
			return nil, err
		}
		if !leads || len(rules) == 1 {
			continue
		}
		name, _ := rule["name"].(string)
		if name == "" {
			return nil, result.Inputf("deploy.traffic.route: %s has several rules, and Argo Rollouts knows them by name: give those in spec.http that lead to Service %s a name", Name(o), stable)
		}
		names = append(names, name)
	}
	if err := istioDivide(o, split{stable: stable, candidate: beside}, "", ""); err != nil {
		return nil, result.Input(err)
	}
	service := map[string]any{"name": o.GetName()}
	if len(names) > 0 {
		service["routes"] = names
	}
	return service, nil
}

// argoAnalysis is what watches a step: nil when there is nothing to measure. At 100 percent the old version has no traffic to be compared with, and
// only what has a limit of its own is measured.
func (h *handover) argoAnalysis(s config.Step, route string) (template *unstructured.Unstructured, arguments []any, err error) {
	metrics, names, err := h.measured()
	if err != nil {
		return nil, nil, err
	}
	window := max(s.Hold, h.Settings.Analysis.Interval)
	name := h.app.main.GetName() + "-analysis-" + span(window)
	var out, dryRun []any
	for i, m := range metrics {
		var made []any
		switch {
		case m.Probe.Path != "":
			made, err = h.argoProbe(names[i], m, s)
		case len(m.Job) > 0:
			made, err = h.argoJob(names[i], m)
		default:
			if s.Weight == allTraffic && m.Times > 0 {
				name = h.app.main.GetName() + "-analysis-" + span(window) + "-alone"
			}
			made, err = h.argoPrometheus(names[i], m, s, route, span(window))
		}
		if err != nil {
			return nil, nil, err
		}
		for _, one := range made {
			if one, ok := one.(map[string]any); ok && m.DryRun {
				dryRun = append(dryRun, map[string]any{"metricName": one["name"]})
			}
		}
		out = append(out, made...)
	}
	if len(out) == 0 {
		return nil, nil, nil
	}
	spec := map[string]any{"metrics": out}
	if len(dryRun) > 0 {
		spec["dryRun"] = dryRun
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, nil, err
	}
	var declared []any
	for _, k := range []string{argoNamespace, argoCandidate, argoOld} {
		if strings.Contains(string(data), "{{args."+k+"}}") {
			declared = append(declared, map[string]any{"name": k})
			arguments = append(arguments, map[string]any{"name": k, "valueFrom": argoArguments[k]})
		}
	}
	if len(declared) > 0 {
		spec["args"] = declared
	}
	return h.object(argoVersion, "AnalysisTemplate", name, spec), arguments, nil
}

// rounds are how many measurements a step's hold takes, and how many more its patience.
func (h *handover) rounds(s config.Step) (hold, patience int64) {
	interval := int64(h.Settings.Analysis.Interval)
	up := func(d config.Duration) int64 { return (int64(d) + interval - 1) / interval }
	return max(1, up(s.Hold)), up(h.Settings.Analysis.Patience)
}

// argoPrometheus asks at every interval. The step ends well with as many good answers in a row as its hold takes, badly with the first bad one; when
// they do not come within its patience, it is inconclusive, and the Rollout waits for a person.
func (h *handover) argoPrometheus(name string, m config.Metric, s config.Step, route, window string) ([]any, error) {
	address, err := h.prometheusURL()
	if err != nil {
		return nil, err
	}
	stable, beside := h.divided()
	old := side{namespace: "{{args." + argoNamespace + "}}", service: stable, deployment: h.app.main.GetName() + "-{{args." + argoOld + "}}", route: route}
	candidate := old
	candidate.service, candidate.deployment, candidate.canary = beside, h.app.main.GetName()+"-{{args."+argoCandidate+"}}", true
	// Both versions' pods belong to one Rollout: ${deployment} stands for its name with the hash of one of them, after which a pod has one more part.
	for _, q := range []*string{&m.Errors, &m.Total, &m.Query, &m.Count} {
		*q = strings.ReplaceAll(*q, "${deployment}-[a-z0-9]+-[a-z0-9]+", "${deployment}-[a-z0-9]+")
	}
	measures, err := h.asked(name, m, candidate, old, window, s.Weight != allTraffic)
	if err != nil {
		return nil, err
	}
	interval := span(h.Settings.Analysis.Interval)
	hold, patience := h.rounds(s)
	var out []any
	for _, q := range measures {
		const answer = "len(result) == 1 && !isNaN(result[0]) && !isInf(result[0])"
		good := fmt.Sprintf("result[0] %s %s", q.limit.Op, promNumber(q.limit.Value))
		out = append(out, map[string]any{"name": q.name, "interval": interval, "initialDelay": interval,
			"count": hold + patience, "consecutiveSuccessLimit": hold, "failureLimit": 0, "inconclusiveLimit": patience,
			"successCondition": answer + " && " + good, "failureCondition": answer + " && !(" + good + ")",
			"provider": map[string]any{"prometheus": map[string]any{"address": address, "query": q.query}}})
	}
	return out, nil
}

// argoProbe asks the new version's own Service. Argo Rollouts takes any 2xx for good, and anything else for an error.
func (h *handover) argoProbe(name string, m config.Metric, s config.Step) ([]any, error) {
	switch {
	case m.Probe.Status != 0 || m.Probe.Contains != "":
		return nil, result.Inputf("deploy.analysis.metrics: %s: Argo Rollouts asks whether an answer is 2xx, and no more: remove status and contains, or make it a job", m.Title())
	case m.Limit != "<= 0":
		return nil, result.Inputf("deploy.analysis.metrics: %s: Argo Rollouts has no share of failed requests: remove limit, for no failed one at all, or make it a job", m.Title())
	}
	port, err := h.servicePort("", 0)
	if err != nil {
		return nil, err
	}
	_, beside := h.divided()
	interval := span(h.Settings.Analysis.Interval)
	hold, _ := h.rounds(s)
	return []any{map[string]any{"name": name, "interval": interval, "initialDelay": interval, "count": max(hold, int64(m.Samples)), "failureLimit": 0, "consecutiveErrorLimit": 0,
		"provider": map[string]any{"web": map[string]any{"url": fmt.Sprintf("http://%s.{{args.%s}}.svc:%v%s", beside, argoNamespace, port["port"], m.Probe.Path)}}}}, nil
}

// argoJob runs the new version's image once in a step.
func (h *handover) argoJob(name string, m config.Metric) ([]any, error) {
	// The account is among the manifests or in the cluster: the Deployment has it, too. jobManifest would look.
	account, named, err := unstructured.NestedString(h.app.main.Object, "spec", "template", "spec", "serviceAccountName")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(h.app.main), err)
	}
	main := h.app.main.DeepCopy()
	unstructured.RemoveNestedField(main.Object, "spec", "template", "spec", "serviceAccountName")
	d := &deployment{Inputs: h.Inputs, app: &app{main: main}, image: h.image, state: h.state}
	job, err := d.jobManifest(context.Background(), name, m.Job, nil, time.Duration(h.Settings.Deadline))
	if err != nil {
		return nil, err
	}
	unstructured.RemoveNestedField(job.Object, "spec", "template", "metadata")
	if named {
		if err := unstructured.SetNestedField(job.Object, account, "spec", "template", "spec", "serviceAccountName"); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(job.Object["spec"])
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(data), "{{") {
		return nil, result.Inputf("deploy.analysis.metrics: %s: the container's environment has two braces, which begin a variable of Argo Rollouts: take them out, or the job", m.Title())
	}
	return []any{map[string]any{"name": name, "failureLimit": 0, "provider": map[string]any{"job": map[string]any{"spec": job.Object["spec"]}}}}, nil
}
