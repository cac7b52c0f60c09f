package deploy

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object1(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := Parse("test.yaml", []byte(text))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

// sameSpec compares a spec with YAML, numbers by their value.
func sameSpec(t *testing.T, o *unstructured.Unstructured, want string) {
	t.Helper()
	data, err := json.Marshal(o.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, wanted) {
		text, err := yaml.Marshal(got)
		t.Errorf("got\n%s\nwant\n%s (%v)", text, want, err)
	}
}

const httpRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  hostnames: [shop.test]
  rules:
  - matches: [{path: {type: PathPrefix, value: /api}}]
    backendRefs: [{name: shop, port: 80}]
  - backendRefs: [{name: shop, port: 80, weight: 3}, {name: other, port: 80, weight: 1}]
  - backendRefs: [{name: shop, namespace: elsewhere, port: 80}]
`

// TestGatewayDivides: the weights, beside other destinations, and the testers' header before the rule.
func TestGatewayDivides(t *testing.T) {
	o := object1(t, httpRoute)
	if !gatewayLeads(o, "shop") || gatewayLeads(o, "sho") {
		t.Error("gatewayLeads is wrong")
	}
	if err := gatewayDivide(o, split{stable: "shop", candidate: "shop-canary", weight: 25}, "X-Canary", "always"); err != nil {
		t.Fatal(err)
	}
	sameSpec(t, o, `
hostnames: [shop.test]
rules:
- matches: [{path: {type: PathPrefix, value: /api}, headers: [{type: Exact, name: X-Canary, value: always}]}]
  backendRefs: [{name: shop-canary, port: 80}]
- matches: [{path: {type: PathPrefix, value: /api}}]
  backendRefs: [{name: shop, port: 80, weight: 75}, {name: shop-canary, port: 80, weight: 25}]
- matches: [{headers: [{type: Exact, name: X-Canary, value: always}]}]
  backendRefs: [{name: shop-canary, port: 80}]
- backendRefs: [{name: shop, port: 80, weight: 225}, {name: shop-canary, port: 80, weight: 75}, {name: other, port: 80, weight: 100}]
- backendRefs: [{name: shop, namespace: elsewhere, port: 80}]
`)
	if err := gatewayDivide(object1(t, strings.ReplaceAll(httpRoute, "name: shop,", "name: gone,")), split{stable: "shop", candidate: "shop-canary", weight: 5}, "", ""); err == nil {
		t.Error("a route that leads to nothing of ours was divided")
	}
}

// TestSplit: the baseline gets what the canary gets, as long as there is enough.
func TestSplit(t *testing.T) {
	for weight, want := range map[int][3]int{5: {5, 5, 90}, 50: {50, 50, 0}, 80: {80, 20, 0}, 100: {100, 0, 0}} {
		_, shares, left := split{stable: "shop", candidate: "shop-canary", baseline: "shop-baseline", weight: weight}.parts()
		if got := [3]int{shares[0], shares[1], left}; got != want {
			t.Errorf("%d %%: %v, want %v", weight, got, want)
		}
	}
}

func TestGatewayTold(t *testing.T) {
	for name, test := range map[string]struct {
		status string
		want   Event
	}{
		"nobody":       {"{}", ""},
		"taken":        {"{parents: [{conditions: [{type: Accepted, status: 'True', observedGeneration: 3}, {type: ResolvedRefs, status: 'True', observedGeneration: 3}]}]}", OK},
		"the last one": {"{parents: [{conditions: [{type: Accepted, status: 'True', observedGeneration: 2}]}]}", ""},
		"no backend":   {"{parents: [{conditions: [{type: Accepted, status: 'True', observedGeneration: 3}, {type: ResolvedRefs, status: 'False', observedGeneration: 3}]}]}", ""},
		"one of two":   {"{parents: [{conditions: [{type: Accepted, status: 'True', observedGeneration: 3}]}, {conditions: [{type: Accepted, status: 'True', observedGeneration: 1}]}]}", ""},
	} {
		o := object1(t, httpRoute+"status: "+test.status)
		o.SetGeneration(3)
		if got, why := gatewayTold(o); got != test.want || got == "" && why == "" {
			t.Errorf("%s: %q (%s), want %q", name, got, why, test.want)
		}
	}
}

func TestIstioDivides(t *testing.T) {
	const text = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: web}
spec:
  http:
  - match: [{uri: {prefix: /api}}]
    route: [{destination: {host: shop.web.svc.cluster.local, port: {number: 80}}}]
  - route: [{destination: {host: shop}, weight: 60}, {destination: {host: other}, weight: 40}]
  - route: [{destination: {host: shop, subset: v1}}]
`
	o := object1(t, text)
	if !istioLeads(o, "shop") || istioLeads(o, "sho") {
		t.Error("istioLeads is wrong")
	}
	if err := istioDivide(o, split{stable: "shop", candidate: "shop-canary", weight: 25}, "X-Canary", "always"); err != nil {
		t.Fatal(err)
	}
	sameSpec(t, o, `
http:
- match: [{uri: {prefix: /api}, headers: {x-canary: {exact: always}}}]
  route: [{destination: {host: shop-canary.web.svc.cluster.local, port: {number: 80}}}]
- match: [{uri: {prefix: /api}}]
  route: [{destination: {host: shop.web.svc.cluster.local, port: {number: 80}}, weight: 75}, {destination: {host: shop-canary.web.svc.cluster.local, port: {number: 80}}, weight: 25}]
- match: [{headers: {x-canary: {exact: always}}}]
  route: [{destination: {host: shop-canary}}]
- route: [{destination: {host: shop}, weight: 45}, {destination: {host: shop-canary}, weight: 15}, {destination: {host: other}, weight: 40}]
- route: [{destination: {host: shop, subset: v1}}]
`)
}

func TestIngressCanary(t *testing.T) {
	const text = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: web}
spec:
  ingressClassName: nginx
  tls: [{hosts: [shop.test], secretName: cert}]
  rules:
  - host: shop.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {name: http}}}}, {path: /x, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}]}
  - host: other.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}]}
`
	main := object1(t, text)
	if !ingressLeads(main, "shop") || ingressLeads(main, "sho") {
		t.Error("ingressLeads is wrong")
	}
	c, err := ingressCanary(main, "shop", "shop-canary", 5, "X-Canary: always")
	if err != nil {
		t.Fatal(err)
	}
	sameSpec(t, c, `
ingressClassName: nginx
rules:
- host: shop.test
  http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop-canary, port: {name: http}}}}]}
`)
	want := map[string]string{nginx + "canary": "true", nginx + "canary-weight": "5", nginx + "canary-by-header": "X-Canary", nginx + "canary-by-header-value": "always"}
	if got := c.GetAnnotations(); !reflect.DeepEqual(got, want) {
		t.Errorf("annotations %v, want %v", got, want)
	}
	sameSpec(t, main, text[strings.Index(text, "spec:")+len("spec:"):]) // it is another team's, and stays
}
