package deploy

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const appManifests = `apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: shop}}
  template: {metadata: {labels: {app: shop, tier: front}}, spec: {containers: [{name: c, image: slipway}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker, namespace: web}
spec:
  selector: {matchLabels: {app: worker}}
  template: {metadata: {labels: {app: worker}}, spec: {containers: [{name: c, image: slipway}]}}
---
apiVersion: v1
kind: Service
metadata: {name: shop-admin, namespace: web}
spec: {selector: {app: shop, tier: front}, ports: [{port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web}
spec: {type: NodePort, clusterIP: 10.0.0.9, selector: {app: shop}, ports: [{name: http, port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: database, namespace: web}
spec: {selector: {app: database}, ports: [{port: 5432}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: shop, namespace: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}, maxReplicas: 5}
`

func understood(t *testing.T) *app {
	t.Helper()
	objects, err := Parse("app.yaml", []byte(appManifests))
	if err != nil {
		t.Fatal(err)
	}
	image, err := name.NewDigest("registry.example.com/shop@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := SetImage(objects, image); err != nil {
		t.Fatal(err)
	}
	return understand(objects, image)
}

func text(t *testing.T, o *unstructured.Unstructured, path ...string) string {
	t.Helper()
	s, _, err := unstructured.NestedString(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlace: the Deployment, its autoscaler and its Services go to a slot; what is not theirs stays; and the way back gives the manifests again.
func TestPlace(t *testing.T) {
	a := understood(t)
	if a.main == nil || a.main.GetName() != "shop" || len(a.services) != 2 || a.services[0].GetName() != "shop" {
		t.Fatalf("main %v (%s), services %v", a.main, a.several, a.services)
	}
	placed, err := a.place(green, blue)
	if err != nil {
		t.Fatal(err)
	}
	support, services, later, main := a.split(placed)
	if main.GetName() != "shop-green" || text(t, main, "spec", "template", "metadata", "labels", SlotLabel) != green ||
		text(t, main, "spec", "selector", "matchLabels", SlotLabel) != green || replicasOf(main) != 3 {
		t.Errorf("the Deployment: %v", main)
	}
	if len(services) != 2 || text(t, services[0], "spec", "selector", SlotLabel) != blue {
		t.Errorf("the Services: %v", services)
	}
	if len(support) != 1 || support[0].GetName() != "database" || text(t, support[0], "spec", "selector", SlotLabel) != "" {
		t.Errorf("what is not its own: %v", support)
	}
	if len(later) != 2 || text(t, later[1], "spec", "scaleTargetRef", "name") != "shop-green" || later[0].GetName() != "worker" {
		t.Errorf("what comes later: %v", later)
	}
	if text(t, a.main, "spec", "template", "metadata", "labels", SlotLabel) != "" {
		t.Error("place changed the manifests")
	}
	again, err := encode(unplaced(placed, green))
	if err != nil {
		t.Fatal(err)
	}
	was, err := encode(a.objects)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(was) {
		t.Errorf("unplaced:\n%s\nwas\n%s", again, was)
	}
	inBlue, err := a.place(blue, unpinned)
	if err != nil {
		t.Fatal(err)
	}
	if text(t, inBlue[0], "spec", "selector", "matchLabels", SlotLabel) != "" {
		t.Error("the selector of a Deployment that may be older was changed: the API server refuses that")
	}
}

func TestBesides(t *testing.T) {
	s, err := understood(t).besides(green, "canary")
	if err != nil {
		t.Fatal(err)
	}
	sameSpec(t, s, `{type: ClusterIP, ports: [{name: http, port: 80}], selector: {app: shop, slipway.dev/slot: green}}`)
	if s.GetName() != "shop-canary" {
		t.Errorf("it is called %s", s.GetName())
	}
}
