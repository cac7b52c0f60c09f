package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestParseReadsEveryKey(t *testing.T) {
	const doc = `
name: shop
components:
  - {path: services/api, name: api, language: go}
lint: {tools: [vet]}
test: {race: on, coverage: 72.5, packages: [./a/...], tags: [integration], timeout: 90s}
build:
  main: [./cmd/api]
  entrypoint: api
  args: [serve]
  platforms: [linux/arm/v7]
  tags: [netgo]
  ldflags: ["-X main.version={{.Version}}"]
  env: {LEVEL: 3}
  user: 1000
  ports: [8080]
  labels: {org.example.team: shop}
scan:
  severity: medium
  fixableOnly: true
  database: registry.example.com/db:2
  maxDatabaseAge: 36h
  skip: ["docs/**"]
  licenses: {deny: [GPL-3.0-only], allow: [MPL-2.0]}
  exceptions:
    - id: CVE-2026-1
      package: pkg:golang/example.com/x
      path: a/*
      reason: not reachable
      expires: 2027-01-31
smoke: {port: 8080, health: /ok, requests: [{path: /, status: 204, contains: hi}], timeout: 5s}
verify: {require: [test, "https://example.com/p/v1"], maxAge: 2d}
deploy:
  strategy: canary
  deadline: 2m
  settle: 5s
  hold: 20s
  drain: 3s
  replicas: 3
  autoscale: {max: 6, cpu: 70}
  requests: {cpu: 10m}
  limits: {memory: 64Mi}
  traffic: {driver: gateway, route: shop, header: "X-Canary: always"}
  steps: [{weight: 10, hold: 30s}, {weight: 100}]
  analysis:
    prometheus: monitoring/prometheus:9090
    interval: 5s
    patience: 1m
    baseline: true
    metrics:
      - {preset: errors, source: traefik, times: 2, samples: 50}
      - {name: own, errors: 'failed{service="${service}"}', total: 'all{service="${service}"}', limit: "< 0.5"}
      - {name: depth, query: 'max(queue)', count: 'count(queue)', limit: ">= -1.5", dryRun: true}
      - {probe: {path: /deep, status: 204}}
      - {job: [check, -all]}
  hooks:
    before: [{name: migrate, command: [/app/migrate], args: [up], deadline: 10m}]
    after: [{name: smoke, args: [-selftest]}]
environments:
  prod: {repository: registry.example.com:5000/prod/shop, require: [scan], maxAge: 1d}
`
	got, err := Parse("slipway.yaml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	day := Date{time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)}
	want := Config{
		Name:       "shop",
		Components: []Component{{Path: "services/api", Name: "api", Language: "go"}},
		Lint:       Lint{Tools: []string{"vet"}},
		Test:       Test{Race: "on", Coverage: 72.5, Packages: []string{"./a/..."}, Tags: []string{"integration"}, Timeout: Duration(90 * time.Second)},
		Build: Build{Main: []string{"./cmd/api"}, Entrypoint: "api", Args: []string{"serve"}, Platforms: []string{"linux/arm/v7"}, Tags: []string{"netgo"},
			Ldflags: []string{"-X main.version={{.Version}}"}, Env: map[string]string{"LEVEL": "3"}, User: "1000", Ports: []int{8080},
			Labels: map[string]string{"org.example.team": "shop"}},
		Scan: Scan{Severity: "medium", FixableOnly: true, Database: "registry.example.com/db:2", MaxDatabaseAge: Duration(36 * time.Hour),
			Skip: []string{"docs/**"}, Licenses: Licenses{Deny: []string{"GPL-3.0-only"}, Allow: []string{"MPL-2.0"}},
			Exceptions: []Exception{{ID: "CVE-2026-1", Package: "pkg:golang/example.com/x", Path: "a/*", Reason: "not reachable", Expires: day, Line: 26}}},
		Smoke:  Smoke{Port: 8080, Health: "/ok", Requests: []Request{{Path: "/", Status: 204, Contains: "hi"}}, Timeout: Duration(5 * time.Second)},
		Verify: Verify{Require: []string{"test", "https://example.com/p/v1"}, MaxAge: Duration(48 * time.Hour)},
		Deploy: Deploy{Strategy: Canary, Deadline: Duration(2 * time.Minute), Settle: Duration(5 * time.Second), Hold: Duration(20 * time.Second),
			Drain: Duration(3 * time.Second), Replicas: 3, Autoscale: Autoscale{Max: 6, CPU: 70}, Requests: map[string]string{"cpu": "10m"},
			Limits: map[string]string{"memory": "64Mi"}, Traffic: Traffic{Driver: ByGateway, Route: "shop", Header: "X-Canary: always"},
			Steps: []Step{{10, Duration(30 * time.Second)}, {100, 0}},
			Analysis: Analysis{Prometheus: "monitoring/prometheus:9090", Interval: Duration(5 * time.Second), Patience: Duration(time.Minute), Baseline: true,
				Metrics: []Metric{
					{Preset: "errors", Source: "traefik", Times: 2, Samples: 50},
					{Name: "own", Errors: `failed{service="${service}"}`, Total: `all{service="${service}"}`, Limit: "< 0.5"},
					{Name: "depth", Query: "max(queue)", Count: "count(queue)", Limit: ">= -1.5", DryRun: true},
					{Probe: Request{Path: "/deep", Status: 204}},
					{Job: []string{"check", "-all"}},
				}},
			Hooks: Hooks{Before: []Hook{{Name: "migrate", Command: []string{"/app/migrate"}, Args: []string{"up"}, Deadline: Duration(10 * time.Minute)}},
				After: []Hook{{Name: "smoke", Args: []string{"-selftest"}}}}},
		Environments: map[string]Environment{"prod": {Repository: "registry.example.com:5000/prod/shop", Require: []string{"scan"},
			MaxAge: Duration(24 * time.Hour)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, want) {
		t.Errorf("through JSON: %s\ngot  %+v\nwant %+v", b, back, want)
	}
}

func TestAbsentMeansDefault(t *testing.T) {
	for _, doc := range []string{"", "\n# nothing\n", "---\n", "null", "{}", "lint:\ntest:\nenvironments:\n", "build: {args: }"} {
		got, err := Parse("slipway.yaml", []byte(doc))
		if err != nil || !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q: %+v, %v", doc, got, err)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	c := &checker{positions: map[string]position{"": {}}}
	cfg := Default()
	c.validate(&cfg)
	if err := c.err(); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, doc, want string }{
		{"unknown key", "buidl: {}", "slipway.yaml:1:1: buidl: unknown key: did you mean build?"},
		{"unknown nested key", "scan:\n  severty: low", "slipway.yaml:2:3: scan.severty: unknown key: did you mean severity?"},
		{"unknown key in list", "scan:\n  exceptions:\n    - cve: x", "slipway.yaml:3:7: scan.exceptions[0].cve: unknown key: use one of expires, id,"},
		{"key in wrong case", "scan: {fixableonly: true}", "did you mean fixableOnly?"},
		{"duplicate key", "name: a\nlint: {}\nname: b", "slipway.yaml:3:1: name: duplicate key: it stands in line 1 already"},
		{"duplicate label", "build:\n  labels: {a: x, a: y}", "build.labels.a: duplicate key"},
		{"list wanted", "test: {packages: ./...}", `slipway.yaml:1:18: test.packages: must be a list, not "./...": write [./...]`},
		{"mapping wanted", "lint: [vet]", "slipway.yaml:1:7: lint: must be a mapping of keys to values, not a list"},
		{"top is a list", "- a", "slipway.yaml:1:1: must be a mapping"},
		{"text wanted", "name: [a]", "name: must be text, not a list"},
		{"bool for text", "test: {race: true}", "test.race: must be text, not true"},
		{"number wanted", "test: {coverage: much}", `test.coverage: must be a number, not "much"`},
		{"fraction for port", "build: {ports: [80.5]}", `build.ports[0]: must be a whole number, not "80.5"`},
		{"huge int", "build: {ports: [99999999999999999999]}", "build.ports[0]: must be a whole number"},
		{"text for bool", "scan: {fixableOnly: 'yes'}", "scan.fixableOnly: must be true or false"},
		{"empty text", "name:", "slipway.yaml:1:6: name: must be text, not empty"},
		{"duration", "test: {timeout: soon}", `test.timeout: "soon" is not a duration: write 90s, 10m, 36h or 7d`},
		{"duration without unit", "test: {timeout: 30}", `test.timeout: "30" is not a duration`},
		{"negative duration", "test: {timeout: -5s}", `duration "-5s" is negative`},
		{"zero timeout", "smoke: {timeout: 0s}", "smoke.timeout: must be longer than 0"},
		{"date", "scan:\n  exceptions:\n    - {id: a, reason: b, expires: 31.1.2027}", `slipway.yaml:3:35: scan.exceptions[0].expires: "31.1.2027" is not a date`},
		{"date with clock", "scan: {exceptions: [{id: a, reason: b, expires: 2027-01-31T00:00:00Z}]}", "is not a date: write it as 2027-01-31"},
		{"severity", "scan: {severity: hihg}", `scan.severity: unknown value "hihg": did you mean high?`},
		{"lint tool", "lint:\n  tools: [vet, golangcilint]", `slipway.yaml:2:16: lint.tools[1]: unknown value "golangcilint": did you mean golangci-lint?`},
		{"lint tool twice", "lint: {tools: [vet, vet]}", `lint.tools[1]: "vet" is listed twice`},
		{"race", "test: {race: sometimes}", `test.race: unknown value "sometimes"`},
		{"platform os", "build: {platforms: [windows/amd64]}", `build.platforms[0]: platform "windows/amd64": only linux is supported`},
		{"platform arch", "build: {platforms: [linux/amd46]}", "unknown architecture: did you mean amd64?"},
		{"platform form", "build: {platforms: [amd64]}", "is not a platform: write linux/amd64"},
		{"platform variant", "build: {platforms: [linux/amd64/v9]}", "unknown variant"},
		{"same platform twice", "build: {platforms: [linux/arm64, linux/arm64/v8]}", "build.platforms[1]: \"linux/arm64/v8\" is listed twice"},
		{"no platform", "build: {platforms: []}", "build.platforms: is empty"},
		{"user root", "build: {user: 0}", `build.user: user "0" is root`},
		{"user root with group", "build: {user: '0:65532'}", "is root"},
		{"user zeros", "build: {user: '00'}", "is root"},
		{"user name", "build: {user: nobody}", `build.user: "nobody" is not a numeric uid`},
		{"user too large", "build: {user: '4294967296'}", "is too large"},
		{"exception without reason", "scan:\n  exceptions:\n    - id: CVE-1\n      expires: 2027-01-31", "slipway.yaml:3:7: scan.exceptions[0]: reason is missing: say why CVE-1 is accepted"},
		{"exception with blank reason", "scan: {exceptions: [{id: a, reason: ' ', expires: 2027-01-31}]}", "reason is missing"},
		{"exception without expiry", "scan:\n  exceptions:\n    - id: CVE-1\n      reason: x", "slipway.yaml:3:7: scan.exceptions[0]: expires is missing"},
		{"exception without id", "scan: {exceptions: [{reason: x, expires: 2027-01-31}]}", "id is missing"},
		{"coverage", "test: {coverage: 101}", "test.coverage: must be between 0 and 100 percent"},
		{"coverage nan", "test: {coverage: .nan}", "test.coverage: must be between 0 and 100 percent"},
		{"flag as package", "test: {packages: [-exec=sh]}", `test.packages[0]: "-exec=sh" is not a package pattern`},
		{"tag with space", "build: {tags: ['a b']}", `build.tags[0]: "a b" is not a build tag`},
		{"main outside", "build: {main: [../cmd]}", "build.main[0]: \"../cmd\" must be a relative path"},
		{"main absolute", "build: {main: [/cmd]}", "must be a relative path"},
		{"component outside", "components: [{path: a/../../b}]", "components[0].path"},
		{"component twice", "components: [{path: a}, {path: ./a}]", `components[1].path: "./a" is listed twice`},
		{"component without path", "components: [{name: a}]", "components[0]: path is missing"},
		{"port", "build: {ports: [0]}", "build.ports[0]: 0 is not a port"},
		{"port twice", "build: {ports: [80, 80]}", "80 is listed twice"},
		{"env", "build: {env: {A-B: x}}", `build.env.A-B: "A-B" is not an environment variable`},
		{"evidence", "verify: {require: [sdpx]}", `verify.require[0]: unknown evidence "sdpx": did you mean spdx?`},
		{"environment without repository", "environments:\n  prod: {}", "slipway.yaml:2:9: environments.prod: repository is missing"},
		{"environment with tag", "environments: {prod: {repository: 'registry.example.com/app:v1'}}", "environments.prod.repository"},
		{"licence denied and allowed", "scan: {licenses: {deny: [MIT], allow: [MIT]}}", `scan.licenses.allow[0]: "MIT" is denied, too`},
		{"strategy", "deploy: {strategy: bluegreen}", `deploy.strategy: unknown value "bluegreen": did you mean blue-green?`},
		{"deadline before settling", "deploy: {deadline: 10s}", "deploy.deadline: must be longer than deploy.settle (15s)"},
		{"no replicas", "deploy: {replicas: 0}", "deploy.replicas: must be between 1 and 1000"},
		{"autoscale below replicas", "deploy: {replicas: 4, autoscale: {max: 3}}", "deploy.autoscale.max: must be between deploy.replicas (4) and 1000"},
		{"CPU", "deploy: {autoscale: {cpu: 0}}", "deploy.autoscale.cpu: must be between 1 and 100 percent"},
		{"resource", "deploy: {requests: {mem: 1Gi}}", "deploy.requests.mem: unknown resource"},
		{"route", "deploy: {traffic: {route: A/B}}", `deploy.traffic.route: "A/B" is not an object's name`},
		{"header", "deploy: {traffic: {driver: gateway, header: X}}", `deploy.traffic.header: "X" is not a header`},
		{"header without a proxy", `deploy: {traffic: {header: "X: y"}}`, "deploy.traffic.header: needs a driver that reads requests"},
		{"no steps", "deploy: {steps: []}", "deploy.steps: is empty"},
		{"steps that fall", "deploy: {steps: [{weight: 50}, {weight: 5}, {weight: 100}]}", "deploy.steps[1].weight: 5 must be more than the step before (50)"},
		{"steps that do not arrive", "deploy: {steps: [{weight: 50}]}", "deploy.steps: must end with weight: 100"},
		{"Prometheus", "deploy: {analysis: {prometheus: localhost}}", `deploy.analysis.prometheus: "localhost" is neither`},
		{"baseline by pods", "deploy: {analysis: {baseline: true}}", "deploy.analysis.baseline: needs traffic of its own"},
		{"interval", "deploy: {analysis: {interval: 10ms}}", "deploy.analysis.interval: must be 1s or longer"},
		{"two metrics in one", "deploy: {analysis: {metrics: [{preset: errors, job: [x]}]}}", "deploy.analysis.metrics[0]: must have one of"},
		{"metric without Prometheus", "deploy: {analysis: {metrics: [{preset: errors}]}}", "deploy.analysis.metrics[0]: needs deploy.analysis.prometheus"},
		{"preset", "deploy: {analysis: {prometheus: a/b:c, metrics: [{preset: error}]}}", `deploy.analysis.metrics[0].preset: unknown value "error"`},
		{"query without limit", "deploy: {analysis: {prometheus: a/b:c, metrics: [{query: up}]}}", "deploy.analysis.metrics[0]: says what to measure, and not what is good"},
		{"limit", `deploy: {analysis: {metrics: [{probe: {path: /}, limit: "0.01"}]}}`, `deploy.analysis.metrics[0].limit: "0.01" is not a limit`},
		{"times", "deploy: {analysis: {prometheus: a/b:c, metrics: [{query: up, times: 0.5}]}}", "deploy.analysis.metrics[0].times: must be between 1 and 1000"},
		{"metric twice", "deploy: {analysis: {metrics: [{job: [a]}, {job: [b]}]}}", `deploy.analysis.metrics[1]: name "job" is used twice`},
		{"hook without command", "deploy: {hooks: {before: [{name: a}]}}", "deploy.hooks.before[0]: has neither command nor args"},
		{"hook's name", "deploy: {hooks: {after: [{name: A, args: [b]}]}}", `deploy.hooks.after[0]: name "A"`},
		{"health path", "smoke: {health: healthz}", `smoke.health: "healthz" is not a path: start it with /`},
		{"status", "smoke: {requests: [{path: /, status: 42}]}", "smoke.requests[0].status: 42 is not an HTTP status"},
		{"alias", "lint: &a {tools: [vet]}\ntest: *a", "anchors and aliases are not supported"},
		{"merge", "lint: {<<: {tools: [vet]}}", "merges are not supported"},
		{"alias bomb", "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]", "unknown key"},
		{"second document", "name: a\n---\nname: b", "a second document: keep one"},
		{"syntax", "name: [", "slipway.yaml: yaml: line 1"},
		{"tab", "build:\n\tuser: 1", "slipway.yaml: yaml: line 2"},
		{"too large", "#" + strings.Repeat("x", MaxSize), "larger than 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("slipway.yaml", []byte(tt.doc))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v\nwant %s", err, tt.want)
			}
			if !result.IsInput(err) {
				t.Error("not marked as input")
			}
		})
	}
}

