package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

var sampleChart = filepath.Join("..", "..", "testdata", "chart")

func names(objects []*unstructured.Unstructured) []string {
	var all []string
	for _, o := range objects {
		all = append(all, Name(o))
	}
	return all
}

func find(t *testing.T, objects []*unstructured.Unstructured, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if Name(o) == name {
			return o
		}
	}
	t.Fatalf("no %s among %q", name, names(objects))
	return nil
}

// tree writes files, by path, into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, file, text)
	}
	return dir
}

func TestChart(t *testing.T) {
	values := tree(t, map[string]string{
		"staging.yaml": "replicas: 3\ngreeting: hi\n",
		"more.yaml":    "greeting: moin\ncache: {enabled: true}\n",
	})
	r := Release{Name: "shop-eu", Namespace: "staging", KubeVersion: "v1.35.2+k3s1", APIVersions: []string{"monitoring.coreos.com/v1"},
		Values: []string{filepath.Join(values, "staging.yaml"), filepath.Join(values, "more.yaml")}}
	objects, err := r.Manifests(t.Context(), sampleChart)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CustomResourceDefinition orders.shop.example.com", "Deployment shop-eu-cache", "ConfigMap shop-eu-config", "Deployment shop-eu",
		"Service shop-eu", "ServiceMonitor shop-eu"}; !slices.Equal(names(objects), want) {
		t.Errorf("objects = %q, want %q", names(objects), want)
	}
	data := find(t, objects, "ConfigMap shop-eu-config").Object["data"]
	if want := map[string]any{"greeting": "moin", "namespace": "staging", "kubernetes": "v1.35.2+k3s1", "earlier": "0"}; !maps.Equal(data.(map[string]any), want) {
		t.Errorf("data = %v, want %v", data, want)
	}
	if err := SetImage(objects, image(t)); err != nil {
		t.Fatal(err)
	}
	main := find(t, objects, "Deployment shop-eu")
	if n, _, err := unstructured.NestedInt64(main.Object, "spec", "replicas"); n != 3 || err != nil {
		t.Errorf("%d replicas, %v", n, err)
	}
	text, err := Render(objects)
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]int{image(t).String(): 1, "registry.example.com/proxy:1": 1, "registry.example.com/cache:7": 1} {
		if n := strings.Count(string(text), "image: "+image+"\n"); n != want {
			t.Errorf("image %s is there %d times, want %d:\n%s", image, n, want, text)
		}
	}
	for range 5 {
		again, err := r.Manifests(t.Context(), sampleChart)
		if err != nil {
			t.Fatal(err)
		}
		if err := SetImage(again, image(t)); err != nil {
			t.Fatal(err)
		}
		if b, err := Render(again); err != nil || !bytes.Equal(text, b) {
			t.Fatalf("the same chart gives other bytes: %v\n%s\n%s", err, text, b)
		}
	}

	plain, err := Release{Name: "shop"}.Manifests(t.Context(), sampleChart)
	if want := []string{"CustomResourceDefinition orders.shop.example.com", "ConfigMap shop-config", "Deployment shop", "Service shop"}; err != nil || !slices.Equal(names(plain), want) {
		t.Errorf("with the chart's own values: %q, %v, want %q", names(plain), err, want)
	}
}

const (
	chartYAML = "apiVersion: v2\nname: c\nversion: 1.0.0\n"
	configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {v: {{ %s }}}\n"
)

// value is a template whose only value is what an expression gives.
func value(expression string) string { return strings.Replace(configMap, "%s", expression, 1) }

