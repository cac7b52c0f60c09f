package deploy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	handedApp = `apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: web, labels: {app: shop}}
spec:
  replicas: 3
  revisionHistoryLimit: 5
  selector: {matchLabels: {app: shop}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      serviceAccountName: shop
      containers: [{name: shop, image: slipway, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}], readinessProbe: {httpGet: {path: /, port: http}}}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web, labels: {app: shop}, annotations: {note: kept}}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http}, {name: metrics, port: 9090, targetPort: metrics}]}
---
`
	handedScaler = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: shop, namespace: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}, maxReplicas: 5}
---
`
	handedPolicy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shop, namespace: web}
spec:
  podSelector: {matchLabels: {app: shop}}
  ingress: [{from: [{podSelector: {matchLabels: {app: shop, tier: front}}, namespaceSelector: {matchLabels: {app: shop}}}, {podSelector: {matchLabels: {app: proxy}}}]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: shop, namespace: web}
spec: {maxUnavailable: 1, selector: {matchExpressions: [{key: app, operator: In, values: [shop]}]}}
---
`
	handedRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: web}
spec:
  parentRefs: [{name: public, namespace: gateways, sectionName: https}]
  hostnames: [shop.test]
  rules: [{matches: [{path: {type: PathPrefix, value: /api}, headers: [{name: X-Team, value: a}], method: GET}, {path: {value: /x}}], timeouts: {request: 5s}, backendRefs: [{name: shop, port: 80, weight: 7}]}]
---
`
	handedMesh = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: web}
spec:
  hosts: [shop.test]
  gateways: [gateways/public]
  http: [{match: [{uri: {prefix: /api}}], retries: {attempts: 2}, route: [{destination: {host: shop.web.svc.cluster.local, port: {number: 80}}}]}]
---
`
	handedIngress = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front, namespace: web}
spec: {ingressClassName: nginx, rules: [{host: shop.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: http}}}}]}}]}
---
`
)

// handed is a canary with Prometheus, changed.
func handed(change func(d *config.Deploy)) config.Deploy {
	d := config.Default().Deploy
	d.Strategy, d.Traffic.Driver, d.Analysis.Prometheus = config.Canary, config.ByGateway, "monitoring/prometheus:9090"
	d.Steps = []config.Step{{Weight: 10, Hold: config.Duration(time.Minute)}, {Weight: 50, Hold: config.Duration(90 * time.Second)}, {Weight: 100, Hold: config.Duration(time.Minute)}}
	d.Analysis.Patience = config.Duration(2 * time.Minute)
	if change != nil {
		change(&d)
	}
	return d
}

func handOver(t *testing.T, to, manifests string, d config.Deploy) ([]*unstructured.Unstructured, error) {
	t.Helper()
	objects := parse(t, manifests)
	if err := SetImage(objects, image(t)); err != nil {
		t.Fatal(err)
	}
	before, err := Render(objects)
	if err != nil {
		t.Fatal(err)
	}
	out, handErr := Handover(to, objects, image(t), d)
	after, err := Render(objects)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the manifests were changed")
	}
	for _, o := range out {
		o.DeepCopy() // which stops at a number that the Kubernetes libraries do not know
	}
	return out, handErr
}

func mustHandOver(t *testing.T, to, manifests string, d config.Deploy) []*unstructured.Unstructured {
	t.Helper()
	out, err := handOver(t, to, manifests, d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// one is the only object of a kind, and of a name if there is one.
func one(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for _, o := range objects {
		if o.GetKind() == kind && (name == "" || o.GetName() == name) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d of %s %s", len(found), kind, name)
	}
	return found[0]
}

// sameAs compares with YAML, numbers by their value, in which IMAGE is the image.
func sameAs(t *testing.T, got any, want string) {
	t.Helper()
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var have, wanted any
	if err := json.Unmarshal(data, &have); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(want, "IMAGE", image(t).String())), &wanted); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(have, wanted) {
		text, err := yaml.Marshal(have)
		t.Errorf("got\n%s\nwant\n%s (%v)", text, want, err)
	}
}

func field(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	v, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func kinds(objects []*unstructured.Unstructured) string {
	var out []string
	for _, o := range objects {
		out = append(out, o.GetKind()+"/"+o.GetName())
	}
	return strings.Join(out, " ")
}

// TestHandoverArgo: a canary through a Gateway, all of it.
func TestHandoverArgo(t *testing.T) {
	out := mustHandOver(t, ArgoRollouts, handedApp+handedScaler+handedPolicy+handedRoute, handed(func(d *config.Deploy) {
		d.Traffic.Header = "X-Canary: always"
		d.Analysis.Metrics = []config.Metric{{Errors: "failed{s=\"${service}\"}", Total: "all{s=\"${service}\"}", Times: 2, Limit: "<= 0.01", Name: "errors"}}
	}))
	want := "AnalysisTemplate/shop-analysis-1m AnalysisTemplate/shop-analysis-1m30s AnalysisTemplate/shop-analysis-1m-alone Rollout/shop Service/shop Service/shop-canary " +
		"HorizontalPodAutoscaler/shop NetworkPolicy/shop PodDisruptionBudget/shop HTTPRoute/front"
	if got := kinds(out); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	sameAs(t, one(t, out, "Rollout", "").Object, `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop, namespace: web, labels: {app: shop}}
