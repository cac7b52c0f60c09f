package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestRender(t *testing.T) {
	objects := parse(t, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: b, labels: {z: \"1\", a: \"true\"}}\ndata: {text: \"one\\n---\\ntwo\\n\"}\n---\n"+
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}], weight: 12345678901, share: 0.5}\n")
	got, err := Render(objects)
	if err != nil {
		t.Fatal(err)
	}
	const want = `---
apiVersion: v1
data:
  text: |
    one
    ---
    two
kind: ConfigMap
metadata:
  labels:
    a: "true"
    z: "1"
  name: b
---
apiVersion: v1
kind: Service
metadata:
  name: a
spec:
  ports:
  - port: 80
  share: 0.5
  weight: 12345678901
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := Render(parse(t, string(got)))
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("read and written again: %v\n%s", err, again)
	}
	if none, err := Render(nil); err != nil || len(none) != 0 {
		t.Errorf("of nothing: %q, %v", none, err)
	}
	if _, err := Render([]*unstructured.Unstructured{{Object: map[string]any{"a": func() {}}}}); err == nil {
		t.Error("a function was written")
	}
}

func TestParseNumbers(t *testing.T) {
	o := parse(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 3, share: 0.5}\n")[0]
	if n, ok, err := unstructured.NestedInt64(o.Object, "spec", "replicas"); n != 3 || !ok || err != nil {
		t.Errorf("replicas = %d, %v, %v", n, ok, err)
	}
	if x, ok, err := unstructured.NestedFloat64(o.Object, "spec", "share"); x != 0.5 || !ok || err != nil {
		t.Errorf("share = %v, %v, %v", x, ok, err)
	}
}

func TestManifestLinks(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
	outside := tree(t, map[string]string{"x.yaml": service})
	for name, tt := range map[string]struct{ to, err string }{
		"outside": {filepath.Join(outside, "x.yaml"), "escapes"},
		"above":   {"../../x.yaml", "escapes"},
		"inside":  {"sub/x.yaml", ""},
		"folder":  {"sub", "a.yaml is no regular file"},
	} {
		dir := tree(t, map[string]string{"sub/x.yaml": service})
		if err := os.Symlink(tt.to, filepath.Join(dir, "a.yaml")); err != nil {
			t.Fatal(err)
		}
		objects, err := ReadManifests(dir)
		switch {
		case tt.err == "" && (err != nil || len(objects) != 1):
			t.Errorf("%s: %d objects, %v", name, len(objects), err)
		case tt.err != "" && (!result.IsInput(err) || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: error = %v, want an input error with %q", name, err, tt.err)
		}
	}
}