func TestChartRefuses(t *testing.T) {
	hook := func(events string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, annotations: {helm.sh/hook: \"" + events + "\"}}\n"
	}
	needs := chartYAML + "dependencies: [{name: cache, version: ^2.0.0, repository: https://charts.example.com}]\n"
	tests := []struct {
		name  string
		files map[string]string
		err   string
	}{
		{"a hook", map[string]string{"templates/job.yaml": hook("pre-install,pre-upgrade")}, "c/templates/job.yaml: Job migrate is a Helm hook (pre-install,pre-upgrade)"},
		{"a hook beside a test", map[string]string{"templates/job.yaml": hook("test, post-delete")}, "slipway.yaml's deploy.hooks"},
		{"a hook for nothing", map[string]string{"templates/job.yaml": hook("")}, "is a Helm hook"},
		{"only a test", map[string]string{"templates/job.yaml": hook("test")}, "makes no object"},
		{"nothing", map[string]string{"values.yaml": "a: 1"}, "makes no object"},
		{"a library", map[string]string{"Chart.yaml": chartYAML + "type: library\n"}, "is a library"},
		{"an unknown format", map[string]string{"Chart.yaml": "apiVersion: v3\nname: c\nversion: 1.0.0\n"}, "apiVersion v3"},
		{"no version", map[string]string{"Chart.yaml": "apiVersion: v2\nname: c\n"}, "version is required"},
		{"no YAML", map[string]string{"Chart.yaml": "{"}, "cannot load Chart.yaml"},
		{"a missing dependency", map[string]string{"Chart.yaml": needs}, "needs cache ^2.0.0, which is not in its charts folder: run helm dependency build"},
		{"a dependency of another version", map[string]string{"Chart.yaml": needs, "charts/cache/Chart.yaml": "apiVersion: v2\nname: cache\nversion: 1.0.0\n"}, "helm dependency build"},
		{"a dependency's dependency", map[string]string{"charts/d/Chart.yaml": strings.ReplaceAll(needs, "name: c\n", "name: d\n")}, "the chart c/charts/d needs cache"},
		{"what is no chart among them", map[string]string{"charts/notes/x.md": "x"}, "Chart.yaml file is missing"},
		{"a broken archive", map[string]string{"charts/d-1.0.0.tgz": "x"}, "charts/d-1.0.0.tgz: "},
		{"a template that cannot be parsed", map[string]string{"templates/x.yaml": "{{ if }}"}, "c/templates/x.yaml:1"},
		{"an unknown function", map[string]string{"templates/x.yaml": value(`env "HOME"`)}, `function "env" not defined`},
		{"a required value", map[string]string{"templates/x.yaml": value(`required "say which" .Values.v`)}, "say which"},
		{"no manifest", map[string]string{"templates/x.yaml": "a: 1"}, "c/templates/x.yaml: document 1: "},
		{"the same twice", map[string]string{"templates/x.yaml": value("1"), "templates/y.yaml": value("2")}, "ConfigMap x is there twice"},
		{"another secret each time", map[string]string{"templates/x.yaml": value(`randAlphaNum 8`)}, "randAlphaNum makes something else each time"},
		{"another certificate each time", map[string]string{"templates/x.yaml": value(`(genCA "x" 1).Cert`)}, "genCA makes something else"},
		{"Kubernetes is too old", map[string]string{"Chart.yaml": chartYAML + "kubeVersion: '>=1.99'\n"}, "is for Kubernetes >=1.99, not v"},
		{"values that are no map", map[string]string{"values.yaml": "[1]"}, "values.yaml"},
		{"values that do not fit", map[string]string{"values.yaml": "num: x", "values.schema.json": `{"properties":{"num":{"type":"integer"}}}`}, "do not fit the chart c:\n- at '/num': got string, want integer"},
		{"a dependency's values that do not fit", map[string]string{"values.yaml": "d: {num: x}", "charts/d/Chart.yaml": strings.ReplaceAll(chartYAML, "name: c", "name: d"),
			"charts/d/values.schema.json": `{"properties":{"num":{"type":"integer"}}}`}, "do not fit the chart c/charts/d"},
		{"a broken schema", map[string]string{"values.schema.json": "{"}, "values.schema.json of the chart c"},
		{"a schema elsewhere", map[string]string{"values.schema.json": `{"$ref":"https://schemas.example.com/x.json"}`}, "nothing is fetched"},
		{"a schema on the disk", map[string]string{"values.schema.json": `{"$ref":"file:///etc/hostname"}`}, "nothing is fetched"},
		{"a schema beside it", map[string]string{"values.schema.json": `{"$ref":"values.yaml"}`, "values.yaml": "{}"}, "nothing is fetched"},
		{"an endless include", map[string]string{"templates/x.yaml": `{{ define "a" }}{{ include "a" . }}{{ end }}` + value(`include "a" .`)}, "nested reference"},
		{"less than nothing", map[string]string{"templates/x.yaml": value(`repeat -1 "x"`)}, "negative Repeat count"},
		{"too much", map[string]string{"templates/x.yaml": value(`repeat 9000000 "x"`), "templates/y.yaml": value(`repeat 9000000 "x"`)}, "make more than 16777216 bytes"},
		{"too large a chart", map[string]string{"a": strings.Repeat("x", 9<<20), "b": strings.Repeat("x", 9<<20)}, "more than 16777216 bytes"},
		{"rules that cannot be", map[string]string{".helmignore": "**/x"}, "reading .helmignore"},
		{"also a kustomization", map[string]string{"kustomization.yaml": "resources: []"}, "a Helm chart and a kustomization"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"Chart.yaml": chartYAML}
			maps.Copy(files, tt.files)
			_, err := Release{Name: "c"}.Manifests(t.Context(), tree(t, files))
			if !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error = %v, want an input error with %q", err, tt.err)
			}
		})
	}
}