spec:
  replicas: 3
  revisionHistoryLimit: 5
  minReadySeconds: 15
  progressDeadlineSeconds: 300
  progressDeadlineAbort: true
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      serviceAccountName: shop
      containers: [{name: shop, image: IMAGE, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}], readinessProbe: {httpGet: {path: /, port: http}}}]
  strategy:
    canary:
      stableService: shop
      canaryService: shop-canary
      scaleDownDelaySeconds: 40
      trafficRouting:
        managedRoutes: [{name: shop-testers}]
        plugins: {argoproj-labs/gatewayAPI: {httpRoutes: [{name: front, useHeaderRoutes: true}], namespace: web}}
      steps:
      - setWeight: 10
      - setHeaderRoute: {name: shop-testers, match: [{headerName: X-Canary, headerValue: {exact: always}}]}
      - analysis: {templates: [{templateName: shop-analysis-1m}]}
      - setWeight: 50
      - analysis: {templates: [{templateName: shop-analysis-1m30s}]}
      - setWeight: 100
      - analysis: {templates: [{templateName: shop-analysis-1m-alone}]}
`)
	limit := func(rounds, most, window string) string {
		return strings.NewReplacer("ROUNDS", rounds, "MOST", most, "WINDOW", window).Replace(`{name: errors, interval: 10s, initialDelay: 10s, count: MOST, consecutiveSuccessLimit: ROUNDS, failureLimit: 0, inconclusiveLimit: 12,
  successCondition: "len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && result[0] <= 0.01",
  failureCondition: "len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && !(result[0] <= 0.01)",
  provider: {prometheus: {address: "http://prometheus.monitoring:9090",
    query: '(sum(rate(failed{s="shop-canary"}[WINDOW])) or vector(0)) / sum(rate(all{s="shop-canary"}[WINDOW])) and on() (sum(increase(all{s="shop-canary"}[WINDOW]))) >= 20'}}}`)
	}
	baseline := func(rounds, most, window string) string {
		return strings.NewReplacer("ROUNDS", rounds, "MOST", most, "WINDOW", window).Replace(`{name: errors-baseline, interval: 10s, initialDelay: 10s, count: MOST, consecutiveSuccessLimit: ROUNDS, failureLimit: 0, inconclusiveLimit: 12,
  successCondition: "len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && result[0] <= 2",
  failureCondition: "len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && !(result[0] <= 2)",
  provider: {prometheus: {address: "http://prometheus.monitoring:9090",
    query: '(sum(rate(failed{s="shop-canary"}[WINDOW])) or vector(0)) / sum(rate(all{s="shop-canary"}[WINDOW])) / clamp_min((sum(rate(failed{s="shop"}[WINDOW])) or vector(0)) / sum(rate(all{s="shop"}[WINDOW])), 0.005) and on() (sum(increase(all{s="shop-canary"}[WINDOW]))) >= 20'}}}`)
	}
	for name, metrics := range map[string]string{
		"shop-analysis-1m":       "[" + limit("6", "18", "1m") + ", " + baseline("6", "18", "1m") + "]",
		"shop-analysis-1m30s":    "[" + limit("9", "21", "1m30s") + ", " + baseline("9", "21", "1m30s") + "]",
		"shop-analysis-1m-alone": "[" + limit("6", "18", "1m") + "]",
	} {
		sameAs(t, one(t, out, "AnalysisTemplate", name).Object, "apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {name: "+name+", namespace: web, labels: {app: shop}}\nspec: {metrics: "+metrics+"}")
	}
	sameAs(t, one(t, out, "Service", "shop-canary").Object, `{apiVersion: v1, kind: Service, metadata: {name: shop-canary, namespace: web, labels: {app: shop}},
  spec: {type: ClusterIP, selector: {app: shop}, ports: [{name: http, port: 80, targetPort: http}, {name: metrics, port: 9090, targetPort: metrics}]}}`)
	sameAs(t, field(t, one(t, out, "HorizontalPodAutoscaler", ""), "spec", "scaleTargetRef"), "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: shop}")
	sameAs(t, field(t, one(t, out, "HTTPRoute", ""), "spec", "rules"), `[{matches: [{path: {type: PathPrefix, value: /api}, headers: [{name: X-Team, value: a}], method: GET}, {path: {value: /x}}],
  timeouts: {request: 5s}, backendRefs: [{name: shop, port: 80, weight: 100}, {name: shop-canary, port: 80, weight: 0}]}]`)
	sameAs(t, field(t, one(t, out, "NetworkPolicy", ""), "spec", "podSelector"), "{matchLabels: {app: shop}}")
}

// TestHandoverArgoDrivers: what divides the requests, and the presets that go with it.
func TestHandoverArgoDrivers(t *testing.T) {
	steps := func(routing string) string {
		return `, steps: [{setWeight: 10}, ` + routing + `{analysis: {templates: [{templateName: shop-analysis-1m}], args: [ARGS]}},
  {setWeight: 50}, {analysis: {templates: [{templateName: shop-analysis-1m30s}], args: [ARGS]}}, {setWeight: 100}, {pause: {duration: 1m}}]}`
	}
	const namespace = "{name: namespace, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}"
	const hashes = namespace + ", {name: canary-hash, valueFrom: {podTemplateHashValue: Latest}}, {name: stable-hash, valueFrom: {podTemplateHashValue: Stable}}"
	for name, test := range map[string]struct {
		manifests string
		change    func(d *config.Deploy)
		canary    string
		args      string
		route     string
		// query is a part of the first metric's.
		query string
	}{
		"gateway": {handedRoute, nil, `{stableService: shop, canaryService: shop-canary, scaleDownDelaySeconds: 40,
  trafficRouting: {plugins: {argoproj-labs/gatewayAPI: {httpRoute: front, namespace: web}}}` + steps(""), namespace,
			"", `service=~"{{args.namespace}}-shop-canary-([a-z0-9]+-)?[0-9]+@kubernetes.*",code=~"5.."}[1m])`},
		"istio": {handedMesh, func(d *config.Deploy) { d.Traffic.Driver, d.Traffic.Header = config.ByIstio, "X-Canary: always" },
			`{stableService: shop, canaryService: shop-canary, scaleDownDelaySeconds: 40, trafficRouting: {managedRoutes: [{name: shop-testers}], istio: {virtualService: {name: front}}}` +
				steps(`{setHeaderRoute: {name: shop-testers, match: [{headerName: x-canary, headerValue: {exact: always}}]}}, `), namespace,
			`[{match: [{uri: {prefix: /api}}], retries: {attempts: 2}, route: [{destination: {host: shop.web.svc.cluster.local, port: {number: 80}}, weight: 100},
  {destination: {host: shop-canary.web.svc.cluster.local, port: {number: 80}}, weight: 0}]}]`, `destination_service_name="shop-canary"`},
		"istio, several rules": {strings.Replace(handedMesh, "http: [{", "http: [{name: other, route: [{destination: {host: other}}]}, {name: api, ", 1), func(d *config.Deploy) { d.Traffic.Driver = config.ByIstio },
			`{stableService: shop, canaryService: shop-canary, scaleDownDelaySeconds: 40, trafficRouting: {istio: {virtualService: {name: front, routes: [api]}}}` + steps(""), namespace,
			`[{name: other, route: [{destination: {host: other}}]}, {name: api, match: [{uri: {prefix: /api}}], retries: {attempts: 2}, route: [{destination: {host: shop.web.svc.cluster.local, port: {number: 80}}, weight: 100},
  {destination: {host: shop-canary.web.svc.cluster.local, port: {number: 80}}, weight: 0}]}]`, `destination_service_name="shop-canary"`},
		"nginx": {handedIngress, func(d *config.Deploy) { d.Traffic.Driver, d.Traffic.Header = config.ByNginx, "X-Canary: always" },
			`{stableService: shop, canaryService: shop-canary, scaleDownDelaySeconds: 40,
  trafficRouting: {nginx: {stableIngress: front, additionalIngressAnnotations: {canary-by-header: X-Canary, canary-by-header-value: always}}}` + steps(""), namespace,
			"", `ingress="front",canary!="",status=~"5.."}[1m])`},
		"nginx, of another team": {"", func(d *config.Deploy) { d.Traffic.Driver, d.Traffic.Route = config.ByNginx, "theirs" },
			`{stableService: shop, canaryService: shop-canary, scaleDownDelaySeconds: 40, trafficRouting: {nginx: {stableIngress: theirs}}` + steps(""), namespace, "", `ingress="theirs"`},
		"replicas": {"", func(d *config.Deploy) { d.Traffic.Driver = config.ByReplicas }, `{canaryService: shop-canary, maxSurge: 25%, maxUnavailable: 0` + steps(""), hashes,
			"", `pod=~"shop-{{args.canary-hash}}-[a-z0-9]+",code=~"5.."}[1m]) or rate(http_requests_total{namespace="{{args.namespace}}"`},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustHandOver(t, ArgoRollouts, handedApp+test.manifests, handed(test.change))
			sameAs(t, field(t, one(t, out, "Rollout", ""), "spec", "strategy", "canary"), strings.ReplaceAll(test.canary, "ARGS", test.args))
			if test.route != "" {
				sameAs(t, field(t, one(t, out, "VirtualService", ""), "spec", "http"), test.route)
			}
			template := one(t, out, "AnalysisTemplate", "shop-analysis-1m")
			text, err := json.Marshal(field(t, template, "spec", "metrics"))
			if err != nil {
				t.Fatal(err)
			}
			if quoted := strings.ReplaceAll(test.query, `"`, `\"`); !strings.Contains(string(text), quoted) {
				t.Errorf("no %s in %s", test.query, text)
			}
			var declared []string
			for _, a := range mappings(template.Object, "spec", "args") {
				declared = append(declared, textOf(a["name"]))
			}
			if got, want := len(declared), strings.Count(test.args, "{name:"); got != want {
				t.Errorf("arguments %v, want %d", declared, want)
			}
			service := one(t, out, "Service", "shop-canary")
			if selector := field(t, service, "spec", "selector"); !reflect.DeepEqual(selector, map[string]any{"app": "shop"}) {
				t.Errorf("selector %v", selector)
			}
		})
	}
}

