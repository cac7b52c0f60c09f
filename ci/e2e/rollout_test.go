//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// request is what the load writes about one request; see ci/e2e/load.
type request struct {
	At      int64   `json:"at"`
	Took    float64 `json:"took"`
	Through string  `json:"through"`
	Code    int     `json:"code"`
	Release string  `json:"release"`
	Error   string  `json:"error"`
}

func (r request) failed() bool { return r.Code != 200 }

// answered is when the answer came, in milliseconds since 1970.
func (r request) answered() int64 { return r.At + int64(r.Took) }

// record is the part of a deployment's record that is measured.
type record struct {
	Verdict  string `json:"verdict"`
	Summary  string `json:"summary"`
	Strategy string `json:"strategy"`
	Digest   string `json:"digest"`
	By       string `json:"by"`
	Phases   []struct {
		Phase  string    `json:"phase"`
		Step   int       `json:"step"`
		Weight int       `json:"weight"`
		At     time.Time `json:"at"`
	} `json:"phases"`
	Decisions []struct {
		Metric  string   `json:"metric"`
		Value   *float64 `json:"value"`
		Limit   string   `json:"limit"`
		Samples int64    `json:"samples"`
		Query   string   `json:"query"`
		Verdict string   `json:"verdict"`
	} `json:"decisions"`
}

// entered is when the record says that a phase began, the first or the last time; zero when it never did.
func (r record) entered(phase string) (at time.Time) {
	for _, p := range r.Phases {
		if p.Phase == phase && at.IsZero() {
			at = p.At
		}
	}
	return at
}

// busy is an application under load on the machine's own cluster, behind its Gateway.
type busy struct {
	*kube
	ns, source, gateway string
	failing             string // a source whose slipway.yaml has a hook that fails
	load                string
	releases            map[string]string // digest of each
	rows                [][]string
}

// progressiveSettings are short, so that the table is: what takes a minute in life takes seconds here.
const progressiveSettings = `
deploy:
  strategy: canary
  deadline: 1m
  settle: 2s
  hold: 3s
  drain: 3s
  traffic: {driver: gateway}
  steps: [{weight: 10, hold: 4s}, {weight: 50, hold: 4s}, {weight: 100, hold: 4s}]
  analysis:
    prometheus: %s
    interval: 2s
    patience: 30s
    baseline: true
    metrics:
      - {preset: errors, times: 2, limit: "<= 0.05"}
      - {preset: latency, limit: "<= 1"}
      - {probe: {path: /healthz}}
  hooks:
    before: [{name: migrate, args: [-migrate=%s]}]
    after: [{name: smoke, args: [-migrate=well]}]
`

