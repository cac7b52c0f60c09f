package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Strategies and traffic drivers, by the names that slipway.yaml has for them.
const (
	Rolling   = "rolling"
	BlueGreen = "blue-green"
	Canary    = "canary"

	ByReplicas = "replicas"
	ByGateway  = "gateway"
	ByIstio    = "istio"
	ByNginx    = "nginx"
)

// Deploy says how a release gets to run in a cluster.
type Deploy struct {
	Strategy string `yaml:"strategy" json:"strategy"`
	// Deadline is how long the workloads may take to be ready, Settle how long they must have been so, without a restart, to count.
	Deadline Duration `yaml:"deadline" json:"deadline"`
	Settle   Duration `yaml:"settle" json:"settle"`
	// Hold is how long the old version stays ready to be switched back to, after all traffic has left it; Drain how long it stays after that,
	// for proxies that have not heard of it yet.
	Hold  Duration `yaml:"hold" json:"hold"`
	Drain Duration `yaml:"drain" json:"drain"`
	// Replicas, Autoscale, Requests and Limits are for manifests that Slipway makes.
	Replicas  int               `yaml:"replicas" json:"replicas"`
	Autoscale Autoscale         `yaml:"autoscale" json:"autoscale"`
	Requests  map[string]string `yaml:"requests" json:"requests,omitempty"`
	Limits    map[string]string `yaml:"limits" json:"limits,omitempty"`
	Traffic   Traffic           `yaml:"traffic" json:"traffic"`
	// Steps are the canary's ladder.
	Steps    []Step   `yaml:"steps" json:"steps"`
	Analysis Analysis `yaml:"analysis" json:"analysis"`
	Hooks    Hooks    `yaml:"hooks" json:"hooks"`
}

// Autoscale asks for a HorizontalPodAutoscaler.
type Autoscale struct {
	// Max is the largest number of pods; 0 asks for no autoscaler.
	Max int `yaml:"max" json:"max,omitempty"`
	// CPU is the processor use to aim at, in percent of what is requested.
	CPU int `yaml:"cpu" json:"cpu"`
}

// Traffic says what divides the requests between two versions.
type Traffic struct {
	Driver string `yaml:"driver" json:"driver"`
	// Route is the HTTPRoute, VirtualService or Ingress; by default the only one that leads to the application's Service.
	Route string `yaml:"route" json:"route,omitempty"`
	// Header of a request, as "Name: value", that always gets the new version: for testers.
	Header string `yaml:"header" json:"header,omitempty"`
}

// Step is one rung of the ladder.
type Step struct {
	// Weight is the new version's share of the requests, in percent.
	Weight int `yaml:"weight" json:"weight"`
	// Hold is how long the analysis watches it at least.
	Hold Duration `yaml:"hold" json:"hold"`
}

// Analysis decides by measurements whether a canary goes on.
type Analysis struct {
	// Prometheus is NAMESPACE/SERVICE:PORT, asked through the API server, or a URL.
	Prometheus string `yaml:"prometheus" json:"prometheus,omitempty"`
	// Interval is between two measurements; Patience how long a step may wait for enough samples beyond its hold.
	Interval Duration `yaml:"interval" json:"interval"`
	Patience Duration `yaml:"patience" json:"patience"`
	// Baseline runs the old version anew beside the canary, with as many pods and as much traffic, to compare like with like.
	Baseline bool     `yaml:"baseline" json:"baseline,omitempty"`
	Metrics  []Metric `yaml:"metrics" json:"metrics,omitempty"`
}

// Metric is one measurement: a preset, counters, a query, a probe or a job. In PromQL, ${namespace}, ${service}, ${deployment} and ${window}
// are replaced, for the new version and for the old one, which is the baseline.
type Metric struct {
	Name string `yaml:"name" json:"name,omitempty"`
	// Preset is errors or latency, as Source's metrics have them: traefik, istio, nginx, or http for the application's own.
	Preset string `yaml:"preset" json:"preset,omitempty"`
	Source string `yaml:"source" json:"source,omitempty"`
	// Errors and Total select counters; the value is the share of errors since the step began.
	Errors string `yaml:"errors" json:"errors,omitempty"`
	Total  string `yaml:"total" json:"total,omitempty"`
	// Query is PromQL for one number, Count the one for how many samples stand behind it.
	Query string `yaml:"query" json:"query,omitempty"`
	Count string `yaml:"count" json:"count,omitempty"`
	// Probe is a request to the new version, at every interval.
	Probe Request `yaml:"probe" json:"probe"`
	// Job runs the new version's image with this command, once in a step.
	Job []string `yaml:"job" json:"job,omitempty"`
	// Limit is what the value must be, as "<= 0.01"; Times how often the baseline's value it may be at most.
	Limit string  `yaml:"limit" json:"limit,omitempty"`
	Times float64 `yaml:"times" json:"times,omitempty"`
	// Samples is how many it needs to count.
	Samples int `yaml:"samples" json:"samples,omitempty"`
	// DryRun reports, and never decides.
	DryRun bool `yaml:"dryRun" json:"dryRun,omitempty"`
}