// TestHandoverArgoMetrics: every kind of metric.
func TestHandoverArgoMetrics(t *testing.T) {
	out := mustHandOver(t, ArgoRollouts, handedApp+handedRoute, handed(func(d *config.Deploy) {
		d.Analysis.Prometheus = "https://prometheus.test/of/ours"
		d.Steps = []config.Step{{Weight: 10, Hold: config.Duration(20 * time.Second)}, {Weight: 100}}
		d.Analysis.Metrics = []config.Metric{
			{Preset: "latency", Source: "istio", Limit: "<= 0.5"},
			{Name: "Orders/s", Query: `sum(rate(orders{pod=~"${deployment}-.*"}[${window}]))`, Limit: "> 3"},
			{Name: "orders s", Query: "x", Times: 1.5, Count: "c", Samples: 7, DryRun: true},
			{Probe: config.Request{Path: "/healthz?deep=1"}},
			{Job: []string{"/shop", "-check"}, DryRun: true},
		}
	}))
	sameAs(t, field(t, one(t, out, "AnalysisTemplate", "shop-analysis-20s"), "spec"), `
args: [{name: namespace}, {name: canary-hash}]
dryRun: [{metricName: orders-s-2}, {metricName: job}]
metrics:
- name: latency
  interval: 10s
  initialDelay: 10s
  count: 14
  consecutiveSuccessLimit: 2
  failureLimit: 0
  inconclusiveLimit: 12
  successCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && result[0] <= 0.5
  failureCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && !(result[0] <= 0.5)
  provider: {prometheus: {address: "https://prometheus.test/of/ours", query: 'vector(scalar(histogram_quantile(0.95, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_service_namespace="{{args.namespace}}",destination_service_name="shop-canary"}[20s]))) / 1000)) and on() (sum(increase(istio_request_duration_milliseconds_count{reporter="destination",destination_service_namespace="{{args.namespace}}",destination_service_name="shop-canary"}[20s]))) >= 20'}}
- name: orders-s
  interval: 10s
  initialDelay: 10s
  count: 14
  consecutiveSuccessLimit: 2
  failureLimit: 0
  inconclusiveLimit: 12
  successCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && result[0] > 3
  failureCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && !(result[0] > 3)
  provider: {prometheus: {address: "https://prometheus.test/of/ours", query: 'vector(scalar(sum(rate(orders{pod=~"shop-{{args.canary-hash}}-.*"}[20s])))) < Inf'}}
- name: orders-s-2
  interval: 10s
  initialDelay: 10s
  count: 14
  consecutiveSuccessLimit: 2
  failureLimit: 0
  inconclusiveLimit: 12
  successCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && result[0] <= 1.5
  failureCondition: len(result) == 1 && !isNaN(result[0]) && !isInf(result[0]) && !(result[0] <= 1.5)
  provider: {prometheus: {address: "https://prometheus.test/of/ours", query: vector(scalar(x) / scalar(x)) and on() (c) >= 7}}
- name: probe-healthz-deep-1
  interval: 10s
  initialDelay: 10s
  count: 3
  failureLimit: 0
  consecutiveErrorLimit: 0
  provider: {web: {url: "http://shop-canary.{{args.namespace}}.svc:80/healthz?deep=1"}}
- name: job
  failureLimit: 0
  provider:
    job:
      spec:
        backoffLimit: 0
        activeDeadlineSeconds: 300
        ttlSecondsAfterFinished: 3600
        template: {spec: {restartPolicy: Never, serviceAccountName: shop, containers: [{name: shop, image: IMAGE, command: [/shop, -check]}]}}
`)
	// At the end, without an own hold, it is measured once, and not compared.
	var names []string
	for _, m := range mappings(one(t, out, "AnalysisTemplate", "shop-analysis-10s-alone").Object, "spec", "metrics") {
		names = append(names, textOf(m["name"]))
	}
	if want := []string{"latency", "orders-s", "probe-healthz-deep-1", "job"}; !slices.Equal(names, want) {
		t.Errorf("at 100 %%: %v, want %v", names, want)
	}
}

