//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A project is one kind of real input that has to reach a promoted release.
type project struct {
	name   string
	source func(t *testing.T) string
	args   []string // constructor arguments beside --source
	stages []string // that have to pass
}

var everyStage = []string{"plan", "lint", "test", "build", "image", "sbom", "vulndb", "scan", "attest", "sign", "publish", "verify", "promote"}

func folder(elem ...string) func(*testing.T) string {
	return func(t *testing.T) string {
		return gitRepository(t, filepath.Join(append([]string{shared.root}, elem...)...))
	}
}

// module is a published module's source in the module cache, fetched now.
func module(at string) func(*testing.T) string {
	return func(t *testing.T) string {
		var m struct{ Dir string }
		if err := json.Unmarshal([]byte(tool(t, "go", "mod", "download", "-json", at)), &m); err != nil {
			t.Fatal(err)
		}
		return m.Dir
	}
}

func projects() []project {
	configs := filepath.Join(shared.root, "testdata", "thirdparty")
	return []project{
		{name: "sample", source: folder("testdata", "sample"), stages: append(slices.Clone(everyStage), "smoke")},
		{name: "crane", source: module("github.com/google/go-containerregistry@v0.22.1"),
			args: []string{"--config", filepath.Join(configs, "crane.yaml"), "--version", "v0.22.1"}, stages: everyStage},
		{name: "age", source: module("filippo.io/age@v1.2.1"),
			args: []string{"--config", filepath.Join(configs, "age.yaml"), "--version", "v1.2.1"}, stages: everyStage},
		{name: "slipway", source: func(*testing.T) string { return shared.root }, stages: everyStage},
	}
}

type summary struct {
	Verdict string `json:"verdict"`
	Stages  []struct {
		Stage   string `json:"stage"`
		Verdict string `json:"verdict"`
		Summary string `json:"summary"`
	} `json:"stages"`
	Digest string `json:"digest"`
}

// TestStreet takes every kind of project from source to a promoted release, and lets cosign and crane judge it.
func TestStreet(t *testing.T) {
	for _, p := range projects() {
		t.Run(p.name, func(t *testing.T) {
			staging := shared.registry + "/staging/" + p.name
			production := shared.registry + "/production/" + p.name
			dir := filepath.Join(t.TempDir(), "report")
			args := slices.Concat([]string{"--source", p.source(t), "--registry", "tcp://" + shared.registry}, p.args, []string{
				"pipeline-report", "--publish", staging + ":e2e", "--promote", production + ":e2e", "--move-tag",
				"--key", "file:" + shared.keys + "/cosign.key", "--password", "env:E2E_PASSWORD", "--database", shared.database,
				"files", "export", "--path", dir})
			mustDagger(t, args...)

			s := readJSON[summary](t, filepath.Join(dir, "summary.json"))
			text, err := os.ReadFile(filepath.Join(dir, "summary.txt"))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s", text)
			if s.Verdict != "pass" {
				t.Fatalf("verdict = %q, want pass", s.Verdict)
			}
			for _, want := range p.stages {
				if !slices.ContainsFunc(s.Stages, func(st struct {
					Stage   string `json:"stage"`
					Verdict string `json:"verdict"`
					Summary string `json:"summary"`
				}) bool {
					return st.Stage == want && st.Verdict == "pass"
				}) {
					t.Errorf("stage %s did not pass", want)
				}
			}
			for _, file := range []string{"report.html", "stages/lint/lint.sarif", "stages/test/junit.xml", "stages/test/cobertura.xml",
				"stages/sbom/linux-amd64/sbom.spdx.json", "stages/sbom/linux-amd64/sbom.cdx.json", "stages/scan/scan.sarif",
				"stages/verify/verification.json"} {
				if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
					t.Errorf("report file %s: %v", file, err)
				}
			}

			judge(t, staging, production, s.Digest)
			if p.name == "slipway" {
				// What it released is what others pull instead of compiling.
				out := mustDagger(t, "--source", filepath.Join(shared.root, "testdata", "sample"), "--toolbox", production+":e2e", "plan")
				if !strings.Contains(out, "sample") {
					t.Errorf("its own image as a toolbox: %s", out)
				}
			}
		})
	}
}

// judge asks tools that are not ours about the release.
func judge(t *testing.T, staging, production, digest string) {
	t.Helper()
	for _, repo := range []string{staging, production} {
		if got := tool(t, "crane", "digest", repo+":e2e"); got != digest {
			t.Errorf("crane digest %s = %s, want %s", repo, got, digest)
		}
		tool(t, "crane", "validate", "--remote", repo+"@"+digest)
		cosign := []string{"--key", shared.keys + "/cosign.pub", "--insecure-ignore-tlog=true"}
		tool(t, "cosign", slices.Concat([]string{"verify"}, cosign, []string{repo + "@" + digest})...)
		for _, kind := range []string{"spdxjson", "cyclonedx", "slsaprovenance1", "https://in-toto.io/attestation/vulns/v0.2",
			"https://in-toto.io/attestation/test-result/v0.1"} {
			tool(t, "cosign", slices.Concat([]string{"verify-attestation", "--type", kind}, cosign, []string{repo + "@" + digest})...)
		}
	}
	tool(t, "cosign", "verify-attestation", "--type", "https://slipway.dev/attestations/promotion/v1",
		"--key", shared.keys+"/cosign.pub", "--insecure-ignore-tlog=true", production+"@"+digest)
	// A judge that accepts everything proves nothing.
	out := command(t, time.Minute, "cosign", "verify-attestation", "--type", "https://slipway.dev/attestations/promotion/v1",
		"--key", shared.keys+"/cosign.pub", "--insecure-ignore-tlog=true", staging+"@"+digest)
	if out.code == 0 {
		t.Errorf("%s carries a promotion record before it was promoted", staging)
	}
}