// Hooks are Jobs around a deployment, with the new version's image, environment and account.
type Hooks struct {
	// Before runs before anything changes, After once the new version has all the traffic.
	Before []Hook `yaml:"before" json:"before,omitempty"`
	After  []Hook `yaml:"after" json:"after,omitempty"`
}

// Hook is one command.
type Hook struct {
	Name string `yaml:"name" json:"name"`
	// Command replaces the image's entrypoint, Args its arguments; one of them may be absent.
	Command []string `yaml:"command" json:"command,omitempty"`
	Args    []string `yaml:"args" json:"args,omitempty"`
	// Deadline is how long it may run.
	Deadline Duration `yaml:"deadline" json:"deadline,omitempty"`
}

// defaultDeploy is a rolling deployment; the other strategies' values hold when they are chosen.
func defaultDeploy() Deploy {
	minute := Duration(time.Minute)
	return Deploy{Strategy: Rolling, Deadline: 5 * minute, Settle: Duration(15 * time.Second), Hold: Duration(30 * time.Second), Drain: Duration(10 * time.Second),
		Replicas: 2, Autoscale: Autoscale{CPU: 80}, Traffic: Traffic{Driver: ByReplicas},
		Steps:    []Step{{5, minute}, {25, minute}, {50, minute}, {100, minute}},
		Analysis: Analysis{Interval: Duration(10 * time.Second), Patience: 5 * minute}}
}

// Words that a key of deploy accepts.
var (
	strategies    = []string{Rolling, BlueGreen, Canary}
	drivers       = []string{ByReplicas, ByGateway, ByIstio, ByNginx}
	presets       = []string{"errors", "latency"}
	metricSources = []string{"traefik", "istio", "nginx", "http"}
)