// TestHandoverWithoutPrometheus: nothing to measure is a ladder in time.
func TestHandoverWithoutPrometheus(t *testing.T) {
	d := handed(func(d *config.Deploy) { d.Analysis.Prometheus = "" })
	out := mustHandOver(t, ArgoRollouts, handedApp+handedRoute, d)
	sameAs(t, field(t, one(t, out, "Rollout", ""), "spec", "strategy", "canary", "steps"),
		"[{setWeight: 10}, {pause: {duration: 1m}}, {setWeight: 50}, {pause: {duration: 1m30s}}, {setWeight: 100}, {pause: {duration: 1m}}]")
	if strings.Contains(kinds(out), "AnalysisTemplate") {
		t.Error(kinds(out))
	}
	out = mustHandOver(t, Flagger, handedApp+handedRoute, d)
	sameAs(t, field(t, one(t, out, "Canary", ""), "spec", "analysis"), "{interval: 1m30s, threshold: 1, stepWeights: [10, 50]}")
}

// TestHandoverBlueGreen: neither has a ladder or an analysis, and the route stays as it is.
func TestHandoverBlueGreen(t *testing.T) {
	d := handed(func(d *config.Deploy) {
		d.Strategy, d.Settle = config.BlueGreen, config.Duration(20*time.Second)
		d.Hold, d.Drain = config.Duration(time.Minute), config.Duration(15*time.Second)
	})
	out := mustHandOver(t, ArgoRollouts, handedApp+handedRoute, d)
	if got, want := kinds(out), "Rollout/shop Service/shop Service/shop-preview HTTPRoute/front"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sameAs(t, field(t, one(t, out, "Rollout", ""), "spec", "strategy"), "{blueGreen: {activeService: shop, previewService: shop-preview, autoPromotionEnabled: true, scaleDownDelaySeconds: 75}}")

	out = mustHandOver(t, Flagger, handedApp+handedRoute, d)
	if got, want := kinds(out), "Deployment/shop HTTPRoute/front Canary/shop"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	canary := one(t, out, "Canary", "")
	sameAs(t, field(t, canary, "spec", "analysis"), "{interval: 20s, iterations: 1, threshold: 1}")
	sameAs(t, field(t, canary, "spec", "provider"), "kubernetes")
	sameAs(t, field(t, canary, "spec", "service"),
		"{port: 80, portName: http, targetPort: http, portDiscovery: true, apex: {labels: {app: shop}, annotations: {note: kept}}}")
}

