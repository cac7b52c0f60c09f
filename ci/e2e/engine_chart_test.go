//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// engineFiles are the files of ci/kubernetes for one trust, and what Dagger's own chart makes of them.
type engineFiles struct {
	dir, chart string
	ns         string // the engine's
	config     corev1.ConfigMap
	set        appsv1.StatefulSet
	kinds      []string
	runner     corev1.PodSpec
}

// newEngineFiles does what the README says: the word pull-request is replaced.
func newEngineFiles(t *testing.T, trust string) *engineFiles {
	t.Helper()
	e := &engineFiles{dir: t.TempDir(), ns: "slipway-" + trust}
	for _, name := range []string{"engine.yaml", "rbac.yaml", "github-runners.yaml", "gitlab-runner.yaml"} {
		text, err := os.ReadFile(filepath.Join(shared.root, "ci", "kubernetes", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(e.file(name), []byte(strings.ReplaceAll(string(text), "pull-request", trust)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.chart = filepath.Join(tool(t, "go", "list", "-C", "ci/local", "-m", "-f", "{{.Dir}}", "github.com/dagger/dagger"), "helm", "dagger")
	text := tool(t, "helm", "template", "slipway", e.chart, "--namespace", e.ns, "--values", e.file("engine.yaml"))
	if err := os.WriteFile(e.file("rendered.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.kinds = documents(t, text, map[string]any{"ConfigMap": &e.config, "StatefulSet": &e.set})
	e.runner = decode[githubValues](t, e.file("github-runners.yaml")).Template.Spec
	return e
}

func (e *engineFiles) file(name string) string { return filepath.Join(e.dir, name) }

// url is what SLIPWAY_ENGINE has to be.
func (e *engineFiles) url() string { return "kube-pod://" + e.set.Name + "-0?namespace=" + e.ns }

// githubValues are those of the chart gha-runner-scale-set that are used, and no others.
type githubValues struct {
	GithubConfigURL    string `json:"githubConfigUrl"`
	RunnerGroup        string `json:"runnerGroup"`
	RunnerScaleSetName string `json:"runnerScaleSetName"`
	GithubConfigSecret string `json:"githubConfigSecret"`
	MinRunners         int    `json:"minRunners"`
	MaxRunners         int    `json:"maxRunners"`
	Template           struct {
		Spec corev1.PodSpec `json:"spec"`
	} `json:"template"`
}

// gitlabValues are those of the chart gitlab-runner that are used, and no others.
type gitlabValues struct {
	GitlabURL      string `json:"gitlabUrl"`
	Concurrent     int    `json:"concurrent"`
	ServiceAccount struct {
		Create bool   `json:"create"`
		Name   string `json:"name"`
	} `json:"serviceAccount"`
	RBAC struct {
		Create            bool                `json:"create"`
		ClusterWideAccess bool                `json:"clusterWideAccess"`
		Rules             []rbacv1.PolicyRule `json:"rules"`
	} `json:"rbac"`
	Runners struct {
		Secret string `json:"secret"`
		Config string `json:"config"`
	} `json:"runners"`
}

func decode[T any](t *testing.T, file string) T {
	t.Helper()
	var v T
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &v); err != nil {
		t.Fatalf("%s: %v", filepath.Base(file), err)
	}
	return v
}

// documents decodes those of a YAML stream that are wanted by their kind, strictly, and returns all kinds.
func documents(t *testing.T, text string, wanted map[string]any) []string {
	t.Helper()
	var kinds []string
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == "" {
			continue
		}
		kinds = append(kinds, head.Kind)
		if into := wanted[head.Kind]; into != nil {
			if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
				t.Fatalf("%s: %v\n%s", head.Kind, err, document)
			}
		}
	}
	return kinds
}

// TestEngineChart checks what ci/kubernetes makes of Dagger's chart, and then runs it: an engine on the machine's node, and a runner beside it
// that may use it and nothing else.
func TestEngineChart(t *testing.T) {
	t.Run("rendered", func(t *testing.T) {
		for _, trust := range []string{"pull-request", "release"} {
			newEngineFiles(t, trust).checkChart(t, trust)
		}
	})
	t.Run("runners", func(t *testing.T) { newEngineFiles(t, "release").checkRunners(t) })
	t.Run("cluster", func(t *testing.T) {
		k := newKube(t)
		c := &engineOnNode{engineFiles: newEngineFiles(t, "e2e-engine"), kube: k}
		c.remove(t)
		defer c.remove(t)
		c.kubectl(t, "apply", "--filename", c.file("rbac.yaml"))
		t.Run("accepted", c.accepted)
		t.Run("allowed", c.allowed)
		t.Run("runs", c.runs)
	})
}

func (e *engineFiles) checkChart(t *testing.T, trust string) {
	t.Helper()
	if want := []string{"ConfigMap", "StatefulSet"}; !slices.Equal(e.kinds, want) {
		t.Errorf("the chart makes %v, want %v", e.kinds, want)
	}
	pod, claims := e.set.Spec.Template.Spec, e.set.Spec.VolumeClaimTemplates
	if len(claims) != 1 || len(pod.Containers) != 1 || len(pod.Volumes) != 1 || len(pod.InitContainers) != 0 {
		t.Fatalf("%d claims, %d containers, %d volumes, %d init containers", len(claims), len(pod.Containers), len(pod.Volumes), len(pod.InitContainers))
	}
	engine, size := pod.Containers[0], claims[0].Spec.Resources.Requests[corev1.ResourceStorage]
	for name, good := range map[string]bool{
		"the pod's name is the one of README.md":  e.set.Name == "slipway-engine",
		"one engine":                              *e.set.Spec.Replicas == 1,
		"the cache is on the claim":               engine.VolumeMounts[0].MountPath == "/var/lib/dagger" && engine.VolumeMounts[0].Name == claims[0].Name,
		"the claim stays":                         e.set.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		"no folder of the node's":                 pod.Volumes[0].HostPath == nil && pod.Volumes[0].ConfigMap != nil,
		"nothing of the node's but its kernel":    !pod.HostNetwork && !pod.HostPID && !pod.HostIPC,
		"no port":                                 len(engine.Ports) == 0 && len(engine.Args) == 0,
		"privileged, for it has to be":            *engine.SecurityContext.Privileged,
		"a version's image":                       strings.HasSuffix(engine.Image, ":"+daggerVersion(t)),
		"memory is limited, processors are not":   !engine.Resources.Limits.Memory().IsZero() && engine.Resources.Limits.Cpu().IsZero(),
		"memory and processors are asked for":     !engine.Resources.Requests.Memory().IsZero() && !engine.Resources.Requests.Cpu().IsZero(),
		"the nodes of its trust":                  maps.Equal(pod.NodeSelector, map[string]string{"slipway.dev/engine": trust}),
		"their taint is tolerated":                reflect.DeepEqual(pod.Tolerations, []corev1.Toleration{{Key: "slipway.dev/engine", Operator: "Equal", Value: trust, Effect: "NoSchedule"}}),
		"no second engine on its node":            antiAffine(e.set),
		"its priority":                            pod.PriorityClassName == "slipway-engine",
		"its own service account":                 pod.ServiceAccountName == "slipway-engine",
		"it is ready when it answers":             slices.Contains(engine.ReadinessProbe.Exec.Command, "dagger core version"),
		"a probe ends before the next one starts": engine.ReadinessProbe.TimeoutSeconds < engine.ReadinessProbe.PeriodSeconds,
		"builds may end":                          *pod.TerminationGracePeriodSeconds == 300,
	} {
		if !good {
			t.Errorf("%s: not so: %+v", name, pod)
		}
	}

	gc := e.limits(t)
	if names := slices.Sorted(maps.Keys(gc)); !slices.Equal(names, []string{"maxUsedSpace", "minFreeSpace", "reservedSpace"}) {
		t.Errorf("the collector's limits are %v", names)
	}
	if kept := gc["maxUsedSpace"] + gc["minFreeSpace"]; kept > size.Value() || gc["reservedSpace"] > gc["maxUsedSpace"] || gc["maxUsedSpace"] < size.Value()/2 {
		t.Errorf("the collector's limits %v do not fit a claim of %s", gc, size.String())
	}
}

// limits are the garbage collector's in bytes. The engine reads GB as powers of two.
func (e *engineFiles) limits(t *testing.T) map[string]int64 {
	t.Helper()
	var config struct {
		LogLevel string
		Security map[string]bool
		GC       map[string]string
	}
	if err := json.Unmarshal([]byte(e.config.Data["engine.json"]), &config); err != nil {
		t.Fatal(err)
	}
	if allowed, said := config.Security["insecureRootCapabilities"]; allowed || !said {
		t.Error("builds may ask for root on the node")
	}
	limits := map[string]int64{}
	for name, text := range config.GC {
		q, err := resource.ParseQuantity(strings.TrimSuffix(text, "B") + "i")
		if err != nil {
			t.Fatalf("%s: %s: %v", name, text, err)
		}
		limits[name] = q.Value()
	}
	return limits
}

func antiAffine(set appsv1.StatefulSet) bool {
	if set.Spec.Template.Spec.Affinity == nil || set.Spec.Template.Spec.Affinity.PodAntiAffinity == nil {
		return false
	}
	terms := set.Spec.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if len(terms) != 1 || terms[0].TopologyKey != corev1.LabelHostname || terms[0].NamespaceSelector == nil {
		return false
	}
	for key, value := range terms[0].LabelSelector.MatchLabels {
		if set.Spec.Template.Labels[key] != value {
			return false
		}
	}
	return len(terms[0].LabelSelector.MatchLabels) > 0
}

func daggerVersion(t *testing.T) string {
	t.Helper()
	return tool(t, "go", "list", "-C", "ci/local", "-m", "-f", "{{.Version}}", "github.com/dagger/dagger")
}

// checkRunners compares both charts' values with the engine's: the same nodes, the same engine, the one service account that may use it.
func (e *engineFiles) checkRunners(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(e.file("rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	kinds := documents(t, string(text), map[string]any{"Role": &role, "RoleBinding": &binding})
	slices.Sort(kinds)
	if want := []string{"Namespace", "Namespace", "NetworkPolicy", "NetworkPolicy", "PriorityClass", "Role", "RoleBinding", "ServiceAccount", "ServiceAccount"}; !slices.Equal(kinds, want) {
		t.Errorf("rbac.yaml has %v", kinds)
	}
	for _, rule := range role.Rules {
		if !slices.Equal(rule.ResourceNames, []string{e.set.Name + "-0"}) {
			t.Errorf("the role allows %v of %v", rule.Verbs, rule.ResourceNames)
		}
	}
	pod := e.set.Spec.Template.Spec
	user := binding.Subjects[0]

	if r := e.runner; r.ServiceAccountName != user.Name || !maps.Equal(r.NodeSelector, pod.NodeSelector) || !reflect.DeepEqual(r.Tolerations, pod.Tolerations) ||
		len(r.Containers) != 1 || r.Containers[0].Name != "runner" || r.Containers[0].Env[0].Value != e.url() {
		t.Errorf("GitHub's runners do not fit the engine: %+v", r)
	}

	gitlab := decode[gitlabValues](t, e.file("gitlab-runner.yaml"))
	var config struct {
		Runners []struct {
			Executor    string
			Environment []string
			Kubernetes  struct {
				Namespace       string
				Privileged      bool
				ServiceAccount  string            `json:"service_account"`
				NodeSelector    map[string]string `json:"node_selector"`
				NodeTolerations map[string]string `json:"node_tolerations"`
			}
		}
	}
	toml := e.file("config.toml")
	if err := os.WriteFile(toml, []byte(gitlab.Runners.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed := tool(t, "python3", "-c", "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))", toml)
	if err := json.Unmarshal([]byte(parsed), &config); err != nil || len(config.Runners) != 1 {
		t.Fatalf("%v: %s", err, parsed)
	}
	k := config.Runners[0].Kubernetes
	if k.Privileged || k.Namespace != user.Namespace || k.ServiceAccount != user.Name || !maps.Equal(k.NodeSelector, pod.NodeSelector) ||
		!maps.Equal(k.NodeTolerations, map[string]string{"slipway.dev/engine=" + pod.NodeSelector["slipway.dev/engine"]: "NoSchedule"}) ||
		!slices.Contains(config.Runners[0].Environment, "SLIPWAY_ENGINE="+e.url()) {
		t.Errorf("GitLab's runner does not fit the engine: %+v", config)
	}
	if gitlab.RBAC.ClusterWideAccess || gitlab.ServiceAccount.Name == user.Name {
		t.Errorf("GitLab's manager may do more than it has to: %+v", gitlab)
	}
}

// engineOnNode is an engine on the machine's node, under names of its own.
type engineOnNode struct {
	*engineFiles
	*kube
}

func (c *engineOnNode) runners() string { return c.ns + "-runners" }

// try is kubectl that may fail.
func (c *engineOnNode) try(t *testing.T, args ...string) output {
	t.Helper()
	return command(t, 3*time.Minute, c.kubectlBin, append([]string{"--kubeconfig", c.kubeconfig}, args...)...)
}

func (c *engineOnNode) remove(t *testing.T) {
	t.Helper()
	c.kubectl(t, "delete", "--filename", c.file("rbac.yaml"), "--ignore-not-found", "--timeout=120s")
	c.kubectl(t, "delete", "persistentvolume", c.ns, "--ignore-not-found", "--timeout=60s")
	c.kubectl(t, "label", "nodes", "--all", "slipway.dev/engine-")
}

// accepted asks the API server about everything, without leaving anything.
func (c *engineOnNode) accepted(t *testing.T) {
	for _, file := range []string{"rbac.yaml", "rendered.yaml"} {
		if out := c.try(t, "apply", "--dry-run=server", "--filename", c.file(file)); out.code != 0 || out.stderr != "" {
			t.Errorf("%s: exit code %d: %s%s", file, out.code, out.stdout, out.stderr)
		}
	}
	// Where jobs run, the engine's pod would not be let in; a runner's has nothing to complain about.
	engine := c.set.Spec.Template.Spec
	engine.Volumes = append(slices.Clone(engine.Volumes), corev1.Volume{Name: "data"})
	engine.ServiceAccountName = "default"
	if out := c.try(t, "create", "--dry-run=server", "--filename", c.pod(t, "engine", c.runners(), engine)); out.code == 0 || !strings.Contains(out.stderr, "privileged (container \"dagger-engine\" must not set securityContext.privileged=true)") {
		t.Errorf("a privileged pod among the runners: exit code %d: %s", out.code, out.stderr)
	}
	if out := c.try(t, "create", "--dry-run=server", "--filename", c.pod(t, "runner", c.runners(), c.runner)); out.code != 0 || strings.Contains(out.stderr, "Warning") {
		t.Errorf("a runner's pod: exit code %d: %s", out.code, out.stderr)
	}
}

// pod writes a Pod's manifest.
func (c *engineOnNode) pod(t *testing.T, name, namespace string, spec corev1.PodSpec) string {
	t.Helper()
	spec.RestartPolicy = corev1.RestartPolicyNever
	pod := corev1.Pod{Spec: spec}
	pod.APIVersion, pod.Kind, pod.Name, pod.Namespace = "v1", "Pod", name, namespace
	file := c.file(name + ".json")
	writeJSON(t, file, pod)
	return file
}

// allowed compares what the runner's service account may do with what any other one may.
func (c *engineOnNode) allowed(t *testing.T) {
	rules := func(account, namespace string) []string {
		var lines []string
		for line := range strings.SplitSeq(c.kubectl(t, "auth", "can-i", "--list", "--no-headers", "--namespace", namespace, "--as", account), "\n") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	prefix := "system:serviceaccount:" + c.runners() + ":"
	for _, namespace := range []string{c.ns, c.runners(), "default", "kube-system"} {
		plain := rules(prefix+"default", namespace)
		more := slices.DeleteFunc(rules(prefix+"slipway-runner", namespace), func(line string) bool { return slices.Contains(plain, line) })
		slices.Sort(more)
		var want []string
		if namespace == c.ns {
			want = []string{"pods [] [slipway-engine-0] [get]", "pods/exec [] [slipway-engine-0] [get create]"}
		}
		if !slices.Equal(more, want) {
			t.Errorf("%s: a runner may %q, want %q", namespace, more, want)
		}
	}
	// And in the words of who would try.
	for question, want := range map[string]string{
		"create pods/slipway-engine-0 --subresource=exec":                "yes",
		"get pods/slipway-engine-0":                                      "yes",
		"create pods/slipway-engine-1 --subresource=exec":                "no",
		"create pods/slipway-engine-0 --subresource=portforward":         "no",
		"create pods/slipway-engine-0 --subresource=attach":              "no",
		"update pods/slipway-engine-0 --subresource=ephemeralcontainers": "no",
		"delete pods/slipway-engine-0":                                   "no",
		"list pods":                                                      "no",
		"create pods":                                                    "no",
		"get secrets":                                                    "no",
		"get persistentvolumeclaims":                                     "no",
		"create serviceaccounts --subresource=token":                     "no",
		"update statefulsets.apps":                                       "no",
		"get nodes --subresource=proxy":                                  "no",
	} {
		args := slices.Concat([]string{"auth", "can-i"}, strings.Fields(question), []string{"--namespace", c.ns, "--as", prefix + "slipway-runner"})
		if out := c.try(t, args...); strings.TrimSpace(out.stdout) != want {
			t.Errorf("may a runner %s: %s%s, want %s", question, out.stdout, out.stderr, want)
		}
	}
	if out := c.try(t, "auth", "can-i", "get", "pods", "--namespace", c.ns, "--as", "system:serviceaccount:"+c.ns+":slipway-engine"); strings.TrimSpace(out.stdout) != "no" {
		t.Errorf("may the engine itself read pods: %s", out.stdout)
	}
}

// image is an engine from Dagger's modules, as ci/local compiles it, on Debian: Dagger's published image is not made from modules. What the chart
// relies on is the same: the paths, the command buildctl, and dagger for the probe.
func (c *engineOnNode) image(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("there is no mmdebstrap to make the engine's image with")
	}
	cache := machineStatus(t, filepath.Join(shared.root, "ci", "local", "run")).Cache
	binary, err := os.ReadFile(filepath.Join(cache, "bin", "dagger-engine"))
	if err != nil {
		t.Skipf("no engine was compiled: %v", err)
	}
	sum := sha256.Sum256(binary)
	image := shared.registry + "/e2e/engine:" + hex.EncodeToString(sum[:6])
	if command(t, time.Minute, "crane", "digest", "--insecure", image).code == 0 {
		return image
	}
	dir := t.TempDir()
	base, overlay, root := filepath.Join(dir, "base.tar"), filepath.Join(dir, "overlay.tar"), filepath.Join(dir, "root")
	tool(t, "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates,containernetworking-plugins,dnsmasq-base,git,iptables,ripgrep,runc", "bookworm", base)
	for to, from := range map[string]string{
		"usr/local/bin/dagger":        filepath.Join(cache, "bin", "dagger"),
		"usr/local/bin/dagger-engine": filepath.Join(cache, "bin", "dagger-engine"),
		"usr/local/bin/dagger-init":   filepath.Join(cache, "bin", "dagger-init"),
		"opt/cni/bin/dnsname":         filepath.Join(cache, "cni", "dnsname"),
	} {
		tool(t, "install", "-D", from, filepath.Join(root, to))
	}
	for _, plugin := range []string{"bridge", "firewall", "host-local", "loopback"} {
		if err := os.Symlink("/usr/lib/cni/"+plugin, filepath.Join(root, "opt/cni/bin", plugin)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "env", "CGO_ENABLED=0", "go", "build", "-C", "ci/local", "-buildvcs=false", "-gcflags=all=-dwarf=false -l", "-ldflags", "-s -w",
		"-o", filepath.Join(root, "usr/bin/buildctl"), "github.com/dagger/dagger/cmd/dialstdio")
	tool(t, "tar", "--create", "--file", overlay, "--directory", root, ".")
	tool(t, "crane", "append", "--insecure", "--new_layer", base, "--new_layer", overlay, "--new_tag", image)
	tool(t, "crane", "mutate", "--insecure", image, "--set-platform", "linux/"+tool(t, "go", "env", "GOARCH"), "--entrypoint", "/usr/local/bin/dagger-engine",
		"--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--env", "_EXPERIMENTAL_DAGGER_RUNNER_HOST=unix:///run/dagger/engine.sock", "--tag", image)
	return image
}

// clock is a build step whose result changes with every run, so that one from the cache is seen.
const clock = `package main

import "time"

func main() { println(time.Now().UnixNano()) }
`

// runs installs the chart, uses the engine from a runner's pod as a job would, and restarts it.
func (c *engineOnNode) runs(t *testing.T) {
	image := c.image(t)
	disk := t.TempDir()
	// The node has no storage class, and is smaller than a node for builds: a volume by hand, and less asked for. The rest is as in the file.
	writeJSON(t, c.file("volume.json"), map[string]any{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": c.ns}, "spec": map[string]any{
		"capacity": map[string]any{"storage": "200Gi"}, "accessModes": []string{"ReadWriteOnce"}, "persistentVolumeReclaimPolicy": "Retain",
		"hostPath": map[string]any{"path": disk}, "claimRef": map[string]any{"namespace": c.ns, "name": "data-slipway-engine-0"}}})
	c.kubectl(t, "apply", "--filename", c.file("volume.json"))
	c.kubectl(t, "label", "nodes", "--all", "slipway.dev/engine=e2e-engine")
	tool(t, "helm", "upgrade", "--install", "slipway", c.chart, "--kubeconfig", c.kubeconfig, "--namespace", c.ns, "--values", c.file("engine.yaml"),
		"--set", "engine.image.ref="+image, "--set-string", "engine.resources.requests.cpu=50m", "--set", "engine.resources.requests.memory=128Mi")
	// Its files are the pod's until it is gone.
	defer c.kubectl(t, "delete", "namespace", c.ns, "--ignore-not-found", "--timeout=120s")

	runner := c.runner
	runner.Containers = slices.Clone(runner.Containers)
	runner.Containers[0].Image, runner.Containers[0].Command = "docker.io/library/debian:bookworm", []string{"sleep", "infinity"}
	c.kubectl(t, "apply", "--filename", c.pod(t, "runner", c.runners(), runner))
	c.kubectl(t, "wait", "--namespace", c.runners(), "--for=condition=Ready", "--timeout=120s", "pod/runner")
	source := filepath.Join(t.TempDir(), "clock.go")
	if err := os.WriteFile(source, []byte(clock), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "env", "CGO_ENABLED=0", "go", "build", "-o", c.file("clock"), source)
	dagger, err := exec.LookPath("dagger")
	if err != nil {
		t.Fatal(err)
	}
	c.send(t, c.kubectlBin, "bin/kubectl")
	c.send(t, dagger, "bin/dagger")
	c.send(t, c.file("clock"), "root/clock")
	c.kubectl(t, "wait", "--namespace", c.ns, "--for=condition=Ready", "--timeout=180s", "pod/slipway-engine-0")

	// The pod's environment is that of github-runners.yaml, and ci/slipway hands it on in the same way.
	job := func(script string) output {
		return c.try(t, "exec", "--namespace", c.runners(), "runner", "--", "sh", "-c",
			"export HOME=/tmp PATH=/tmp/bin:$PATH DAGGER_NO_NAG=1 _EXPERIMENTAL_DAGGER_RUNNER_HOST=$SLIPWAY_ENGINE; "+script)
	}
	const step = "dagger core --silent container with-rootfs --directory /tmp/root "
	build := func() string {
		out := job(step + "with-exec --args /clock stderr")
		if out.code != 0 {
			t.Fatalf("a build: exit code %d: %s%s", out.code, out.stdout, out.stderr)
		}
		return strings.TrimSpace(out.stdout)
	}
	first := build()
	if _, err := strconv.ParseInt(first, 10, 64); err != nil {
		t.Errorf("a build prints %q", first)
	}
	if again := build(); again != first {
		t.Errorf("the second build ran again: %s after %s", again, first)
	}
	if other := job(step + "with-env-variable --name OTHER --value 1 with-exec --args /clock stderr"); strings.TrimSpace(other.stdout) == first {
		t.Errorf("another step took %s from the cache: this test sees nothing", first)
	}
	if out := job(step + "with-exec --args /clock --insecure-root-capabilities stderr"); out.code == 0 || !strings.Contains(out.stderr, "security.insecure is not allowed") {
		t.Errorf("a build that asks for root on the node: exit code %d: %s", out.code, out.stderr)
	}
	for option, want := range map[string]string{"max-used-space": "maxUsedSpace", "reserved-space": "reservedSpace", "min-free-space": "minFreeSpace"} {
		got := job("dagger core --silent engine local-cache " + option)
		if n, err := strconv.ParseFloat(strings.TrimSpace(got.stdout), 64); err != nil || int64(n) != c.limits(t)[want] {
			t.Errorf("the engine's %s is %s%s, want %d", want, got.stdout, got.stderr, c.limits(t)[want])
		}
	}

	// What a job's token is good for beside that.
	for _, try := range []string{"get secrets", "get pods", "delete pod slipway-engine-0", "port-forward pod/slipway-engine-0 8080:53"} {
		if out := job("timeout 20 kubectl --namespace " + c.ns + " " + try); out.code == 0 || !strings.Contains(out.stderr, "orbidden") {
			t.Errorf("a job's %s: exit code %d: %s%s", try, out.code, out.stdout, out.stderr)
		}
	}
	inside := func(script string) string {
		return c.kubectl(t, "exec", "--namespace", c.ns, "slipway-engine-0", "--", "sh", "-c", script)
	}
	if out := inside("ls /var/run/secrets/kubernetes.io 2>/dev/null || echo none"); out != "none" {
		t.Errorf("the engine's pod has a token: %s", out)
	}
	// 0A is listening. The name server of the engine's own network is the only one, and the policy's to close.
	if out := inside("cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" {sub(/.*:/, \"\", $2); print $2}' | sort -u"); out != "0035" {
		t.Errorf("the engine's pod listens on the ports %s", out)
	}

	before := c.kubectl(t, "get", "pod", "slipway-engine-0", "--namespace", c.ns, "--output", "jsonpath={.metadata.uid}")
	c.kubectl(t, "delete", "pod", "slipway-engine-0", "--namespace", c.ns, "--timeout=120s")
	c.kubectl(t, "wait", "--namespace", c.ns, "--for=create", "--timeout=60s", "pod/slipway-engine-0")
	c.kubectl(t, "wait", "--namespace", c.ns, "--for=condition=Ready", "--timeout=180s", "pod/slipway-engine-0")
	if after := c.kubectl(t, "get", "pod", "slipway-engine-0", "--namespace", c.ns, "--output", "jsonpath={.metadata.uid}"); after == before {
		t.Error("the engine did not restart")
	}
	if restarted := build(); restarted != first {
		t.Errorf("the cache is gone with the pod: %s after %s", restarted, first)
	}

	// As with sidecars.
	if out := job("_EXPERIMENTAL_DAGGER_RUNNER_HOST='" + c.url() + "&container=dagger-engine' dagger --silent core version"); out.code != 0 {
		t.Errorf("with a container: exit code %d: %s", out.code, out.stderr)
	}
}

// send copies a program into the runner's pod.
func (c *engineOnNode) send(t *testing.T, file, to string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	to = "/tmp/" + to
	cmd := exec.CommandContext(t.Context(), c.kubectlBin, "--kubeconfig", c.kubeconfig, "exec", "--namespace", c.runners(), "--stdin", "runner", "--",
		"sh", "-c", "mkdir -p "+filepath.Dir(to)+" && cat >"+to+" && chmod +x "+to)
	cmd.Stdin = in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", to, err, out)
	}
}