var (
	objectName     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	hookName       = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$`)
	headerForm     = regexp.MustCompile(`^([A-Za-z0-9-]{1,100}): ?([!-~]{1,200})$`)
	prometheusForm = regexp.MustCompile(`^(https?://[^\s]+|[a-z0-9-]+/[a-z0-9-]+:[a-z0-9-]+)$`)
	limitForm      = regexp.MustCompile(`^(<=|<|>=|>) *(-?\d+(?:\.\d+)?)$`)
)

// Limit is what a value is held against.
type Limit struct {
	// Op is <, <=, > or >=.
	Op    string
	Value float64
}

// ParseLimit reads "<= 0.01".
func ParseLimit(s string) (Limit, error) {
	m := limitForm.FindStringSubmatch(s)
	if m == nil {
		return Limit{}, fmt.Errorf("%q is not a limit: write \"<= 0.01\" (or <, >, >=)", short(s))
	}
	v, err := strconv.ParseFloat(m[2], 64)
	return Limit{Op: m[1], Value: v}, err
}

// Keeps says whether v is within the limit.
func (l Limit) Keeps(v float64) bool {
	switch l.Op {
	case "<":
		return v < l.Value
	case "<=":
		return v <= l.Value
	case ">":
		return v > l.Value
	default:
		return v >= l.Value
	}
}

// ParseHeader takes "Name: value" apart.
func ParseHeader(s string) (name, value string, err error) {
	m := headerForm.FindStringSubmatch(s)
	if m == nil {
		return "", "", fmt.Errorf("%q is not a header: write \"X-Canary: always\"", short(s))
	}
	return m[1], m[2], nil
}

func (c *checker) deploy(d Deploy) {
	c.words("deploy.strategy", []string{d.Strategy}, strategies)
	c.words("deploy.traffic.driver", []string{d.Traffic.Driver}, drivers)
	if d.Deadline <= d.Settle {
		c.at("deploy.deadline", "must be longer than deploy.settle (%s)", d.Settle)
	}
	const most = 1000
	if d.Replicas < 1 || d.Replicas > most {
		c.at("deploy.replicas", "must be between 1 and %d", most)
	}
	if m := d.Autoscale.Max; m != 0 && (m < d.Replicas || m > most) {
		c.at("deploy.autoscale.max", "must be between deploy.replicas (%d) and %d", d.Replicas, most)
	}
	if d.Autoscale.CPU < 1 || d.Autoscale.CPU > 100 {
		c.at("deploy.autoscale.cpu", "must be between 1 and 100 percent")
	}
	if d.Traffic.Route != "" && !objectName.MatchString(d.Traffic.Route) {
		c.at("deploy.traffic.route", "%q is not an object's name", short(d.Traffic.Route))
	}
	if d.Traffic.Header != "" {
		if _, _, err := ParseHeader(d.Traffic.Header); err != nil {
			c.at("deploy.traffic.header", "%v", err)
		} else if d.Traffic.Driver == ByReplicas {
			c.at("deploy.traffic.header", "needs a driver that reads requests: set deploy.traffic.driver to gateway, istio or nginx")
		}
	}
	if d.Analysis.Baseline && d.Traffic.Driver != ByGateway && d.Traffic.Driver != ByIstio {
		c.at("deploy.analysis.baseline", "needs traffic of its own: set deploy.traffic.driver to gateway or istio")
	}
	c.steps(d.Steps)
	c.analysis(d.Analysis)
	seen := map[string]bool{}
	for key, hooks := range map[string][]Hook{"deploy.hooks.before": d.Hooks.Before, "deploy.hooks.after": d.Hooks.After} {
		for i, h := range hooks {
			if !hookName.MatchString(h.Name) {
				c.at(index(key, i), "name %q: use a-z, 0-9 and '-', 30 at most, and start with a letter", short(h.Name))
			} else if seen[h.Name] {
				c.at(index(key, i), "name %q is used twice", h.Name)
			}
			seen[h.Name] = true
			if len(h.Command)+len(h.Args) == 0 {
				c.at(index(key, i), "has neither command nor args: it would start the application itself")
			}
		}
	}
}

func (c *checker) steps(steps []Step) {
	const all = 100
	if len(steps) == 0 {
		c.at("deploy.steps", "is empty: remove the key for 5, 25, 50 and 100 percent")
		return
	}
	last := 0
	for i, s := range steps {
		if s.Weight <= last || s.Weight > all {
			c.at(join(index("deploy.steps", i), "weight"), "%d must be more than the step before (%d), and 100 at most", s.Weight, last)
		}
		last = s.Weight
	}
	if last != all {
		c.at("deploy.steps", "must end with weight: 100")
	}
}

func (c *checker) analysis(a Analysis) {
	if a.Prometheus != "" && !prometheusForm.MatchString(a.Prometheus) {
		c.at("deploy.analysis.prometheus", "%q is neither NAMESPACE/SERVICE:PORT nor a URL", short(a.Prometheus))
	}
	if a.Interval < Duration(time.Second) {
		c.at("deploy.analysis.interval", "must be 1s or longer")
	}
	seen := map[string]bool{}
	for i, m := range a.Metrics {
		c.metric(index("deploy.analysis.metrics", i), m, a.Prometheus != "")
		if name := m.Title(); seen[name] {
			c.at(index("deploy.analysis.metrics", i), "name %q is used twice", name)
		} else {
			seen[name] = true
		}
	}
}

// Title is the metric's name, or what it measures.
func (m Metric) Title() string {
	switch {
	case m.Name != "":
		return m.Name
	case m.Preset != "":
		return m.Preset
	case m.Probe.Path != "":
		return "probe " + m.Probe.Path
	case len(m.Job) > 0:
		return "job"
	}
	return "query"
}

func (c *checker) metric(key string, m Metric, prometheus bool) {
	kinds := 0
	for _, is := range []bool{m.Preset != "", m.Errors != "" || m.Total != "", m.Query != "", m.Probe.Path != "", len(m.Job) > 0} {
		if is {
			kinds++
		}
	}
	asks := m.Preset != "" || m.Errors != "" || m.Total != "" || m.Query != ""
	switch {
	case kinds != 1:
		c.at(key, "must have one of preset, errors with total, query, probe, job; it has %d", kinds)
	case m.Preset != "" && !slices.Contains(presets, m.Preset):
		c.at(join(key, "preset"), "unknown value %q: %s", short(m.Preset), suggest(m.Preset, presets))
	case m.Source != "" && !slices.Contains(metricSources, m.Source):
		c.at(join(key, "source"), "unknown value %q: %s", short(m.Source), suggest(m.Source, metricSources))
	case m.Source != "" && m.Preset == "":
		c.at(join(key, "source"), "is for a preset")
	case (m.Errors == "") != (m.Total == ""):
		c.at(key, "errors and total go together")
	case m.Count != "" && m.Query == "":
		c.at(join(key, "count"), "is for a query")
	case asks && !prometheus:
		c.at(key, "needs deploy.analysis.prometheus: where to ask, as NAMESPACE/SERVICE:PORT or a URL")
	}
	if m.Probe.Path != "" {
		c.urlPath(join(key, "probe.path"), m.Probe.Path)
	}
	if m.Limit != "" {
		if _, err := ParseLimit(m.Limit); err != nil {
			c.at(join(key, "limit"), "%v", err)
		}
	} else if m.Query != "" && m.Times == 0 {
		c.at(key, "says what to measure, and not what is good: add limit: \"<= 0.01\", or times: 2 for twice the baseline at most")
	}
	if m.Times != 0 && (m.Times < 1 || m.Times > 1000) {
		c.at(join(key, "times"), "must be between 1 and 1000")
	}
	if !asks && m.Times != 0 {
		c.at(join(key, "times"), "is for what Prometheus measures")
	}
	if m.Samples < 0 {
		c.at(join(key, "samples"), "is negative")
	}
}

// quantities refuses resources with other names than pods have; their values are Kubernetes' to read.
func (c *checker) quantities(key string, q map[string]string) {
	known := []string{"cpu", "memory", "ephemeral-storage"}
	for _, k := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, k) && !strings.Contains(k, "/") {
			c.at(join(key, k), "unknown resource: %s", suggest(k, known))
		}
	}
}