func newBusy(t *testing.T) *busy {
	t.Helper()
	b := &busy{kube: newKube(t), ns: "busy", releases: map[string]string{}}
	status := machineStatus(t, filepath.Join(shared.root, "ci", "local", "run"))
	b.gateway = status.Cluster.Gateway
	b.load = filepath.Join(t.TempDir(), "load")
	tool(t, "go", "build", "-C", shared.root, "-o", b.load, "./ci/e2e/load")
	b.namespace(t, b.ns)

	copied := filepath.Join(t.TempDir(), "unsteady")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(shared.root, "testdata", "unsteady"))); err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(filepath.Join(copied, "slipway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// Two images: a rollback needs another digest to go back to. And a source whose migration fails.
	for _, release := range [][]string{{"v3", "badly"}, {"v1", "well"}, {"v2", "well"}} {
		tag, migration := release[0], release[1]
		text := string(settings) + fmt.Sprintf(progressiveSettings, status.Cluster.Prometheus, migration) + "name: unsteady\n"
		text = strings.Replace(text, "build:\n", "build:\n  labels: {org.example.release: "+tag+"}\n", 1)
		if err := os.WriteFile(filepath.Join(copied, "slipway.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.source = gitRepository(t, copied)
		if migration == "badly" {
			b.failing = b.source
			continue
		}
		mustDagger(t, "--source", b.source, "--registry", "tcp://"+shared.registry, "pipeline", "--publish", b.image(tag), "--key", "file:"+shared.keys+"/cosign.key",
			"--password", "env:E2E_PASSWORD", "--database", shared.database, "--move-tag")
		b.releases[tag] = tool(t, "crane", "digest", b.image(tag))
	}
	return b
}

func (b *busy) image(tag string) string { return shared.registry + "/deploy/unsteady:" + tag }

// manifests of the application, with what goes wrong as arguments.
func (b *busy) manifests(t *testing.T, extra string, args ...string) string {
	t.Helper()
	quoted, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return manifests(t, fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: unsteady}
spec:
  replicas: 2
  selector: {matchLabels: {app: unsteady}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: unsteady}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: unsteady
        image: slipway
        args: %s
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
%s---
apiVersion: v1
kind: Service
metadata: {name: unsteady}
spec: {selector: {app: unsteady}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: unsteady}
spec:
  parentRefs: [{name: shared, namespace: slipway-gateway}]
  hostnames: [unsteady.test]
  rules: [{backendRefs: [{name: unsteady, port: 80}]}]
`, quoted, extra))
}

// access are the arguments that say where the cluster is.
func (b *busy) access() []string {
	return []string{"--kubeconfig", "file:" + b.kubeconfig, "--cluster", b.service, "--namespace", b.ns}
}

func (b *busy) deploy(tag, manifests string, more ...string) []string {
	return slices.Concat([]string{"--source", b.source, "--registry", "tcp://" + shared.registry, "release", "--reference", b.image(tag), "deploy"}, b.access(),
		[]string{"--public-key", shared.keys + "/cosign.pub", "--by", "e2e", "--manifests", manifests}, more)
}

// deployment are the arguments for what is done about a deployment.
func (b *busy) deployment(do string, more ...string) []string {
	return slices.Concat([]string{"--source", b.source, "--registry", "tcp://" + shared.registry, "deployment"}, b.access(), []string{do}, more)
}

// history is the deployments' record, the latest first.
func (b *busy) history(t *testing.T) []record {
	t.Helper()
	var all []record
	if err := json.Unmarshal([]byte(mustDagger(t, b.deployment("history", "--format", "json")...)), &all); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	return all
}

// state is where the deployment under way stands, by the ConfigMap itself.
func (b *busy) state(t *testing.T) string {
	t.Helper()
	text := b.kubectl(t, "get", "configmap/slipway-unsteady", "--namespace", b.ns, "--output", `jsonpath={.data.state\.json}`)
	var s struct {
		Phase string `json:"phase"`
		Step  int    `json:"step"`
	}
	if text == "" {
		return ""
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %d", s.Phase, s.Step)
}

// awaitState waits until a deployment has come somewhere.
func (b *busy) awaitState(t *testing.T, want string) {
	t.Helper()
	for range 600 {
		if b.state(t) == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the deployment never came to %q: it is at %q", want, b.state(t))
}

// underLoad sends requests through the Gateway and the Service while do runs.
func (b *busy) underLoad(t *testing.T, do func()) []request {
	t.Helper()
	ip := b.kubectl(t, "get", "service/unsteady", "--namespace", b.ns, "--output", "jsonpath={.spec.clusterIP}")
	cmd := exec.Command("nsenter", "--net=/run/netns/"+b.network, b.load, "-gateway", b.gateway, "-host", "unsteady.test", "-service", ip+":80")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	do()
	time.Sleep(2 * time.Second)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the load: %v: %s", err, said.String())
	}
	var all []request
	for dec := json.NewDecoder(&out); dec.More(); {
		var r request
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if len(all) < 100 {
		t.Fatalf("only %d requests were sent", len(all))
	}
	return all
}

// outcome is what one case gave.
type outcome struct {
	requests []request
	record   record
	// bad is the release whose answers may fail; empty when none may.
	bad string
	// share says that the new release's share of the requests may fail, also without an answer of its own: it has traffic when it ends.
	share bool
	// most is how long the way back may take, until the last answer of the new release; zero asks for nothing.
	most time.Duration
}

// row judges a case, and keeps it for the table.
func (b *busy) row(t *testing.T, name, fresh string, o outcome) {
	t.Helper()
	failures, first, last := 0, int64(0), int64(0)
	for _, r := range o.requests {
		if r.failed() {
			failures++
			if own := o.bad != "" && r.Release == o.bad && r.Code == 500; !own && !o.share {
				t.Errorf("%s: a request through %s failed: %d of %q: %s", name, r.Through, r.Code, r.Release, r.Error)
			}
		}
		if r.Release == fresh {
			if at := r.answered(); first == 0 || at < first {
				first = at
			}
			last = max(last, r.At)
		}
	}
	decision, back := "-", "-"
	decided := o.record.entered("returning")
	if decided.IsZero() {
		decided = o.record.entered("restoring")
	}
	if !decided.IsZero() {
		began := o.record.entered("preparing").UnixMilli()
		if first != 0 {
			began = first
		}
		decision = fmt.Sprintf("%.1f s", float64(decided.UnixMilli()-began)/1000)
		took := time.Duration(max(0, last-decided.UnixMilli())) * time.Millisecond
		back = fmt.Sprintf("%.1f s", took.Seconds())
		if o.most > 0 && took > o.most {
			t.Errorf("%s: the new release still answered %s after the decision, and %s are allowed", name, took, o.most)
		}
	}
	b.rows = append(b.rows, []string{name, strconv.Itoa(len(o.requests)), strconv.Itoa(failures), decision, back, o.record.Verdict})
}

func (b *busy) table(t *testing.T) {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tREQUESTS\tFAILED\tTO DECISION\tTO ROLLBACK\tVERDICT")
	for _, r := range b.rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("deployments under load: 100 requests per second, half through the Gateway and half through the Service, half of each over new connections\n%s", text.String())
}

// TestDeployUnderLoad does to an application under constant load what a day in production does, by every strategy. Nobody may notice, but who gets a
// canary that fails.
func TestDeployUnderLoad(t *testing.T) {
	b := newBusy(t)
	defer b.table(t)
	mustDagger(t, b.deploy("v1", b.manifests(t, "", "-release=one"), "--strategy", "rolling")...)
	good := func(name, tag, release string, more ...string) {
		t.Run(name, func(t *testing.T) {
			dir := b.manifests(t, "", "-release="+release)
			all := b.underLoad(t, func() { mustDagger(t, b.deploy(tag, dir, more...)...) })
			b.row(t, name, release, outcome{requests: all, record: b.history(t)[0]})
		})
	}
	bad := func(name, release, want string, o outcome, extra string, args []string, more ...string) {
		t.Run(name, func(t *testing.T) {
			dir := b.manifests(t, extra, append([]string{"-release=" + release}, args...)...)
			o.requests = b.underLoad(t, func() { refused(t, b.deploy("v1", dir, more...), want, "rolled back to the last good deployment") })
			o.record = b.history(t)[0]
			b.row(t, name, release, o)
			b.agrees(t)
		})
	}
	good("good, rolling", "v1", "two", "--strategy", "rolling")
	good("good, blue-green", "v1", "three", "--strategy", "blue-green")
	good("good, canary", "v2", "four")
	const ended, missing = "was ready, and then a container of it has ended", "ErrImagePull"
	bad("20 % errors, canary", "failing", "errors: ", outcome{bad: "failing", most: 5 * time.Second}, "", []string{"-errors=0.2"})
	t.Run("20 % errors, and why", b.decisionsAreWhole)
	good("good after an abort, canary", "v1", "again")
	bad("never ready, canary", "unready", "not done after 12s", outcome{most: 5 * time.Second}, "", []string{"-unready"}, "--deadline", "12s")
	bad("never ready, rolling", "unready", "not done after 12s", outcome{most: 30 * time.Second}, "", []string{"-unready"}, "--deadline", "12s", "--strategy", "rolling")
	bad("crashes after 10 s, blue-green", "crashing", ended, outcome{}, "", []string{"-crash-after=10s"}, "--strategy", "blue-green", "--settle", "15s", "--deadline", "50s")
	bad("crashes after 10 s, canary", "crashing", ended, outcome{}, "", []string{"-crash-after=10s"}, "--settle", "15s", "--deadline", "50s")
	bad("crashes when it has traffic, canary", "crashing", "", outcome{most: 5 * time.Second, share: true}, "", []string{"-crash-after=10s"})
	bad("crashes after 10 s, rolling", "crashing", ended, outcome{most: 30 * time.Second, share: true}, "", []string{"-crash-after=10s"}, "--strategy", "rolling", "--settle", "15s", "--deadline", "50s")
	bad("an image that is not there, rolling", "missing", missing, outcome{most: 30 * time.Second},
		"      - {name: beside, image: \""+shared.registry+"/deploy/nowhere@sha256:"+strings.Repeat("0", 64)+"\"}\n", nil, "--strategy", "rolling")

	t.Run("a hook before that fails", func(t *testing.T) {
		generation := func() string {
			return b.kubectl(t, "get", "deployments,services,httproutes", "--namespace", b.ns, "--output", "jsonpath={.items[*].metadata.uid} {.items[*].metadata.generation}")
		}
		was, dir := generation(), b.manifests(t, "", "-release=never")
		for _, strategy := range []string{"rolling", "canary"} {
			args := b.deploy("v1", dir, "--strategy", strategy)
			args[slices.Index(args, b.source)] = b.failing
			refused(t, args, "hook migrate: failed", "| migration ends badly")
			if now := generation(); now != was {
				t.Errorf("%s: the hook failed, and something changed:\n%s\n%s", strategy, was, now)
			}
		}
	})

	t.Run("a fix over a broken version", func(t *testing.T) {
		mustDagger(t, b.deploy("v1", b.manifests(t, "", "-release=broken", "-errors=1"), "--strategy", "rolling")...)
		dir := b.manifests(t, "", "-release=fixed")
		all := b.underLoad(t, func() { mustDagger(t, b.deploy("v1", dir)...) })
		b.row(t, "a fix over a broken version, canary", "fixed", outcome{requests: all, record: b.history(t)[0], bad: "broken"})
		b.agrees(t)
	})

	t.Run("killed in the middle, and resumed", func(t *testing.T) {
		dir := b.manifests(t, "", "-release=five")
		all := b.underLoad(t, func() {
			b.killAt(t, "analysing 1", b.deploy("v1", dir))
			if out := mustDagger(t, b.deployment("status")...); !strings.Contains(out, "analysing") {
				t.Errorf("status in the middle: %s", out)
			}
			refused(t, b.deployment("resume"), "is being deployed by e2e")
			for n := 0; ; n++ { // until the dead run's lease has ended
				time.Sleep(5 * time.Second)
				out := dagger(t, b.deployment("resume", "--by", "another machine")...)
				if out.code == 0 {
					break
				}
				if n == 12 || !strings.Contains(out.stderr, "is being deployed by e2e") {
					t.Fatalf("resume: exit code %d\n%s", out.code, out.stderr)
				}
			}
		})
		b.row(t, "killed in the middle, and resumed", "five", outcome{requests: all, record: b.history(t)[0]})
		b.agrees(t)
	})

	t.Run("killed in the middle, and aborted", func(t *testing.T) {
		dir := b.manifests(t, "", "-release=six")
		all := b.underLoad(t, func() {
			b.killAt(t, "analysing 1", b.deploy("v2", dir))
			mustDagger(t, b.deployment("abort", "--by", "another machine")...) // it waits for the dead run's lease to end
		})
		rec := b.history(t)[0]
		if rec.Verdict != "fail" || !strings.Contains(rec.Summary, "aborted by another machine") {
			t.Errorf("the record says %s: %s", rec.Verdict, rec.Summary)
		}
		b.row(t, "killed in the middle, and aborted", "six", outcome{requests: all, record: rec, most: 5 * time.Second})
		b.agrees(t)
	})

	t.Run("the API server starts again, canary", func(t *testing.T) {
		dir := b.manifests(t, "", "-release=seven")
		all := b.underLoad(t, func() {
			ended := b.background(t, b.deploy("v2", dir))
			b.awaitState(t, "analysing 1")
			tool(t, "pkill", "-9", "-f", filepath.Join(filepath.Dir(b.kubectlBin), "kube-apiserver"))
			time.Sleep(3 * time.Second)
			tool(t, filepath.Join(shared.root, "ci", "local", "run"), "up", "--registry-only", "--cluster")
			if out := <-ended; out.code != 0 {
				t.Errorf("exit code %d\n%s", out.code, out.stderr)
			}
		})
		b.row(t, "the API server starts again, canary", "seven", outcome{requests: all, record: b.history(t)[0]})
		b.agrees(t)
	})

	t.Run("aborted when it had all the traffic, blue-green", func(t *testing.T) {
		dir := b.manifests(t, "", "-release=eight")
		all := b.underLoad(t, func() {
			ended := b.background(t, b.deploy("v1", dir, "--strategy", "blue-green"))
			b.awaitState(t, "holding 0")
			mustDagger(t, b.deployment("abort", "--by", "a person")...)
			if out := <-ended; out.code == 0 || !strings.Contains(out.stderr, "aborted by a person") {
				t.Errorf("exit code %d\n%s", out.code, out.stderr)
			}
		})
		b.row(t, "aborted when it had all the traffic, blue-green", "eight", outcome{requests: all, record: b.history(t)[0]})
		b.agrees(t)
	})

	t.Run("rollback by hand, blue-green", func(t *testing.T) {
		was := b.history(t)
		was = was[slices.IndexFunc(was, func(r record) bool { return r.Verdict == "pass" }):] // what serves; the one after it was aborted
		all := b.underLoad(t, func() {
			mustDagger(t, b.deployment("rollback", "--strategy", "blue-green", "--public-key", shared.keys+"/cosign.pub", "--by", "a person")...)
		})
		now := b.history(t)
		if now[0].Digest == was[0].Digest || now[0].Verdict != "pass" {
			t.Errorf("the rollback led from %s to %s: %s", was[0].Digest, now[0].Digest, now[0].Summary)
		}
		b.row(t, "rollback by hand, blue-green", "", outcome{requests: all, record: now[0]})
		b.agrees(t)
	})

	t.Run("rollback to what is trusted no more", func(t *testing.T) {
		stranger := filepath.Join(t.TempDir(), "stranger")
		mustDagger(t, "key-pair", "--password", "env:E2E_PASSWORD", "export", "--path", stranger)
		args := b.deployment("rollback", "--strategy", "rolling", "--public-key", filepath.Join(stranger, "cosign.pub"))
		refused(t, args, "rollback: refused", "signed by another key", "--despite-evidence")
		if out := mustDagger(t, append(args, "--despite-evidence")...); !strings.Contains(out, "although its evidence does not hold") {
			t.Errorf("it went back, and did not say that the evidence does not hold: %s", out)
		}
		b.agrees(t)
	})
}

// background runs dagger call while the test goes on.
func (b *busy) background(t *testing.T, args []string) <-chan output {
	ended := make(chan output, 1)
	go func() { ended <- dagger(t, args...) }()
	return ended
}

// killAt starts a deployment and kills it, without a word, when it has come somewhere.
func (b *busy) killAt(t *testing.T, state string, args []string) {
	t.Helper()
	cmd := exec.Command("dagger", append([]string{"call", "--silent"}, args...)...)
	cmd.Dir = shared.root
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.awaitState(t, state)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

// agrees compares what status says with kubectl, and with an answer through the Gateway.
func (b *busy) agrees(t *testing.T) {
	t.Helper()
	var status struct {
		Serving struct {
			Digest string `json:"digest"`
		} `json:"serving"`
		Running   *json.RawMessage `json:"running"`
		Workloads []struct {
			Name   string   `json:"name"`
			Ready  int      `json:"ready"`
			Images []string `json:"images"`
			Drift  string   `json:"drift"`
		} `json:"workloads"`
	}
	if err := json.Unmarshal([]byte(mustDagger(t, b.deployment("status", "--format", "json")...)), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Workloads) != 1 || status.Workloads[0].Drift != "" || status.Workloads[0].Ready != 2 || status.Running != nil {
		t.Fatalf("status: %+v", status)
	}
	deployments := b.kubectl(t, "get", "deployments", "--namespace", b.ns, "--output", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.spec.template.spec.containers[0].image} {.status.readyReplicas}{"\n"}{end}`)
	want := strings.TrimPrefix(status.Workloads[0].Name, "Deployment ") + " " + status.Workloads[0].Images[0] + " 2"
	if deployments != want || !strings.HasSuffix(status.Workloads[0].Images[0], "@"+status.Serving.Digest) {
		t.Errorf("kubectl sees\n%s\nand status says\n%s, serving %s", deployments, want, status.Serving.Digest)
	}
	services := b.kubectl(t, "get", "services", "--namespace", b.ns, "--output", "name")
	if services != "service/unsteady" {
		t.Errorf("left behind: %s", services)
	}
	rules := b.kubectl(t, "get", "httproute/unsteady", "--namespace", b.ns, "--output", "jsonpath={.spec.rules[*].backendRefs[*].name}")
	if rules != "unsteady" {
		t.Errorf("the route leads to %s", rules)
	}
	if got := tool(t, "nsenter", "--net=/run/netns/"+b.network, "curl", "--silent", "--fail", "--header", "Host: unsteady.test", "http://"+b.gateway+"/"); got == "" {
		t.Error("curl gets nothing")
	}
}

// decisionsAreWhole: each shows query, value, limit and sample count.
func (b *busy) decisionsAreWhole(t *testing.T) {
	t.Helper()
	rec := b.history(t)[0]
	if len(rec.Decisions) == 0 {
		t.Errorf("no decision in the record of %s", rec.Summary)
	}
	failed := false
	for _, d := range rec.Decisions {
		failed = failed || d.Verdict == "fail"
		if d.Query == "" || d.Limit == "" || d.Value == nil || d.Samples == 0 {
			t.Errorf("a decision says too little: %+v", d)
		}
	}
	if !failed {
		t.Errorf("the canary was aborted, and no decision failed: %+v", rec.Decisions)
	}
}
