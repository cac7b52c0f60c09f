package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// native is what somebody does by hand, with the tools that the field uses, to get the sample where the pipeline takes it.
type native struct {
	steps []step
}

// step is a few commands, one after the other.
type step struct {
	name string
	// lane is the chain that it belongs to: chains need nothing of each other. What has none comes after all of them.
	lane     string
	commands []*command
}

// timing is how long each step of a run took.
type timing struct {
	steps []step
	took  []time.Duration
}

// run does every step alone, so that no step's time depends on what runs beside it.
func (n *native) run(ctx context.Context) (*timing, error) {
	t := &timing{steps: n.steps}
	for _, s := range n.steps {
		var sum time.Duration
		for _, c := range s.commands {
			took, err := c.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			sum += took
		}
		t.took = append(t.took, sum)
	}
	return t, nil
}

// total is the time of the steps in a row.
func (t *timing) total() (sum time.Duration) {
	for _, d := range t.took {
		sum += d
	}
	return sum
}

// critical is the longest chain of steps that wait for each other: what is left with enough cores.
func (t *timing) critical() time.Duration {
	lanes := map[string]time.Duration{}
	for i, s := range t.steps {
		lanes[s.lane] += t.took[i]
	}
	longest := time.Duration(0)
	for lane, d := range lanes {
		if lane != "" {
			longest = max(longest, d)
		}
	}
	return longest + lanes[""]
}

func (t *timing) String() string {
	var parts []string
	for i, s := range t.steps {
		parts = append(parts, s.name+" "+seconds(t.took[i]))
	}
	return strings.Join(parts, ", ")
}

// native lists the commands for the source, with caches of their own under home.
func (b *bench) native(source, home string) (*native, error) {
	out := filepath.Join(home, "out")
	for _, dir := range []string{out, filepath.Join(out, "linux-amd64"), filepath.Join(out, "linux-arm64")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
	}
	caches := []string{"GOCACHE=" + home + "/go-build", "GOMODCACHE=" + home + "/mod", "GOLANGCI_LINT_CACHE=" + home + "/golangci",
		"TRIVY_CACHE_DIR=" + home + "/trivy", "SYFT_CHECK_FOR_APP_UPDATE=false", "GOFLAGS=-modcacherw"}
	in := func(dir, name string, args ...string) *command {
		c := b.command(name, args...)
		c.dir, c.env = dir, caches
		return c
	}
	at := func(name string, args ...string) *command { return in(source, name, args...) }
	here := func(name string, args ...string) *command { return in(out, name, args...) }

	build, image, sbom := step{name: "build", lane: "build"}, step{name: "image", lane: "build"}, step{name: "sbom", lane: "build"}
	publish := step{name: "publish"}
	staging, production := b.registry+"/bench/native-staging/sample", b.registry+"/bench/native-production/sample"
	index := []string{"index", "append", "-t", staging + ":v1"}
	scan := step{name: "scan", lane: "build", commands: []*command{
		here("trivy", "image", "--quiet", "--download-db-only", "--db-repository", b.database()),
		here("trivy", "fs", "--quiet", "--scanners", "secret,misconfig", "--skip-check-update", "--offline-scan", source)}}
	for _, arch := range []string{"amd64", "arm64"} {
		dir := "linux-" + arch
		compile := at("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(out, dir, "sample"), "./cmd/sample")
		compile.env = append(slices.Clone(caches), "CGO_ENABLED=0", "GOARCH="+arch)
		build.commands = append(build.commands, compile)
		image.commands = append(image.commands,
			here("tar", "-C", dir, "-cf", dir+".layer.tar", "sample"),
			here("crane", "append", "--oci-empty-base", "--platform", "linux/"+arch, "-f", dir+".layer.tar", "-t", staging+":"+arch, "-o", dir+".tar"))
		sbom.commands = append(sbom.commands, here("syft", "scan", "-q", "docker-archive:"+dir+".tar", "-o", "spdx-json="+dir+".spdx.json", "-o", "cyclonedx-json="+dir+".cdx.json"))
		scan.commands = append(scan.commands, here("trivy", "sbom", "--quiet", "--skip-db-update", "--offline-scan", dir+".cdx.json"))
		publish.commands = append(publish.commands, here("crane", "push", dir+".tar", staging+":"+arch))
		index = append(index, "-m", staging+":"+arch)
	}
	publish.commands = append(publish.commands, here("crane", index...))

	key, pub := b.path("keys", "cosign.key"), b.path("keys", "cosign.pub")
	signing := []string{"--yes", "--tlog-upload=false", "--key", key}
	sign := step{name: "sign", commands: []*command{here("cosign", slices.Concat([]string{"sign"}, signing, []string{staging + ":v1"})...)}}
	predicate := filepath.Join(out, "predicate.json")
	data, err := json.Marshal(map[string]any{"buildDefinition": map[string]any{"buildType": "https://example.com/by-hand", "externalParameters": map[string]any{}},
		"runDetails": map[string]any{"builder": map[string]any{"id": "https://example.com/somebody"}}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(predicate, data, 0o600); err != nil {
		return nil, err
	}
	for _, a := range []struct{ kind, file string }{
		{"spdxjson", "linux-amd64.spdx.json"}, {"spdxjson", "linux-arm64.spdx.json"}, {"cyclonedx", "linux-amd64.cdx.json"},
		{"cyclonedx", "linux-arm64.cdx.json"}, {"https://in-toto.io/attestation/vulns/v0.2", predicate},
		{"https://in-toto.io/attestation/test-result/v0.1", predicate}, {"slsaprovenance1", predicate}, {"custom", predicate},
	} {
		sign.commands = append(sign.commands, here("cosign", slices.Concat([]string{"attest"}, signing, []string{"--type", a.kind, "--predicate", a.file, staging + ":v1"})...))
	}
	verify := func(repository string) (all []*command) {
		with := []string{"--key", pub, "--insecure-ignore-tlog=true"}
		all = append(all, here("cosign", slices.Concat([]string{"verify"}, with, []string{repository + ":v1"})...))
		for _, kind := range []string{"spdxjson", "cyclonedx", "slsaprovenance1", "https://in-toto.io/attestation/vulns/v0.2",
			"https://in-toto.io/attestation/test-result/v0.1"} {
			all = append(all, here("cosign", slices.Concat([]string{"verify-attestation", "--type", kind}, with, []string{repository + ":v1"})...))
		}
		return all
	}
	return &native{steps: []step{
		{name: "lint", lane: "lint", commands: []*command{at("gofmt", "-l", "."), at("go", "vet", "./..."), at("golangci-lint", "run"),
			at("go", "mod", "tidy", "-diff"), at("go", "mod", "verify")}},
		{name: "test", lane: "test", commands: []*command{at("go", "test", "-race", "-covermode=atomic", "-coverprofile="+filepath.Join(out, "coverage.out"), "./...")}},
		build, image, sbom, scan, publish, sign,
		{name: "verify", commands: verify(staging)},
		{name: "promote", commands: []*command{here("cosign", "copy", "-f", staging+":v1", production+":v1")}},
		{name: "verify again", commands: verify(production)},
	}}, nil
}
