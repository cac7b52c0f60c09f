package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/ci/e2e/images"
)

// programs measures each stage's program against the tool that it stands for: same input, same machine, no engine.
func (b *bench) programs(ctx context.Context) error {
	in, err := b.stageInputs(ctx)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		what, tool string
		ours       []*command
		theirs     []*command
	}{
		{"sbom of the golang image", "syft", []*command{in.sbom(in.big, "golang")}, []*command{in.syft(filepath.Join(in.big, "linux-amd64"))}},
		{"sbom of the sample's two images", "syft, twice", []*command{in.sbom(in.small, "sample")},
			[]*command{in.syft(filepath.Join(in.small, "linux-amd64")), in.syft(filepath.Join(in.small, "linux-arm64"))}},
		{"scan of the golang image and a source tree", "trivy sbom, trivy fs", []*command{in.scan("golang")},
			[]*command{in.trivy("golang/linux-amd64"), in.trivySource()}},
		{"scan of the sample's images and source", "trivy sbom twice, trivy fs", []*command{in.scan("sample")},
			[]*command{in.trivy("sample/linux-amd64"), in.trivy("sample/linux-arm64"), in.trivySource()}},
		{"sign and publish: 1 image, 8 statements", "crane push, cosign sign, 8 cosign attest", in.signAndPublish(), in.cosignAndCrane()},
		{"verify: signature, 5 kinds of evidence, every byte", "cosign verify, 5 cosign verify-attestation", []*command{in.verify()}, in.cosignVerify()},
	} {
		ours, err := b.median(ctx, all(p.ours))
		if err != nil {
			return err
		}
		theirs, err := b.median(ctx, all(p.theirs))
		if err != nil {
			return err
		}
		b.add(row{what: p.what, took: ours, baseline: p.tool, baselineTook: theirs, aim: 1.1})
	}
	return nil
}

// all runs commands one after the other.
func all(commands []*command) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		var sum time.Duration
		for _, c := range commands {
			took, err := c.run(ctx)
			if err != nil {
				return 0, err
			}
			sum += took
		}
		return sum, nil
	}
}

// stageInputs are what the stages' programs and the tools get.
type stageInputs struct {
	b          *bench
	dir        string
	source     string
	small, big string // layouts
	digest     string // of the small one
	now        string
}