// TestHandoverArgoReadiness: what the Deployment says about readiness stays, and what slipway.yaml adds does not contradict it.
func TestHandoverArgoReadiness(t *testing.T) {
	for add, want := range map[string]string{
		"minReadySeconds: 5, progressDeadlineSeconds: 60": "[5, 60]", "progressDeadlineSeconds: 10": "[null, 10]", "minReadySeconds: 400": "[400, null]", "paused: false": "[15, 300]",
	} {
		out := mustHandOver(t, ArgoRollouts, strings.Replace(handedApp, "spec:\n", "spec:\n  "+strings.ReplaceAll(add, ", ", "\n  ")+"\n", 1)+handedRoute, handed(nil))
		o := one(t, out, "Rollout", "")
		sameAs(t, []any{field(t, o, "spec", "minReadySeconds"), field(t, o, "spec", "progressDeadlineSeconds")}, want)
	}
}

// TestHandoverFlagger: a canary through a Gateway, all of it.
func TestHandoverFlagger(t *testing.T) {
	out := mustHandOver(t, Flagger, handedApp+handedScaler+handedPolicy+handedRoute, handed(func(d *config.Deploy) {
		d.Analysis.Metrics = []config.Metric{{Errors: "failed{s=\"${service}\"}", Total: "all{s=\"${service}\"}", Times: 2, Limit: "<= 0.01", Name: "errors"},
			{Query: `min(g{n="${namespace}",d="${deployment}",r="${route}"}[${window}])`, Limit: ">= 0.5", Name: "g"}}
	}))
	if got, want := kinds(out), "Deployment/shop HorizontalPodAutoscaler/shop NetworkPolicy/shop PodDisruptionBudget/shop MetricTemplate/shop-errors MetricTemplate/shop-errors-baseline MetricTemplate/shop-g Canary/shop"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	sameAs(t, one(t, out, "Canary", "").Object, `
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: shop, namespace: web, labels: {app: shop}}
spec:
  provider: gatewayapi:v1
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}
  autoscalerRef: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: shop}
  progressDeadlineSeconds: 300
  service:
    port: 80
    portName: http
    targetPort: http
    portDiscovery: true
    apex: {labels: {app: shop}, annotations: {note: kept}}
    gatewayRefs: [{name: public, namespace: gateways, sectionName: https}]
    hosts: [shop.test]
    timeout: 5s
    match: [{uri: {prefix: /api}, headers: {X-Team: {exact: a}}, method: {exact: GET}}, {uri: {prefix: /x}}]
  analysis:
    interval: 1m30s
    threshold: 1
    stepWeights: [10, 50]
    metrics:
    - {name: shop-errors, interval: 1m30s, templateRef: {name: shop-errors}, thresholdRange: {max: 0.01}}
    - {name: shop-errors-baseline, interval: 1m30s, templateRef: {name: shop-errors-baseline}, thresholdRange: {max: 2}}
    - {name: shop-g, interval: 1m30s, templateRef: {name: shop-g}, thresholdRange: {min: 0.5}}
`)
	const share = `(sum(rate(failed{s="{{ service }}-canary"}[{{ interval }}])) or vector(0)) / sum(rate(all{s="{{ service }}-canary"}[{{ interval }}]))`
	const enough = ` and on() (sum(increase(all{s="{{ service }}-canary"}[{{ interval }}]))) >= 20`
	for name, query := range map[string]string{
		"shop-errors":          share + enough,
		"shop-errors-baseline": share + ` / clamp_min(` + strings.ReplaceAll(share, "-canary", "-primary") + `, 0.005)` + enough,
		"shop-g":               `vector(scalar(min(g{n="{{ namespace }}",d="{{ target }}",r="{{ service }}"}[{{ interval }}]))) < Inf`,
	} {
		sameAs(t, one(t, out, "MetricTemplate", name).Object, "apiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: {name: "+name+", namespace: web, labels: {app: shop}}\nspec: {provider: {type: prometheus, address: 'http://prometheus.monitoring:9090'}, query: '"+query+"'}")
	}
	// Flagger's copy has pods of another name, which have to be protected as well.
	sameAs(t, field(t, one(t, out, "NetworkPolicy", ""), "spec"), `
podSelector: {matchExpressions: [{key: app, operator: In, values: [shop, shop-primary]}]}
ingress: [{from: [{podSelector: {matchLabels: {tier: front}, matchExpressions: [{key: app, operator: In, values: [shop, shop-primary]}]}, namespaceSelector: {matchLabels: {app: shop}}}, {podSelector: {matchLabels: {app: proxy}}}]}]
`)
	sameAs(t, field(t, one(t, out, "PodDisruptionBudget", ""), "spec"), "{maxUnavailable: 1, selector: {matchExpressions: [{key: app, operator: In, values: [shop, shop-primary]}]}}")
	sameAs(t, field(t, one(t, out, "Deployment", ""), "spec", "template", "spec", "containers"),
		"[{name: shop, image: IMAGE, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}], readinessProbe: {httpGet: {path: /, port: http}}}]")
}

// TestHandoverKEDA: another way to scale, whose reference needs no kind.
func TestHandoverKEDA(t *testing.T) {
	const keda = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: shop, namespace: web}\nspec: {scaleTargetRef: {name: shop}, maxReplicaCount: 5}\n"
	out := mustHandOver(t, ArgoRollouts, handedApp+handedRoute+keda, handed(nil))
	sameAs(t, field(t, one(t, out, "ScaledObject", ""), "spec", "scaleTargetRef"), "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: shop}")
	out = mustHandOver(t, Flagger, handedApp+handedRoute+keda, handed(nil))
	sameAs(t, field(t, one(t, out, "Canary", ""), "spec", "autoscalerRef"), "{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: shop}")
	sameAs(t, field(t, one(t, out, "ScaledObject", ""), "spec", "scaleTargetRef"), "{name: shop}")
}