func TestReleaseRefuses(t *testing.T) {
	dir := tree(t, map[string]string{"chart/Chart.yaml": chartYAML, "chart/templates/x.yaml": value("1"), "plain/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
		"broken.yaml": "a: [", "list.yaml": "[1]"})
	in := func(names ...string) (all []string) {
		for _, n := range names {
			all = append(all, filepath.Join(dir, n))
		}
		return all
	}
	for _, tt := range []struct {
		name, dir string
		release   Release
		err       string
	}{
		{"no name", "chart", Release{}, "cannot be a release's"},
		{"a name that Kubernetes refuses", "chart", Release{Name: "Shop_1"}, "cannot be a release's"},
		{"a version that is none", "chart", Release{Name: "c", KubeVersion: "new"}, "the cluster's version"},
		{"missing values", "chart", Release{Name: "c", Values: in("none.yaml")}, "none.yaml"},
		{"broken values", "chart", Release{Name: "c", Values: in("broken.yaml")}, "broken.yaml: "},
		{"values that are a list", "chart", Release{Name: "c", Values: in("list.yaml")}, "list.yaml: "},
		{"values that are a folder", "chart", Release{Name: "c", Values: in("plain")}, "plain is no regular file"},
		{"values without a chart", "plain", Release{Name: "c", Values: in("broken.yaml")}, "is no Helm chart"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.release.Manifests(t.Context(), filepath.Join(dir, tt.dir)); !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error = %v, want an input error with %q", err, tt.err)
			}
		})
	}
}