func (b *bench) stageInputs(ctx context.Context) (*stageInputs, error) {
	in := &stageInputs{b: b, dir: b.path("programs"), small: b.path("programs", "small"), big: b.path("programs", "big"),
		now: time.Now().UTC().Format(time.RFC3339)}
	var err error
	if in.source, err = b.sample(ctx, "programs"); err != nil {
		return nil, err
	}
	golang := filepath.Join(in.dir, "golang.tar")
	for _, c := range []*command{
		b.dagger("--source", in.source, "build", "layout", "export", "--path", in.small),
		b.dagger("--source", in.source, "--registry", "tcp://"+b.registry, "pipeline-report", "--publish", b.registry+"/bench/programs/sample:v1",
			"--move-tag", "--key", "file:"+b.path("keys", "cosign.key"), "--password", "env:COSIGN_PASSWORD", "--database", b.database(),
			"files", "export", "--path", filepath.Join(in.dir, "report")),
		b.command("dagger", "core", "--silent", "container", "from", "--address", "docker.io/library/golang:1.26-bookworm",
			"as-tarball", "export", "--path", golang),
		in.command("trivy", "image", "--quiet", "--download-db-only", "--db-repository", b.database()),
	} {
		if _, err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	if in.digest, err = digestOf(filepath.Join(in.dir, "report", "summary.json")); err != nil {
		return nil, err
	}
	if err := images.FromArchive(golang, in.big); err != nil {
		return nil, err
	}
	for _, layout := range []string{in.small, in.big} {
		if err := images.Split(layout); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(in.dir, "password"), []byte("bench"), 0o600); err != nil {
		return nil, err
	}
	for _, c := range []*command{in.sbom(in.small, "sample"), in.sbom(in.big, "golang")} {
		if _, err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func digestOf(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var s struct {
		Digest string `json:"digest"`
	}
	return s.Digest, json.Unmarshal(data, &s)
}

func (in *stageInputs) command(name string, args ...string) *command {
	c := in.b.command(name, args...)
	c.env = []string{"TRIVY_CACHE_DIR=" + in.dir + "/trivy", "SYFT_CHECK_FOR_APP_UPDATE=false"}
	return c
}

// out is a stage's output directory.
func (in *stageInputs) out(stage string) string { return filepath.Join(in.dir, "out", stage) }

func (in *stageInputs) plan() string {
	return filepath.Join(in.dir, "report", "stages", "plan", "plan.json")
}

func (in *stageInputs) sbom(layout, name string) *command {
	return in.command("sbom", "-layout", layout, "-name", name, "-epoch", "0", "-out", in.out("sbom-"+name))
}

func (in *stageInputs) syft(layout string) *command {
	return in.command("syft", "scan", "-q", "oci-dir:"+layout, "-o", "spdx-json="+filepath.Join(in.dir, "syft.spdx.json"), "-o", "cyclonedx-json="+filepath.Join(in.dir, "syft.cdx.json"))
}

func (in *stageInputs) scan(name string) *command {
	c := in.command("scan", "-sbom", in.out("sbom-"+name), "-db", in.b.path("db"), "-source", in.source, "-plan", in.plan(), "-now", in.now, "-out", in.out("scan-"+name))
	c.finding = true // an image of Debian's has licences that the default policy minds
	return c
}

func (in *stageInputs) trivy(sbom string) *command {
	name, platform, _ := strings.Cut(sbom, "/")
	return in.command("trivy", "sbom", "--quiet", "--skip-db-update", "--offline-scan", "--scanners", "vuln,license",
		filepath.Join(in.out("sbom-"+name), platform, "sbom.cdx.json"))
}

func (in *stageInputs) trivySource() *command {
	return in.command("trivy", "fs", "--quiet", "--scanners", "secret,misconfig", "--offline-scan", in.source)
}

func (in *stageInputs) signAndPublish() []*command {
	repository := in.b.registry + "/bench/ours/sample"
	return []*command{
		in.command("sign", "-digest", in.digest, "-name", repository, "-statements", filepath.Join(in.dir, "report", "stages", "attest", "statements"),
			"-key", in.b.path("keys", "cosign.key"), "-password", filepath.Join(in.dir, "password"), "-out", in.out("sign")),
		in.command("publish", "-layout", in.small, "-signed", filepath.Join(in.out("sign"), "signed"), "-ref", repository+":v1", "-move-tag", "-out", in.out("publish")),
	}
}

func (in *stageInputs) cosignAndCrane() []*command {
	ref := in.b.registry + "/bench/theirs/sample@" + in.digest
	signing := []string{"--yes", "--tlog-upload=false", "--key", in.b.path("keys", "cosign.key")}
	commands := []*command{in.command("crane", "push", "--index", in.small, in.b.registry+"/bench/theirs/sample:v1"),
		in.command("cosign", slices.Concat([]string{"sign"}, signing, []string{ref})...)}
	sbom := filepath.Join(in.out("sbom-sample"), "linux-amd64", "sbom.spdx.json")
	for range 8 {
		commands = append(commands, in.command("cosign", slices.Concat([]string{"attest"}, signing, []string{"--type", "spdxjson", "--predicate", sbom, ref})...))
	}
	return commands
}

func (in *stageInputs) verify() *command {
	return in.command("verify", "-ref", in.b.registry+"/bench/programs/sample@"+in.digest, "-pub", in.b.path("keys", "cosign.pub"), "-plan", in.plan(),
		"-now", in.now, "-out", in.out("verify"))
}

func (in *stageInputs) cosignVerify() []*command {
	with := []string{"--key", in.b.path("keys", "cosign.pub"), "--insecure-ignore-tlog=true"}
	ref := in.b.registry + "/bench/programs/sample@" + in.digest
	commands := []*command{in.command("cosign", slices.Concat([]string{"verify"}, with, []string{ref})...)}
	for _, kind := range []string{"spdxjson", "cyclonedx", "slsaprovenance1", "https://in-toto.io/attestation/vulns/v0.2",
		"https://in-toto.io/attestation/test-result/v0.1"} {
		commands = append(commands, in.command("cosign", slices.Concat([]string{"verify-attestation", "--type", kind}, with, []string{ref})...))
	}
	return commands
}