// TestHandoverFlaggerDrivers: what divides the requests, and the presets that go with it.
func TestHandoverFlaggerDrivers(t *testing.T) {
	const apex = "apex: {labels: {app: shop}, annotations: {note: kept}}"
	for name, test := range map[string]struct {
		manifests                      string
		change                         func(d *config.Deploy)
		provider, ingress, made, query string
	}{
		"gateway": {handedApp + strings.Replace(handedRoute, "matches: [{path: {type: PathPrefix, value: /api}, headers: [{name: X-Team, value: a}], method: GET}, {path: {value: /x}}], timeouts: {request: 5s}, ", "", 1), nil,
			"gatewayapi:v1", "null", "{port: 80, portName: http, targetPort: http, portDiscovery: true, gatewayRefs: [{name: public, namespace: gateways, sectionName: https}], hosts: [shop.test], " + apex + "}",
			`service=~"{{ namespace }}-{{ service }}-canary-([a-z0-9]+-)?[0-9]+@kubernetes.*",code=~"5.."}[{{ interval }}]`},
		"istio": {handedApp + handedMesh, func(d *config.Deploy) { d.Traffic.Driver = config.ByIstio },
			"istio", "null", "{port: 80, portName: http, targetPort: http, portDiscovery: true, hosts: [shop.test], gateways: [gateways/public], match: [{uri: {prefix: /api}}], retries: {attempts: 2}, " + apex + "}",
			`destination_service_namespace="{{ namespace }}",destination_service_name="{{ service }}-primary"`},
		"nginx": {handedApp + handedIngress, func(d *config.Deploy) { d.Traffic.Driver = config.ByNginx },
			"nginx", "{apiVersion: networking.k8s.io/v1, kind: Ingress, name: front}", "{port: 80, portName: http, targetPort: http, portDiscovery: true, " + apex + "}",
			`ingress="{{ ingress }}",canary!=""`},
		"another Service, and the port that the route leads to": {strings.NewReplacer("kind: Service\nmetadata: {name: shop, namespace: web, labels: {app: shop}, annotations: {note: kept}}\nspec: {", "kind: Service\nmetadata: {name: front, namespace: web}\nspec: {clusterIP: None, ",
			"port: 80, targetPort: http}, {", "port: 8080}, {", "name: shop, port: 80, weight: 7", "name: front, port: 9090").Replace(handedApp + handedRoute), func(d *config.Deploy) { d.Traffic.Driver = config.ByGateway },
			"gatewayapi:v1", "null", "{name: front, headless: true, port: 9090, portName: metrics, targetPort: metrics, portDiscovery: true, gatewayRefs: [{name: public, namespace: gateways, sectionName: https}], hosts: [shop.test], timeout: 5s, " +
				"match: [{uri: {prefix: /api}, headers: {X-Team: {exact: a}}, method: {exact: GET}}, {uri: {prefix: /x}}]}", `{{ service }}-primary`},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustHandOver(t, Flagger, test.manifests, handed(test.change))
			canary := one(t, out, "Canary", "")
			sameAs(t, field(t, canary, "spec", "provider"), test.provider)
			sameAs(t, field(t, canary, "spec", "ingressRef"), test.ingress)
			sameAs(t, field(t, canary, "spec", "service"), test.made)
			if query := textOf(field(t, one(t, out, "MetricTemplate", "shop-errors"), "spec", "query")); !strings.Contains(query, test.query) {
				t.Errorf("no %s in %s", test.query, query)
			}
			for _, o := range out {
				if slices.Contains([]string{"Service", "HTTPRoute", "VirtualService"}, o.GetKind()) {
					t.Errorf("%s is there, and Flagger makes it", Name(o))
				}
			}
		})
	}
}

