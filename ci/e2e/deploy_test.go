//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// deployed is a release of the sample in the registry, and how to deploy it.
type deployed struct {
	*kube
	ns, digest    string
	with, release []string
}

func newDeployed(t *testing.T, namespace string) *deployed {
	t.Helper()
	d := &deployed{kube: newKube(t), ns: namespace}
	source := folder("testdata", "sample")(t)
	repository := shared.registry + "/deploy/" + namespace
	with := []string{"--source", source, "--registry", "tcp://" + shared.registry}
	mustDagger(t, slices.Concat(with, []string{"pipeline", "--publish", repository + ":v1", "--key", "file:" + shared.keys + "/cosign.key",
		"--password", "env:E2E_PASSWORD", "--database", shared.database, "--move-tag"})...)
	d.digest = tool(t, "crane", "digest", repository+":v1")
	d.with = with
	d.release = slices.Concat(with, []string{"release", "--reference", repository + ":v1"})
	return d
}

func (d *deployed) deploy(more ...string) []string {
	return slices.Concat(d.release, []string{"deploy", "--kubeconfig", "file:" + d.kubeconfig, "--cluster", d.service,
		"--namespace", d.ns, "--public-key", shared.keys + "/cosign.pub", "--by", "e2e"}, more)
}

func (d *deployed) get(t *testing.T, what, path string) string {
	t.Helper()
	return d.kubectl(t, append(append([]string{"get"}, strings.Fields(what)...), "--namespace", d.ns, "--output", "jsonpath="+path)...)
}

// serves asks the deployed sample through the API server's proxy.
func (d *deployed) serves(t *testing.T, want string) {
	t.Helper()
	if got := d.kubectl(t, "get", "--raw", "/api/v1/namespaces/"+d.ns+"/services/sample:http/proxy/version"); !strings.Contains(got, want) {
		t.Errorf("it answers %q, want %q", got, want)
	}
}