// TestChartFunctions looks at what must not hang on the moment, the machine or the order of a map.
func TestChartFunctions(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for expression, want := range map[string]string{
		`now | date "2006-01-02" | quote`:                                       "2026-01-02",
		`getHostByName "localhost" | quote`:                                     "",
		`lookup "v1" "Secret" "n" "s" | toJson | quote`:                         "{}",
		`keys (dict "c" 1 "a" 1 "b" 1 "e" 1 "d" 1) (dict "x" 1) | join ""`:      "abcdex",
		`values (dict "c" 3 "a" 1 "b" 2 "e" 5 "d" 4) | join "" | quote`:         "12345",
		`.Files.Get "notes.txt" | quote`:                                        "one",
		`.Files.Get "secret.key" | quote`:                                       "",
		`.Release.IsInstall | toString | quote`:                                 "true",
		`indent 2 "a" | quote`:                                                  "  a",
		`tpl "{{ .Release.Name }}" . | quote`:                                   "c",
		`.Values.num | quote`:                                                   "1",
		`.Capabilities.APIVersions.Has "apps/v1" | toString | quote`:            "true",
		`.Capabilities.APIVersions.Has "nobody.example/v1" | toString | quote`:  "false",
		`derivePassword 1 "long" "password" "user" "example.com" | len | quote`: "14",
	} {
		dir := tree(t, map[string]string{"Chart.yaml": chartYAML, "values.yaml": "num: 1", "templates/x.yaml": value(expression), "notes.txt": "one",
			"secret.key": "two", ".helmignore": "*.key\n"})
		objects, err := Release{Name: "c", Now: now}.Manifests(t.Context(), dir)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, _, err := unstructured.NestedString(objects[0].Object, "data", "v"); got != want || err != nil {
			t.Errorf("%s = %q, %v, want %q", expression, got, err, want)
		}
	}
}

// packed is a chart as helm package makes it.
func packed(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPackedCharts(t *testing.T) {
	inner := packed(t, map[string]string{"e/Chart.yaml": strings.ReplaceAll(chartYAML, "name: c", "name: e"), "e/templates/y.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: e}\n",
		"e/crds/k.yml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: k}\n"})
	outer := packed(t, map[string]string{"d/Chart.yaml": strings.ReplaceAll(chartYAML, "name: c", "name: d"), "d/values.yaml": "v: 1",
		"d/templates/x.yaml": value(".Values.v | quote"), "d/charts/e-1.0.0.tgz": inner})
	dir := tree(t, map[string]string{"Chart.yaml": chartYAML + "dependencies: [{name: d, version: 1.x, repository: 'oci://charts.example.com', alias: other}]\n",
		"values.yaml": "other: {v: 2}", "charts/d-1.0.0.tgz": outer, "charts/d-1.0.0.tgz.prov": "signed"})
	objects, err := Release{Name: "c"}.Manifests(t.Context(), dir)
	if want := []string{"CustomResourceDefinition k", "Service e", "ConfigMap x"}; err != nil || !slices.Equal(names(objects), want) {
		t.Fatalf("objects = %q, %v, want %q", names(objects), err, want)
	}
	if v, _, err := unstructured.NestedString(objects[2].Object, "data", "v"); v != "2" || err != nil {
		t.Errorf("v = %q, %v", v, err)
	}

	bomb := packed(t, map[string]string{"d/Chart.yaml": chartYAML, "d/zeros": strings.Repeat("\x00", 4<<20), "d/more": strings.Repeat("\x00", 4<<20),
		"d/evenmore": strings.Repeat("\x00", 4<<20), "d/most": strings.Repeat("\x00", 4<<20)})
	climber := packed(t, map[string]string{"d/../../x": "x"})
	for name, tt := range map[string]struct{ tgz, err string }{
		"more than it looks like": {bomb, "more than 16777216 bytes"},
		"a path out of it":        {climber, "charts/d.tgz: "},
		"half an archive":         {outer[:len(outer)/2], "charts/d.tgz: "},
	} {
		dir := tree(t, map[string]string{"Chart.yaml": chartYAML, "charts/d.tgz": tt.tgz})
		if _, err := (Release{Name: "c"}).Manifests(t.Context(), dir); !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error = %v, want an input error with %q", name, err, tt.err)
		}
	}
}