// TestHandoverRefuses: what cannot be said in a controller's words is wrong input, by its key.
func TestHandoverRefuses(t *testing.T) {
	metric := func(m config.Metric) func(*config.Deploy) {
		return func(d *config.Deploy) { d.Analysis.Metrics = []config.Metric{m} }
	}
	driver := func(name string) func(*config.Deploy) {
		return func(d *config.Deploy) { d.Traffic.Driver = name }
	}
	in := func(text, old, replacement string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("no %q in the manifests", old)
		}
		return strings.Replace(text, old, replacement, 1)
	}
	all := handedApp + handedRoute
	for name, test := range map[string]struct {
		to, manifests string
		change        func(*config.Deploy)
		want          []string
	}{
		"another controller":  {"spinnaker", all, nil, []string{`"spinnaker"`, "argo-rollouts or flagger"}},
		"rolling":             {ArgoRollouts, all, func(d *config.Deploy) { d.Strategy = config.Rolling }, []string{"deploy.strategy", "a Deployment does by itself", "Argo Rollouts"}},
		"rolling, Flagger":    {Flagger, all, func(d *config.Deploy) { d.Strategy = config.Rolling }, []string{"deploy.strategy", "Flagger"}},
		"hooks before":        {ArgoRollouts, all, func(d *config.Deploy) { d.Hooks.Before = []config.Hook{{Name: "a", Args: []string{"b"}}} }, []string{"deploy.hooks", "PreSync"}},
		"hooks after":         {Flagger, all, func(d *config.Deploy) { d.Hooks.After = []config.Hook{{Name: "a", Args: []string{"b"}}} }, []string{"deploy.hooks", "Flagger"}},
		"a young baseline":    {ArgoRollouts, all, func(d *config.Deploy) { d.Analysis.Baseline = true }, []string{"deploy.analysis.baseline"}},
		"several Deployments": {ArgoRollouts, all + strings.NewReplacer("name: shop", "name: other", "app: shop", "app: other").Replace(handedApp), nil, []string{"deploy.strategy", "several Deployments", "shop, other"}},
		"no Deployment":       {Flagger, handedRoute + "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s, namespace: web}\nspec: {template: {spec: {containers: [{name: c, image: slipway}]}}}\n", nil, []string{"deploy.strategy", "no Deployment"}},
		"no Service":          {ArgoRollouts, in(handedApp, "spec: {selector: {app: shop}", "spec: {selector: {app: other}") + handedRoute, nil, []string{"deploy.strategy", "no Service leads to Deployment web/shop"}},
		"recreate":            {ArgoRollouts, in(all, "type: RollingUpdate", "type: Recreate"), nil, []string{"deploy.strategy", "Recreate"}},
		"no route":            {ArgoRollouts, handedApp, nil, []string{"deploy.traffic.route", "no HTTPRoute", "add it"}},
		"the named route":     {Flagger, all, func(d *config.Deploy) { d.Traffic.Route = "gone" }, []string{"deploy.traffic.route", "correct the key"}},
		"several routes":      {ArgoRollouts, all + in(handedRoute, "name: front", "name: back"), nil, []string{"deploy.traffic.route", "front, back"}},
		"no Ingress":          {ArgoRollouts, all, driver(config.ByNginx), []string{"deploy.traffic.route", "no Ingress"}},
		"an Ingress's default backend": {Flagger, handedApp + "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: front, namespace: web}\nspec: {defaultBackend: {service: {name: shop, port: {number: 80}}}}\n",
			func(d *config.Deploy) { d.Traffic.Driver, d.Traffic.Route = config.ByNginx, "front" }, []string{"deploy.traffic.route", "no path to Service shop"}},
		"a rule with another backend":  {ArgoRollouts, in(all, "weight: 7}", "weight: 7}, {name: other, port: 80}"), nil, []string{"deploy.traffic.route", "elsewhere"}},
		"another Service of that name": {ArgoRollouts, in(all, "rules: [", "rules: [{backendRefs: [{name: shop, namespace: other, port: 80}]}, "), nil, []string{"deploy.traffic.route", "by name alone"}},
		"TCP":                          {ArgoRollouts, handedApp + in(handedMesh, "  http:", "  tcp: [{route: [{destination: {host: shop}}]}]\n  http:"), driver(config.ByIstio), []string{"deploy.traffic.route", "spec.tcp"}},
		"rules without names":          {ArgoRollouts, handedApp + in(handedMesh, "http: [{", "http: [{route: [{destination: {host: other}}]}, {"), driver(config.ByIstio), []string{"deploy.traffic.route", "a name"}},
		"a header by replicas":         {ArgoRollouts, handedApp, func(d *config.Deploy) { d.Traffic.Driver, d.Traffic.Header = config.ByReplicas, "A: b" }, []string{"deploy.traffic.header"}},
		"a named port":                 {ArgoRollouts, all, func(d *config.Deploy) { d.Analysis.Prometheus = "monitoring/prometheus:web" }, []string{"deploy.analysis.prometheus", "monitoring/prometheus:9090"}},
		"a named port, Flagger":        {Flagger, all, func(d *config.Deploy) { d.Analysis.Prometheus = "monitoring/prometheus:web" }, []string{"deploy.analysis.prometheus", "number"}},
		"no Prometheus":                {ArgoRollouts, all, func(d *config.Deploy) { d.Analysis.Prometheus = ""; metric(config.Metric{Preset: "errors"})(d) }, []string{"deploy.analysis.prometheus"}},
		"a variable of its own":        {ArgoRollouts, all, metric(config.Metric{Name: "q", Query: "x{a=\"{{args.b}}\"}", Limit: "< 1"}), []string{"deploy.analysis.metrics", "q", "two braces"}},
		"braces in the environment":    {ArgoRollouts, in(all, "image: slipway,", "image: slipway, env: [{name: A, value: '{{b}}'}],"), metric(config.Metric{Job: []string{"a"}}), []string{"deploy.analysis.metrics", "job", "two braces"}},
		"samples that nobody counts":   {Flagger, all, metric(config.Metric{Name: "q", Query: "x", Limit: "<= 1", Samples: 9}), []string{"deploy.analysis.metrics", "q", "add count"}},
		"a probe's status":             {ArgoRollouts, all, metric(config.Metric{Probe: config.Request{Path: "/a", Status: 204}}), []string{"deploy.analysis.metrics", "probe /a", "2xx"}},
		"a probe's body":               {ArgoRollouts, all, metric(config.Metric{Probe: config.Request{Path: "/a", Contains: "ok"}}), []string{"deploy.analysis.metrics", "contains"}},
		"a probe's share":              {ArgoRollouts, all, metric(config.Metric{Probe: config.Request{Path: "/a"}, Limit: "<= 0.1"}), []string{"deploy.analysis.metrics", "remove limit"}},
		"a probe":                      {Flagger, all, metric(config.Metric{Probe: config.Request{Path: "/a"}}), []string{"deploy.analysis.metrics", "probe /a", "argo-rollouts"}},
		"a job":                        {Flagger, all, metric(config.Metric{Name: "orders", Job: []string{"a"}}), []string{"deploy.analysis.metrics", "orders", "Jobs"}},
		"a dry run":                    {Flagger, all, metric(config.Metric{Preset: "errors", DryRun: true}), []string{"deploy.analysis.metrics", "errors", "dryRun"}},
		"an open range":                {Flagger, all, metric(config.Metric{Preset: "latency", Limit: "< 0.5"}), []string{"deploy.analysis.metrics", "latency", `write limit: "<= 0.5"`}},
		"a header with weights":        {Flagger, all, func(d *config.Deploy) { d.Traffic.Header = "A: b" }, []string{"deploy.traffic.header", "Flagger"}},
		"by replicas":                  {Flagger, handedApp, driver(config.ByReplicas), []string{"deploy.traffic.driver", "blue-green"}},
		"no step":                      {Flagger, all, func(d *config.Deploy) { d.Steps = []config.Step{{Weight: 100}} }, []string{"deploy.steps", "below 100"}},
		"no label":                     {Flagger, strings.ReplaceAll(all, "app: shop", "component: shop"), nil, []string{"deploy.strategy", "app, name, app.kubernetes.io/name"}},
		"two Services":                 {Flagger, all + "apiVersion: v1\nkind: Service\nmetadata: {name: admin, namespace: web}\nspec: {selector: {app: shop}, ports: [{port: 1}]}\n", nil, []string{"deploy.strategy", "Service web/admin"}},
		"two scalers":                  {Flagger, all + handedScaler + in(handedScaler, "name: shop,", "name: more,"), nil, []string{"deploy.strategy", "HorizontalPodAutoscaler web/more"}},
		"a load balancer":              {Flagger, in(all, "spec: {selector: {app: shop}", "spec: {type: LoadBalancer, selector: {app: shop}"), nil, []string{"deploy.strategy", "spec.type"}},
		"a Service's field":            {Flagger, in(all, "spec: {selector: {app: shop}", "spec: {externalIPs: [], selector: {app: shop}"), nil, []string{"deploy.strategy", "spec.externalIPs"}},
		"UDP":                          {Flagger, in(all, "port: 80, targetPort: http", "port: 80, targetPort: http, protocol: UDP"), nil, []string{"deploy.strategy", "TCP"}},
		"a port that is not found":     {Flagger, in(all, "port: 9090, targetPort: metrics", "port: 90, targetPort: metrics"), nil, []string{"deploy.strategy", "several ports"}},
		"a port that is not there":     {Flagger, in(all, "name: shop, port: 80, weight", "name: shop, port: 81, weight"), nil, []string{"deploy.traffic.route", "port 81"}},
		"several rules":                {Flagger, in(all, "rules: [", "rules: [{backendRefs: [{name: other, port: 80}]}, "), nil, []string{"deploy.traffic.route", "several rules"}},
		"a filter":                     {Flagger, in(all, "rules: [{", "rules: [{filters: [{type: RequestMirror}], "), nil, []string{"deploy.traffic.route", "spec.rules[0].filters"}},
		"a match":                      {Flagger, in(all, "{name: X-Team, value: a}", "{name: X-Team, value: a}, {name: X-Team, value: b}"), nil, []string{"deploy.traffic.route", "matches"}},
		"no gateway":                   {Flagger, in(all, "  parentRefs: [{name: public, namespace: gateways, sectionName: https}]\n", ""), nil, []string{"deploy.traffic.route", "parentRefs"}},
		"a fault":                      {Flagger, handedApp + in(handedMesh, "http: [{", "http: [{fault: {}, "), driver(config.ByIstio), []string{"deploy.traffic.route", "spec.http[0].fault"}},
		"a subset beside":              {Flagger, handedApp + in(handedMesh, "route: [{destination", "route: [{headers: {}, destination"), driver(config.ByIstio), []string{"deploy.traffic.route", "spec.http[0].route[0].headers"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handOver(t, test.to, test.manifests, handed(test.change))
			if err == nil || !result.IsInput(err) {
				t.Fatalf("%v: want wrong input with %q", err, test.want)
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: want %q in it", err, w)
				}
			}
		})
	}
}