// manifests writes a folder with one manifest.
func manifests(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sampleWith is a Deployment of the sample's with one more field in its container.
func sampleWith(field string) string {
	return `apiVersion: apps/v1
kind: Deployment
metadata: {name: sample}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: sample}}
  template:
    metadata: {labels: {app.kubernetes.io/name: sample}}
    spec:
      containers:
      - name: sample
        image: slipway
        ` + field + "\n"
}

// helmChart deploys a chart; helm itself, kubectl and status agree about it.
func (d *deployed) helmChart(t *testing.T) {
	chart := t.TempDir()
	for file, text := range map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"values.yaml": "replicas: 1\n",
		"templates/app.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: app, image: slipway, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /healthz, port: http}}}]}
{{- if .Capabilities.APIVersions.Has "policy/v1" }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: {{ .Release.Name }}}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: {{ .Release.Name }}}}}
{{- end }}
`,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(chart, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(chart, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	values := filepath.Join(t.TempDir(), "production.yaml")
	if err := os.WriteFile(values, []byte("replicas: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustDagger(t, d.deploy("--manifests", chart, "--values", values, "--name", "charted")...)
	rendered := filepath.Join(t.TempDir(), "helm.yaml")
	if err := os.WriteFile(rendered, []byte(tool(t, "helm", "template", "charted", chart, "--namespace", d.ns, "--values", values)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := d.kubectl(t, "get", "--namespace", d.ns, "--filename", rendered, "--output", "name"), "deployment.apps/charted"; !strings.Contains(got, want) || !strings.Contains(got, "poddisruptionbudget.policy/charted") {
		t.Errorf("of what helm renders, the cluster has\n%s", got)
	}
	status := mustDagger(t, slices.Concat(d.with, []string{"deployment", "--kubeconfig", "file:" + d.kubeconfig, "--cluster", d.service, "--namespace", d.ns, "--name", "charted", "status"})...)
	if !strings.Contains(status, "Deployment "+d.ns+"/charted: 2 of 2 ready") || !strings.Contains(status, d.digest) {
		t.Errorf("status: %s", status)
	}
}

// TestDeploy takes a release to the cluster with manifests of Slipway's making, and then does what goes wrong in real life.
func TestDeploy(t *testing.T) {
	d := newDeployed(t, "shop")
	d.kubectl(t, "delete", "namespace", d.ns, "--ignore-not-found", "--timeout=120s")
	refused(t, d.deploy(), "missing-namespace", "nothing was changed", "create the namespace shop")
	d.namespace(t, d.ns)

	if out := mustDagger(t, d.deploy("--dry-run")...); !strings.Contains(out, "5 of 5 objects would change") ||
		!strings.Contains(out, "+++ Deployment shop/sample (after)") || !strings.Contains(out, "image: "+shared.registry+"/deploy/shop@"+d.digest) {
		t.Errorf("dry run: %s", out)
	}
	if out := d.kubectl(t, "get", "deployments,services,configmaps", "--namespace", d.ns, "--output", "name"); strings.Contains(out, "sample") {
		t.Errorf("a dry run left %s", out)
	}

	// The very first one fails: there is nothing to go back to, and nothing may stay.
	refused(t, d.deploy("--manifests", manifests(t, sampleWith("args: [-nonsense]")), "--deadline", "3m"), "has ended", "nothing ran before, and what was created is gone again")
	d.kubectl(t, "wait", "--namespace", d.ns, "--for=delete", "--timeout=60s", "deployment/sample")

	// The record is signed, and cosign finds it beside the image's other evidence.
	mustDagger(t, d.deploy("--key", "file:"+shared.keys+"/cosign.key", "--password", "env:E2E_PASSWORD")...)
	if out := tool(t, "cosign", "verify-attestation", "--key", shared.keys+"/cosign.pub", "--insecure-ignore-tlog=true", "--type", "https://slipway.dev/attestations/deployment/v1",
		shared.registry+"/deploy/"+d.ns+"@"+d.digest); !strings.Contains(out, "payload") {
		t.Errorf("cosign finds no record of the deployment: %s", out)
	}
	running := func(t *testing.T) {
		t.Helper()
		if got := d.get(t, "deployment/sample", "{.spec.template.spec.containers[0].image} {.status.readyReplicas}"); !strings.HasSuffix(got, "@"+d.digest+" 2") {
			t.Errorf("it runs %q, want two of %s", got, d.digest)
		}
		d.serves(t, `"version":"v1.2.3"`)
	}
	running(t)
	if out := mustDagger(t, d.deploy("--dry-run")...); !strings.Contains(out, "0 of 5 objects would change") {
		t.Errorf("dry run after it: %s", out)
	}
	mustDagger(t, d.deploy()...) // again: nothing to do

	t.Run("by the pipeline", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "report")
		args := func(kubeconfig string) []string {
			return slices.Concat(d.with, []string{"pipeline-report", "--publish", shared.registry + "/deploy/" + d.ns + ":v1", "--key", "file:" + shared.keys + "/cosign.key",
				"--password", "env:E2E_PASSWORD", "--database", shared.database, "--move-tag", "--kubeconfig", "file:" + kubeconfig, "--cluster", d.service, "--namespace", d.ns,
				"--by", "a runner", "files", "export", "--path", dir})
		}
		mustDagger(t, args(d.kubeconfig)...)
		s := readJSON[summary](t, filepath.Join(dir, "summary.json"))
		deployed := false
		for _, st := range s.Stages { // what did not run stands behind it
			deployed = deployed || st.Stage == "deploy" && st.Verdict == "pass"
		}
		if s.Verdict != "pass" || !deployed {
			t.Errorf("the run says %s, and the deployment did not pass: %+v", s.Verdict, s.Stages)
		}
		if rec := readJSON[record](t, filepath.Join(dir, "stages", "deploy", "record.json")); rec.By != "a runner" || rec.Digest != d.digest {
			t.Errorf("the record says %+v", rec)
		}
		running(t)
		// A kubeconfig without a cluster is wrong input, and the report says so.
		nowhere := filepath.Join(t.TempDir(), "kubeconfig")
		copyText(t, nowhere, "apiVersion: v1\nkind: Config\n")
		mustDagger(t, args(nowhere)...)
		if got := readJSON[struct {
			ExitCode int `json:"exitCode"`
		}](t, filepath.Join(dir, "summary.json")); got.ExitCode != 2 {
			t.Errorf("an empty kubeconfig: exit code %d, want 2", got.ExitCode)
		}
	})

	t.Run("never ready", func(t *testing.T) {
		dir := manifests(t, sampleWith("readinessProbe: {httpGet: {path: /nowhere, port: 8080}, periodSeconds: 1}"))
		refused(t, d.deploy("--manifests", dir, "--deadline", "20s"), "not done after 20s", "container-not-ready", "Readiness probe failed",
			"rolled back to the last good deployment")
		running(t)
	})

	t.Run("crashes", func(t *testing.T) {
		dir := manifests(t, sampleWith("args: [-nonsense]"))
		refused(t, d.deploy("--manifests", dir, "--deadline", "3m"), "has ended", "exit code 2", "| flag provided but not defined: -nonsense", "rolled back to the last good deployment")
		running(t)
	})

	t.Run("somebody else's field", func(t *testing.T) {
		d.kubectl(t, "scale", "deployment/sample", "--namespace", d.ns, "--replicas=3")
		refused(t, d.deploy(), "field-conflict", ".spec.replicas", "nothing was changed")
		d.kubectl(t, "delete", "deployment/sample", "--namespace", d.ns)
		mustDagger(t, d.deploy()...)
		running(t)
	})

	t.Run("Helm chart", d.helmChart)

	t.Run("other workloads, and pruning", func(t *testing.T) {
		kept, removed := `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful}