func TestChartLinks(t *testing.T) {
	outside := tree(t, map[string]string{"x.yaml": value("1"), "folder/y.yaml": value("2")})
	for name, tt := range map[string]struct{ link, to, err string }{
		"to a file outside":   {"templates/x.yaml", filepath.Join(outside, "x.yaml"), "escapes"},
		"to a folder outside": {"templates/more", filepath.Join(outside, "folder"), "escapes"},
		"to the folder above": {"templates/more", "..", "templates/more is no regular file"},
		"to nothing":          {"templates/x.yaml", "none.yaml", "no such file"},
		"to a file inside":    {"templates/z.yaml", "../files/z.yaml", ""},
	} {
		dir := tree(t, map[string]string{"Chart.yaml": chartYAML, "templates/NOTES.txt": "n", "files/z.yaml": value("3")})
		if err := os.Symlink(tt.to, filepath.Join(dir, tt.link)); err != nil {
			t.Fatal(err)
		}
		objects, err := Release{Name: "c"}.Manifests(t.Context(), dir)
		switch {
		case tt.err == "" && (err != nil || len(objects) != 1):
			t.Errorf("%s: %d objects, %v", name, len(objects), err)
		case tt.err != "" && (!result.IsInput(err) || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: error = %v, want an input error with %q", name, err, tt.err)
		}
	}
}

func TestBounded(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	loop := func() (map[string]string, error) {
		<-release
		return nil, nil
	}
	if _, err := bounded(t.Context(), 10*time.Millisecond, loop); !result.IsInput(err) || !strings.Contains(err.Error(), "have run for 10ms") {
		t.Errorf("a loop: %v", err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to end"))
	if _, err := bounded(ended, time.Minute, loop); err == nil || result.IsInput(err) || err.Error() != "told to end" {
		t.Errorf("an interruption: %v", err)
	}
	hungry := func() (map[string]string, error) {
		held := make([]byte, 2*renderMemory) // never touched, so it costs nothing
		<-release
		runtime.KeepAlive(held)
		return nil, nil
	}
	if _, err := bounded(t.Context(), time.Minute, hungry); !result.IsInput(err) || !strings.Contains(err.Error(), "bytes of memory") {
		t.Errorf("much memory: %v", err)
	}
	if files, err := bounded(t.Context(), time.Minute, func() (map[string]string, error) { return map[string]string{"a": "b"}, nil }); err != nil || files["a"] != "b" {
		t.Errorf("%v, %v", files, err)
	}
}

func FuzzRender(f *testing.F) {
	f.Add(value(".Values.v | quote"), "v: 1", `{"properties":{"v":{"type":"integer"}}}`)
	f.Add(value(`keys .Values | join "-"`), "b: {c: [1, 2]}\na: null", "")
	f.Add(value(`toYaml .Values | nindent 2`)+"---\n"+value(`.Release.Name | upper`), "x: &a {y: 1}\nz: *a", "true")
	f.Fuzz(func(t *testing.T, tpl, values, schema string) {
		if strings.Contains(tpl, "range") || strings.Contains(tpl, "until") || strings.Contains(tpl, "seq") || strings.Contains(tpl, "tpl") {
			t.Skip("what loops goes on in the background")
		}
		files := map[string]string{"Chart.yaml": chartYAML, "templates/x.yaml": tpl, "values.yaml": values}
		if schema != "" {
			files["values.schema.json"] = schema
		}
		dir := tree(t, files)
		objects, err := Release{Name: "c"}.Manifests(t.Context(), dir)
		again, err2 := Release{Name: "c"}.Manifests(t.Context(), dir)
		if err != nil {
			if !result.IsInput(err) || err2 == nil {
				t.Errorf("error = %v, then %v: want input errors", err, err2)
			}
			return
		}
		a, err := Render(objects)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := Render(again); err != nil || !bytes.Equal(a, b) {
			t.Errorf("first\n%s\nand then\n%s, %v", a, b, err)
		}
		if parsed, err := Parse("again.yaml", a); err != nil || len(parsed) != len(objects) {
			t.Errorf("%d objects became %d, %v:\n%s", len(objects), len(parsed), err, a)
		}
	})
}