func TestParseReportsAllErrorsAtOnce(t *testing.T) {
	_, err := Parse("f", []byte("nmae: a\nscan: {severity: x}\ntest: {timeout: y}"))
	if err == nil || strings.Count(err.Error(), "f:") != 2 {
		t.Errorf("%v", err)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Line != 1 || e.Column != 1 || e.Key != "nmae" {
		t.Errorf("%+v", e)
	}
	_, err = Parse("f", []byte("{"+unknownKeys(50)+"}"))
	if err == nil || !strings.HasSuffix(err.Error(), "and 30 more") {
		t.Errorf("%v", err)
	}
}

func unknownKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("zz" + strings.Repeat("q", i) + ": 1, ")
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), FileName)
	if _, err := Load(name); !errors.Is(err, fs.ErrNotExist) || !result.IsInput(err) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte("name: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(name); err != nil || c.Name != "x" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]string{"7d": "7d", "168h": "7d", "90s": "1m30s", "10m": "10m", "1h": "1h", "0": "0s", "1d12h": "36h", "1500ms": "1.5s"} {
		d, err := ParseDuration(in)
		if err != nil || d.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, d, err, want)
		}
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Errorf("%s does not read back: %v", d, err)
		}
	}
	for _, in := range []string{"", "d", "1x", "999999d", "-1d", "1d-48h", "1 d", "36500d2562047h"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q: accepted as %s", in, d)
		}
	}
}

func TestPlatform(t *testing.T) {
	for in, want := range map[string]string{"linux/amd64": "linux-amd64", "linux/arm64/v8": "linux-arm64", "linux/arm": "linux-arm-v7", "linux/amd64/v3": "linux-amd64-v3"} {
		if p, err := ParsePlatform(in); err != nil || p.Dir() != want {
			t.Errorf("%s: %s, %v", in, p.Dir(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "name: a", "scan: {exceptions: [{id: a, reason: b, expires: 2027-01-31}]}", "a: &a [*a]", "? [a]\n: b", "build: {user: 1:2, env: {A: ~}}",
		"test: {timeout: 1d}", "!!binary a", "--- a\n--- b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("f", data)
		if err != nil {
			return
		}
		// What is accepted must survive the way through plan.json.
		b, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(b) {
			t.Errorf("through JSON\n%s\n%s, %v", b, again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	doc := []byte("name: shop\nscan:\n  severity: medium\n  exceptions:\n" + strings.Repeat("    - {id: CVE-2026-1, reason: r, expires: 2027-01-31}\n", 200))
	for b.Loop() {
		if _, err := Parse("f", doc); err != nil {
			b.Fatal(err)
		}
	}
}
