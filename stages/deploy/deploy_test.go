package deploy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func image(t testing.TB) name.Digest {
	t.Helper()
	d, err := name.NewDigest("registry.example.com/shop/app@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: %q}]}\n"

func TestReadManifests(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
		err   string
	}{
		{"two documents, a list, and what is no manifest", map[string]string{
			"a.yaml":    "---\n" + fmt.Sprintf(pod, "one", "slipway") + "---\n# nothing\n---\n" + fmt.Sprintf(pod, "two", "x"),
			"b.json":    `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"three","namespace":"n"}}]}`,
			"README.md": "# no manifest"}, []string{"Pod one", "Pod two", "Service n/three"}, ""},
		{"a kustomization", map[string]string{"kustomization.yaml": "namePrefix: pre-\nresources: [a.yaml]\n", "a.yaml": fmt.Sprintf(pod, "one", "slipway"),
			"other.yaml": fmt.Sprintf(pod, "other", "slipway")}, []string{"Pod pre-one"}, ""},
		{"a broken kustomization", map[string]string{"kustomization.yaml": "resources: [missing.yaml]\n"}, nil, "missing.yaml"},
		{"nothing", map[string]string{"README.md": "x"}, nil, "holds no object"},
		{"broken YAML", map[string]string{"a.yaml": fmt.Sprintf(pod, "one", "x") + "---\nkind: [\n"}, nil, "a.yaml: document 2"},
		{"no kind", map[string]string{"a.yaml": "apiVersion: v1\nmetadata: {name: x}\n"}, nil, "a.yaml: document 1"},
		{"no name", map[string]string{"a.yaml": "apiVersion: v1\nkind: Pod\n"}, nil, "metadata.name is missing"},
		{"a label that is a number", map[string]string{"a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: {a: 1}}\n"}, nil, "a.yaml: document 1: x"},
		{"a list of texts", map[string]string{"a.yaml": "apiVersion: v1\nkind: List\nitems: [x]\n"}, nil, "a.yaml: document 1"},
		{"the same twice", map[string]string{"a.yaml": fmt.Sprintf(pod, "one", "x"), "b.yaml": fmt.Sprintf(pod, "one", "y")}, nil, "Pod one is there twice"},
		{"text", map[string]string{"a.yaml": "hello"}, nil, "a.yaml: document 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tt.files {
				write(t, dir, file, text)
			}
			objects, err := ReadManifests(dir)
			if tt.err != "" {
				if !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want an input error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, Name(o))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("a folder that is missing", func(t *testing.T) {
		if _, err := ReadManifests(filepath.Join(t.TempDir(), "x")); !result.IsInput(err) {
			t.Errorf("error = %v", err)
		}
	})
}

func parse(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestSetImage(t *testing.T) {
	two := func(a, b string) string {
		return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: x}
spec: {jobTemplate: {spec: {template: {spec: {initContainers: [{name: i, image: %q}], containers: [{name: c, image: %q}]}}}}}
`, a, b)
	}
	want := image(t).String()
	tests := []struct{ name, text, init, container, err string }{
		{"the only container", fmt.Sprintf(pod, "p", "whatever:1"), "", want, ""},
		{"the placeholder", two("busybox", "slipway"), "busybox", want, ""},
		{"the repository with a tag", two("registry.example.com/shop/app:v1", "sidecar:2"), want, "sidecar:2", ""},
		{"the repository with a digest, twice", two("registry.example.com/shop/app@"+digest, "registry.example.com/shop/app"), want, want, ""},
		{"nobody is meant", two("busybox", "sidecar:2"), "", "", `write "image: slipway"`},
		{"no container", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n", "", "", "no container"},
		{"containers are no list", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: 1}\n", "", "", "is no list"},
		{"a container is a text", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [x]}\n", "", "", "is no container"},
		{"the spec is a text", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: x\n", "", "", "Pod x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects := parse(t, tt.text)
			err := SetImage(objects, image(t))
			if tt.err != "" {
				if !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want an input error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			path := podSpecs[objects[0].GetKind()]
			for list, want := range map[string]string{"initContainers": tt.init, "containers": tt.container} {
				items, _, err := unstructured.NestedSlice(objects[0].Object, append(slices.Clone(path), list)...)
				if err != nil {
					t.Fatal(err)
				}
				if len(items) > 0 && items[0].(map[string]any)["image"] != want {
					t.Errorf("%s: %v, want %s", list, items[0], want)
				}
			}
		})
	}
}

// TestDefaults looks at what decides whether a request is lost, and at what security scanners ask for.
func TestDefaults(t *testing.T) {
	objects, err := Defaults{Name: "shop", Namespace: "n", Image: image(t), Port: 8080, Health: "/healthz", Replicas: 2}.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	inOrder(objects, "shop")
	var kinds []string
	for _, o := range objects {
		kinds = append(kinds, o.GetKind())
		if o.GetNamespace() != "n" || o.GetLabels()[AppLabel] != "shop" {
			t.Errorf("%s: labels %v", Name(o), o.GetLabels())
		}
	}
	if want := []string{"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment"}; !slices.Equal(kinds, want) {
		t.Errorf("kinds = %v, want %v", kinds, want)
	}
	text, err := shown(objects[4])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"maxUnavailable: 0", "readOnlyRootFilesystem: true", "runAsNonRoot: true", "automountServiceAccountToken: false",
		"image: registry.example.com/shop/app@" + digest, "path: /healthz", "seconds: 5", "type: RuntimeDefault", "- ALL"} {
		if !strings.Contains(text, want) {
			t.Errorf("the Deployment lacks %q:\n%s", want, text)
		}
	}
	for _, not := range []string{"null", "Timestamp", "status"} {
		if strings.Contains(text, not) {
			t.Errorf("the Deployment claims %q:\n%s", not, text)
		}
	}
	worker, err := Defaults{Name: "worker", Image: image(t), Replicas: 1}.Manifests()
	if err != nil || len(worker) != 3 {
		t.Errorf("without a port and with one pod: %d objects, %v", len(worker), err)
	}
	for _, bad := range []string{"", "Shop", "1shop", "shop_a", "shop-", strings.Repeat("a", 64)} {
		if _, err := (Defaults{Name: bad, Image: image(t)}).Manifests(); !result.IsInput(err) {
			t.Errorf("%q: error = %v", bad, err)
		}
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	before := parse(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, resourceVersion: \"1\"}\nstringData: {password: hunter2}\n")[0]
	after := parse(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, resourceVersion: \"2\"}\nstringData: {password: hunter3}\n")[0]
	text, n, err := diff([]change{{object: after, live: before, after: after}, {object: before, live: before, after: before}})
	if err != nil {
		t.Fatal(err)
	}
	if n != 1 || strings.Contains(text, "hunter") || !strings.Contains(text, "-  password: (secret") || strings.Contains(text, "resourceVersion") {
		t.Errorf("%d differ:\n%s", n, text)
	}
}

func TestPack(t *testing.T) {
	want := parse(t, fmt.Sprintf(pod, "one", "x")+"---\n"+fmt.Sprintf(pod, "two", "y"))
	data, err := pack(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpack(data)
	if err != nil || len(got) != 2 || Name(got[1]) != "Pod two" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := unpack(data[:len(data)-1]); err == nil {
		t.Error("half of it is taken for the whole")
	}
}

// TestForget fills a record: it has to fit into a ConfigMap, and to keep what can be gone back to.
func TestForget(t *testing.T) {
	for _, size := range []int{1 << 10, 400 << 10, 2 << 20} {
		h := &history{objects: map[string][]byte{}}
		for i := range 30 {
			r := Record{Verdict: result.Pass, Objects: fmt.Sprintf("o%d", i)}
			if i%3 == 2 {
				r = Record{Verdict: result.Fail}
			} else {
				h.objects[r.Objects] = make([]byte, size)
			}
			h.records = append(h.records, r)
			h.forget()
		}
		total, kept := 0, 0
		for name, data := range h.objects {
			total += len(data)
			kept++
			if !slices.ContainsFunc(h.records, func(r Record) bool { return r.Objects == name }) {
				t.Errorf("%s is kept, and nobody knows it", name)
			}
		}
		if kept == 0 || kept > keepObjects || (kept > 1 && total > maxRecord) || h.objects["o28"] == nil {
			t.Errorf("%d bytes each: %d kept, %d bytes", size, kept, total)
		}
		for _, r := range h.records {
			if r.Objects != "" && h.objects[r.Objects] == nil {
				t.Errorf("%s is named, and gone", r.Objects)
			}
		}
	}
}

func TestWatched(t *testing.T) {
	for kind, ok := range map[string]bool{"Deployment": true, "StatefulSet": true, "DaemonSet": true, "Job": true, "CronJob": true, "Service": true,
		"Pod": false, "ReplicaSet": false} {
		err := watched(parse(t, "apiVersion: v1\nkind: "+kind+"\nmetadata: {name: x}\n"))
		if (err == nil) != ok || (err != nil && !result.IsInput(err)) {
			t.Errorf("%s: error = %v", kind, err)
		}
	}
}

func TestWithout(t *testing.T) {
	before := parse(t, fmt.Sprintf(pod, "one", "x")+"---\n"+fmt.Sprintf(pod, "two", "y"))
	after := parse(t, fmt.Sprintf(pod, "two", "z"))
	if gone := without(before, after); len(gone) != 1 || Name(gone[0]) != "Pod one" {
		t.Errorf("gone = %v", gone)
	}
}

func TestHopelessPod(t *testing.T) {
	waiting := func(reason, message string, restarts int32) corev1.Pod {
		return corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: restarts,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}}}
	}
	for _, tt := range []struct {
		pod  corev1.Pod
		want bool
	}{
		{waiting("ContainerCreating", "", 0), false},
		{waiting("CrashLoopBackOff", "", 1), false}, // what it waits for may come
		{waiting("CrashLoopBackOff", "", crashes), true},
		{waiting("ImagePullBackOff", "registry does not answer", 0), false},
		{waiting("ErrImagePull", "failed to resolve: x: not found", 0), true},
		{waiting("InvalidImageName", "", 0), true},
		{corev1.Pod{}, false},
	} {
		if got := hopelessPod([]corev1.Pod{tt.pod}); (got != "") != tt.want {
			t.Errorf("%+v: %q", tt.pod.Status.ContainerStatuses, got)
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	const config = `{apiVersion: v1, kind: Config, current-context: %s, contexts: [{name: a, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {%s}}], users: [{name: u, user: {%s}}]}`
	const server = `server: "https://cluster.example.com:6443"`
	tests := []struct{ name, text, context, want string }{
		{"good", fmt.Sprintf(config, "a", server, "token: x"), "", ""},
		{"empty", "", "", "has no context"},
		{"no YAML", "{", "", "cannot be read"},
		{"no current context", fmt.Sprintf(config, `""`, server, "token: x"), "", "choose one with --context: a"},
		{"unknown context", fmt.Sprintf(config, "a", server, "token: x"), "b", `no context "b": it has a`},
		{"loopback", fmt.Sprintf(config, "a", `server: "https://127.0.0.1:6443"`, "token: x"), "", "add --cluster tcp://127.0.0.1:6443"},
		{"authority's file", fmt.Sprintf(config, "a", server+", certificate-authority: /etc/ca.crt", "token: x"), "", "/etc/ca.crt"},
		{"key's file", fmt.Sprintf(config, "a", server, "client-key: /k, client-certificate: /c"), "", "--flatten"},
		{"token program", fmt.Sprintf(config, "a", server, "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}"), "", "the program aws"},
		{"no URL", fmt.Sprintf(config, "a", `server: "::"`, "token: x"), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "kubeconfig", tt.text)
			_, err := Connect(Access{Kubeconfig: filepath.Join(dir, "kubeconfig"), Context: tt.context})
			switch {
			case tt.name == "good" && err != nil:
				t.Error(err)
			case tt.name != "good" && (!result.IsInput(err) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error = %v, want an input error with %q", err, tt.want)
			}
		})
	}
	if _, err := Connect(Access{Kubeconfig: filepath.Join(t.TempDir(), "missing")}); !result.IsInput(err) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestOrder(t *testing.T) {
	kinds := []string{"Deployment", "HTTPRoute", "Service", "Namespace", "HorizontalPodAutoscaler", "ConfigMap"}
	rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	slices.SortFunc(kinds, func(a, b string) int { return rank(a) - rank(b) })
	if want := []string{"Namespace", "ConfigMap", "Service", "HTTPRoute", "Deployment", "HorizontalPodAutoscaler"}; !slices.Equal(kinds, want) {
		t.Errorf("order = %v, want %v", kinds, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(pod, "one", "slipway")))
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","labels":{"a":"b"}}}]}`))
	f.Add([]byte("---\n---\nkind: x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Parse("fuzz.yaml", data)
		if err != nil {
			if !result.IsInput(err) {
				t.Errorf("error = %v, want an input error", err)
			}
			return
		}
		inOrder(objects, "fuzz")
		err = SetImage(objects, image(t))
		if _, _, diffErr := diff([]change{}); diffErr != nil {
			t.Error(diffErr)
		}
		for _, o := range objects {
			if o.GetName() == "" || o.GetKind() == "" || o.GetLabels()[AppLabel] != "fuzz" {
				t.Errorf("accepted %v", o.Object)
			}
			if _, err := shown(o); err != nil {
				t.Error(err)
			}
		}
		if packed, packErr := pack(objects); packErr == nil && err == nil {
			if again, err := unpack(packed); err != nil || len(again) != len(objects) {
				t.Errorf("packed: %v", err)
			}
		}
	})
}