// TestHandoverDefaults: the manifests that Slipway makes itself go to both.
func TestHandoverDefaults(t *testing.T) {
	objects, err := Defaults{Name: "shop", Image: image(t), Port: 8080, Health: "/healthz", Replicas: 2, MaxReplicas: 4}.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	d := handed(func(d *config.Deploy) { d.Strategy = config.BlueGreen })
	for to, want := range map[string]string{ArgoRollouts: "Rollout", Flagger: "Canary"} {
		out, err := Handover(to, objects, image(t), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Render(out); err != nil {
			t.Error(err)
		}
		if o := one(t, out, want, ""); o.GetNamespace() != "" || o.GetName() != "shop" {
			t.Errorf("%s in %q", Name(o), o.GetNamespace())
		}
	}
}

// TestGrown: a range follows a selector, and nothing else.
func TestGrown(t *testing.T) {
	for counters, want := range map[string]string{
		`a`:                          `rate(a[1m])`,
		`a:b_total{c="}",d=~"x\"y"}`: `rate(a:b_total{c="}",d=~"x\"y"}[1m])`,
		`a{b="1"} or c{d="2"}`:       `rate(a{b="1"}[1m]) or rate(c{d="2"}[1m])`,
		`a{b="x or y"}`:              `rate(a{b="x or y"}[1m])`,
		`sum by (x) (a)`:             `rate((sum by (x) (a))[1m:10s])`,
		`a + b or c`:                 `rate((a + b or c)[1m:10s])`,
	} {
		if got := grown("rate", counters, "1m", "10s"); got != want {
			t.Errorf("%s: %s, want %s", counters, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", 0: "0s", time.Hour: "1h", 48 * time.Hour: "48h0m0s", 1500 * time.Millisecond: "2s", 10 * time.Minute: "10m"} {
		if got := span(config.Duration(d)); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