spec:
  serviceName: stateful
  selector: {matchLabels: {app: stateful}}
  template: {metadata: {labels: {app: stateful}}, spec: {containers: [{name: app, image: slipway}]}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: slipway, args: [-h]}]}}}
`, `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template: {metadata: {labels: {app: everywhere}}, spec: {containers: [{name: app, image: slipway}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {level: high}
`
		mustDagger(t, d.deploy("--manifests", manifests(t, kept+removed), "--name", "others", "--settle", "3s")...)
		if got := d.get(t, "statefulset/stateful daemonset/everywhere job/once", "{.items[*].status.readyReplicas}{.items[*].status.numberReady}{.items[*].status.succeeded}"); got != "111" {
			t.Errorf("ready: %q, want one of each", got)
		}
		d.kubectl(t, "create", "configmap", "strangers", "--namespace", d.ns)
		mustDagger(t, d.deploy("--manifests", manifests(t, kept), "--name", "others", "--settle", "3s")...)
		d.kubectl(t, "wait", "--namespace", d.ns, "--for=delete", "--timeout=60s", "daemonset/everywhere", "configmap/settings")
		d.kubectl(t, "get", "--namespace", d.ns, "statefulset/stateful", "configmap/strangers")
	})

	t.Run("two at once", func(t *testing.T) {
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		d.kubectl(t, "patch", "lease/slipway-sample", "--namespace", d.ns, "--type=merge",
			"--patch", fmt.Sprintf(`{"spec":{"holderIdentity":"somebody","acquireTime":%q,"renewTime":%[1]q}}`, now))
		refused(t, d.deploy(), "sample is being deployed by somebody since", "wait until it has ended")
		time.Sleep(30 * time.Second) // a holder that renews no more has died
		mustDagger(t, d.deploy()...)
	})

	t.Run("no evidence", func(t *testing.T) {
		bare := publishOther(t, shared.registry+"/deploy/bare:v1")
		refused(t, append([]string{"--registry", "tcp://" + shared.registry, "--source", folder("testdata", "sample")(t), "release", "--reference", shared.registry + "/deploy/bare@" + bare},
			d.deploy()[len(d.release):]...), "deploy: refused", "missing-signature")
	})

	t.Run("wrong input", func(t *testing.T) {
		for name, test := range map[string]struct {
			manifest string
			want     []string
		}{
			"broken YAML":         {"apiVersion: v1\nkind: [", []string{"app.yaml", "document 1"}},
			"no name":             {"apiVersion: v1\nkind: Service\n", []string{"app.yaml: document 1", "metadata.name is missing"}},
			"no container":        {"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n", []string{"no container"}},
			"unknown kind":        {"apiVersion: example.com/v1\nkind: Rocket\nmetadata: {name: rocket}\nspec: {}\n---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: tick}\nspec: {schedule: \"@daily\", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: slipway}]}}}}}\n", []string{"does not know the kind Rocket", "CustomResourceDefinition"}},
			"invalid field value": {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: {spec: {restartPolicy: Perhaps, containers: [{name: c, image: slipway}]}}}\n", []string{"invalid-manifest", "restartPolicy"}},
			"bare pod":            {"apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec: {containers: [{name: c, image: slipway}]}\n", []string{"a bare Pod is not rolled out"}},
		} {
			t.Run(name, func(t *testing.T) {
				refused(t, d.deploy("--manifests", manifests(t, test.manifest)), test.want...)
			})
		}
		broken := filepath.Join(t.TempDir(), "kubeconfig")
		good, err := os.ReadFile(d.kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct{ text, want string }{
			"empty kubeconfig": {"", "no context"},
			"no YAML":          {"{{", "cannot be read"},
			"other authority":  {strings.Replace(string(good), "certificate-authority-data: LS0", "insecure: no, x: LS0", 1), "certificate"},
			"token program":    {`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}], users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}}}]}`, "kubectl create token"},
		} {
			t.Run(name, func(t *testing.T) {
				if err := os.WriteFile(broken, []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
				args := d.deploy()
				args[slices.Index(args, "file:"+d.kubeconfig)] = "file:" + broken
				refused(t, args, test.want)
			})
		}
	})

	t.Run("missing rights", func(t *testing.T) {
		d.kubectl(t, "create", "serviceaccount", "reader", "--namespace", d.ns)
		d.kubectl(t, "create", "rolebinding", "reader", "--namespace", d.ns, "--clusterrole=view", "--serviceaccount="+d.ns+":reader")
		token := d.kubectl(t, "create", "token", "reader", "--namespace", d.ns)
		restricted := filepath.Join(t.TempDir(), "kubeconfig")
		good, err := os.ReadFile(d.kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(restricted, good, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, d.kubectlBin, "--kubeconfig", restricted, "config", "set-credentials", "reader", "--token", token)
		tool(t, d.kubectlBin, "--kubeconfig", restricted, "config", "set-context", "slipway", "--user", "reader")
		args := d.deploy()
		args[slices.Index(args, "file:"+d.kubeconfig)] = "file:" + restricted
		refused(t, args, "forbidden", "nothing was changed")
	})
	running(t)

	t.Run("down leaves nothing", func(t *testing.T) {
		tool(t, filepath.Join(shared.root, "ci", "local", "run"), "down", "--cluster")
		for what, pattern := range map[string]string{"a namespace": "/run/netns/" + d.network, "a control group": "/sys/fs/cgroup/*/" + d.network, "a control group of v2": "/sys/fs/cgroup/" + d.network} {
			if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
				t.Errorf("%s is left: %v, %v", what, left, err)
			}
		}
		mounts, err := os.ReadFile("/proc/mounts")
		if err != nil {
			t.Fatal(err)
		}
		if state := filepath.Join(filepath.Dir(d.kubeconfig), "state"); strings.Contains(string(mounts), state) {
			t.Errorf("mounts are left below %s:\n%s", state, mounts)
		}
		running, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range running {
			if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), filepath.Dir(d.kubeconfig)+"/") {
				t.Errorf("a process is left: %q", line)
			}
		}
	})
}
