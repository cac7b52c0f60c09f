package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"dagger/slipway/internal/dagger"
)

// Do all of it: lint, test, build, SBOM, scan, smoke test, sign, publish, verify, promote, and deploy if a cluster is given.
//
// It stops at the first gate that does not open, prints the summary, and fails unless every gate opened.
//
// +cache="never"
func (s *Slipway) Pipeline(
	ctx context.Context,
	// Where to publish: ghcr.io/you/app:1.2.3. Without it, the pipeline ends after the checks.
	//
	// +optional
	publish string,
	// Where to promote to afterwards, one after the other.
	//
	// +optional
	promote []string,
	// The private key, PEM (cosign's or PKCS#8): file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// The public key (PEM) to verify with; by default the one that belongs to the signing key.
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service instead: awskms://, gcpkms://, azurekms://, hashivault://
	//
	// +optional
	kms string,
	// The vulnerability database as an OCI reference; mirrors may follow, tried in order.
	//
	// +optional
	database []string,
	// The vulnerability database as a folder with trivy.db and metadata.json, for machines without network.
	//
	// +optional
	databaseDir *dagger.Directory,
	// An environment of slipway.yaml whose requirements hold for verification.
	//
	// +optional
	environment string,
	// Let existing tags point to this image from now on.
	//
	// +optional
	moveTag bool,
	// A Kubernetes cluster to deploy to in the end: file:kubeconfig. It holds its certificates and tokens itself.
	//
	// +optional
	kubeconfig *dagger.Secret,
	// A cluster on the caller's own machine (kind, k3d, minikube): tcp://127.0.0.1:6443
	//
	// +optional
	cluster *dagger.Service,
	// The kubeconfig's context, if not its current one.
	//
	// +optional
	kubeContext string,
	// The Kubernetes namespace to deploy to; by default the context's.
	//
	// +optional
	namespace string,
	// Manifests to apply; without them, good ones are made. See "release deploy".
	//
	// +optional
	manifests *dagger.Directory,
	// Values for a Helm chart; of several files, the later ones win.
	//
	// +optional
	values []*dagger.File,
	// Who deploys, for the record.
	//
	// +optional
	// +default="dagger call"
	by string,
	// Where to tell how the deployment ended: env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (string, error) {
	r, err := s.PipelineReport(ctx, publish, promote, key, password, publicKey, kms, database, databaseDir, environment, moveTag,
		kubeconfig, cluster, kubeContext, namespace, manifests, values, by, webhook)
	if err != nil {
		return "", err
	}
	return r.Gate()
}

// Do all of it and hand over the reports, also when it failed: report.html, summary.txt, summary.json and every stage's files.
//
// "pipeline-report files export --path report" writes them; "pipeline-report gate" fails as pipeline does.
//
// +cache="never"
func (s *Slipway) PipelineReport(
	ctx context.Context,
	// Where to publish: ghcr.io/you/app:1.2.3. Without it, the pipeline ends after the checks.
	//
	// +optional
	publish string,
	// Where to promote to afterwards, one after the other.
	//
	// +optional
	promote []string,
	// The private key, PEM (cosign's or PKCS#8): file:cosign.key
	//
	// +optional
	key *dagger.Secret,
	// The private key's password: env:COSIGN_PASSWORD
	//
	// +optional
	password *dagger.Secret,
	// The public key (PEM) to verify with; by default the one that belongs to the signing key.
	//
	// +optional
	publicKey *dagger.File,
	// The key in a key management service instead: awskms://, gcpkms://, azurekms://, hashivault://
	//
	// +optional
	kms string,
	// The vulnerability database as an OCI reference; mirrors may follow, tried in order.
	//
	// +optional
	database []string,
	// The vulnerability database as a folder with trivy.db and metadata.json, for machines without network.
	//
	// +optional
	databaseDir *dagger.Directory,
	// An environment of slipway.yaml whose requirements hold for verification.
	//
	// +optional
	environment string,
	// Let existing tags point to this image from now on.
	//
	// +optional
	moveTag bool,
	// A Kubernetes cluster to deploy to in the end: file:kubeconfig. It holds its certificates and tokens itself.
	//
	// +optional
	kubeconfig *dagger.Secret,
	// A cluster on the caller's own machine (kind, k3d, minikube): tcp://127.0.0.1:6443
	//
	// +optional
	cluster *dagger.Service,
	// The kubeconfig's context, if not its current one.
	//
	// +optional
	kubeContext string,
	// The Kubernetes namespace to deploy to; by default the context's.
	//
	// +optional
	namespace string,
	// Manifests to apply; without them, good ones are made. See "release deploy".
	//
	// +optional
	manifests *dagger.Directory,
	// Values for a Helm chart; of several files, the later ones win.
	//
	// +optional
	values []*dagger.File,
	// Who deploys, for the record.
	//
	// +optional
	// +default="dagger call"
	by string,
	// Where to tell how the deployment ended: env:WEBHOOK_URL
	//
	// +optional
	webhook *dagger.Secret,
) (*Report, error) {
	switch {
	case len(promote) > 0 && publish == "":
		return nil, errors.New("pipeline: --promote without --publish: there is no release to promote")
	case kubeconfig != nil && publish == "":
		return nil, errors.New("pipeline: --kubeconfig without --publish: there is no release to deploy")
	case publish != "" && key == nil && kms == "":
		return nil, errors.New("pipeline: --publish without a key: give --key file:cosign.key, or --kms with a key management service's URI")
	}
	p := &pipeline{slipway: s, began: time.Now(), publish: publish, promote: promote, key: key, password: password, publicKey: publicKey,
		kms: kms, database: database, databaseDir: databaseDir, environment: environment, moveTag: moveTag}
	if kubeconfig != nil {
		p.deployment = s.Deployment(kubeconfig, cluster, kubeContext, namespace, "")
		p.rollout = &rollout{manifests: manifests, values: values, flags: []string{"-by", by}, key: key, password: password, kms: kms, webhook: webhook}
	}
	p.run(ctx)
	return p.report(ctx)
}

// pipeline is one run: its arguments and what its stages reported.
type pipeline struct {
	slipway     *Slipway
	began       time.Time
	publish     string
	promote     []string
	key         *dagger.Secret
	password    *dagger.Secret
	publicKey   *dagger.File
	kms         string
	database    []string
	databaseDir *dagger.Directory
	environment string
	moveTag     bool
	// deployment is where to deploy to, and rollout how; nil when not.
	deployment *Deployment
	rollout    *rollout

	mu     sync.Mutex
	stages []*stageRun
	facts  *planFacts
	digest string
	refs   []releaseRef
}

// stageRun is a stage on the time line. Its JSON is the report stage's input.
type stageRun struct {
	Stage string `json:"stage"`
	Title string `json:"title"`
	// Dir is the stage's folder among the results; empty when it did not run.
	Dir     string  `json:"dir,omitempty"`
	Start   float64 `json:"startSeconds"`
	Seconds float64 `json:"seconds"`
	NotRun  string  `json:"notRun,omitempty"`
	// Exit is the stage program's exit code.
	Exit int `json:"exitCode"`

	files *dagger.Directory
}

type releaseRef struct {
	Kind      string `json:"kind"`
	Reference string `json:"reference"`
}

// street is every stage in the order of the report.
var street = []struct{ stage, title string }{
	{"plan", "Plan"}, {"key", "Signing key"}, {"lint", "Lint"}, {"test", "Test"}, {"build", "Build"}, {"image", "Image"}, {"sbom", "SBOM"},
	{"vulndb", "Vulnerability database"}, {"scan", "Scan"}, {"smoke", "Smoke test"}, {"attest", "Attest"}, {"sign", "Sign"},
	{"publish", "Publish"}, {"verify", "Verify"}, {"promote", "Promote"}, {"deploy", "Deploy"},
}

func title(stage string) string {
	for _, s := range street {
		if s.stage == stage {
			return s.title
		}
	}
	return stage
}

// errStopped says that a gate before this stage did not open.
var errStopped = errors.New("stopped")

// step runs one stage and puts it on the time line. It returns errStopped unless the stage's gate opened.
func (p *pipeline) step(dir, stage string, do func() (*Report, error)) (*Report, error) {
	start := time.Now()
	r, err := do()
	sr := &stageRun{Stage: stage, Title: title(stage), Dir: dir, Start: start.Sub(p.began).Seconds(), Seconds: time.Since(start).Seconds(),
		Exit: exitCode(r, err)}
	if err != nil {
		var failed *stageError
		if errors.As(err, &failed) {
			r = failed.report
		} else {
			r = crashed(stage, err)
		}
	}
	sr.files = r.Files
	p.mu.Lock()
	p.stages = append(p.stages, sr)
	p.mu.Unlock()
	if err != nil || !r.ok() {
		return r, errStopped
	}
	return r, nil
}

// crashed is the report of a stage that left none.
func crashed(stage string, err error) *Report {
	text, jerr := json.Marshal(map[string]string{
		"schema": "https://slipway.dev/schema/result/v1", "stage": stage, "verdict": "inconclusive", "summary": err.Error(), "error": err.Error(),
	})
	if jerr != nil {
		text = []byte("{}")
	}
	return &Report{Stage: stage, Verdict: "inconclusive", Summary: err.Error(),
		Files: dag.Directory().WithNewFile("result.json", string(text))}
}

// skip puts a stage that was not due or not reached on the list.
func (p *pipeline) skip(stage, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stages = append(p.stages, &stageRun{Stage: stage, Title: title(stage), NotRun: reason})
}

// run walks the street. What is independent runs at the same time; the engine and the Go command share the machine's cores.
func (p *pipeline) run(ctx context.Context) {
	plan, err := p.step("plan", "plan", func() (*Report, error) { return p.slipway.plan(ctx) })
	if err != nil {
		return
	}
	if p.facts, err = plan.facts(ctx); err != nil {
		p.stages = append(p.stages, &stageRun{Stage: "plan", Title: title("plan"), Dir: "plan", Exit: exitWorld, files: crashed("plan", err).Files})
		return
	}
	checked, err := p.check(ctx, plan)
	if err != nil {
		return
	}
	if p.publish == "" || checked.artifact == nil {
		for _, stage := range []string{"attest", "sign", "publish", "verify", "promote", "deploy"} {
			p.skip(stage, "no --publish")
		}
		return
	}
	p.release(ctx, checked)
}

// checked is what the checks hand to the release.
type checked struct {
	artifact               *Artifact
	lint, test, sbom, scan *Report
}

// check runs everything that leaves no trace outside.
func (p *pipeline) check(ctx context.Context, plan *Report) (*checked, error) {
	var (
		c  checked
		db *Report
	)
	err := parallel(
		func() error { return p.tryKey(ctx) },
		func() (err error) {
			c.lint, err = p.step("lint", "lint", func() (*Report, error) { return p.slipway.LintReport(ctx) })
			return err
		},
		func() (err error) {
			c.test, err = p.step("test", "test", func() (*Report, error) { return p.slipway.TestReport(ctx) })
			return err
		},
		func() (err error) {
			if p.facts.isLibrary() && p.publish == "" {
				for _, stage := range []string{"build", "image", "sbom", "vulndb", "scan", "smoke"} {
					p.skip(stage, "no main package: a library leaves nothing to put into an image")
				}
				return nil
			}
			fetched := make(chan error, 1)
			go func() {
				var err error
				db, err = p.step("vulndb", "vulndb", func() (*Report, error) { return p.slipway.database(ctx, plan, p.database, p.databaseDir) })
				fetched <- err
			}()
			err = p.build(ctx, plan, &c)
			if err := errors.Join(err, <-fetched); err != nil {
				return err
			}
			return parallel(
				func() (err error) {
					c.scan, err = p.step("scan", "scan", func() (*Report, error) { return c.artifact.scan(ctx, c.sbom, db) })
					return err
				},
				func() error { return p.smoke(ctx, c.artifact) },
			)
		},
	)
	return &c, err
}

// tryKey opens the signing key beside the checks, so that a wrong one costs no whole run.
func (p *pipeline) tryKey(ctx context.Context) error {
	if p.publish == "" {
		p.skip("key", "no --publish")
		return nil
	}
	_, err := p.step("key", "key", func() (*Report, error) { return p.slipway.tryKey(ctx, p.key, p.password, p.kms) })
	return err
}

// build compiles, assembles and lists what is inside.
func (p *pipeline) build(ctx context.Context, plan *Report, c *checked) error {
	built, err := p.step("build", "build", func() (*Report, error) { return p.slipway.compileProject(ctx, plan) })
	if err != nil {
		return err
	}
	if _, err = p.step("image", "image", func() (*Report, error) {
		a, err := p.slipway.assemble(ctx, plan, built)
		if err != nil {
			return nil, err
		}
		c.artifact = a
		return a.ImageReport, nil
	}); err != nil {
		return err
	}
	p.digest = c.artifact.Digest
	c.sbom, err = p.step("sbom", "sbom", func() (*Report, error) { return c.artifact.sbom(ctx) })
	return err
}

// smoke starts the image when slipway.yaml says that it serves something.
func (p *pipeline) smoke(ctx context.Context, a *Artifact) error {
	cfg := p.facts.Config
	if cfg.Smoke.Port == 0 && len(cfg.Build.Ports) == 0 && len(cfg.Smoke.Requests) == 0 {
		p.skip("smoke", "slipway.yaml has no smoke.port and no build.ports")
		return nil
	}
	_, err := p.step("smoke", "smoke", func() (*Report, error) { return a.SmokeReport(ctx, "", nil, 0) })
	return err
}

// release signs, publishes, verifies and promotes what passed every check.
func (p *pipeline) release(ctx context.Context, c *checked) {
	attested, err := p.step("attest", "attest", func() (*Report, error) { return c.artifact.attest(ctx, c.sbom, c.scan, c.test, c.lint) })
	if err != nil {
		return
	}
	repo := repository(p.publish)
	signed, err := p.step("sign", "sign", func() (*Report, error) {
		return p.slipway.sign(ctx, c.artifact.Digest, repo, attested.Files.Directory("statements"), p.key, p.password, p.kms)
	})
	if err != nil {
		return
	}
	var rel *Release
	if _, err = p.step("publish", "publish", func() (*Report, error) {
		var err error
		if rel, err = c.artifact.signedWith(signed, repo).Publish(ctx, p.publish, p.moveTag); err != nil {
			return nil, err
		}
		return rel.Report, nil
	}); err != nil {
		return
	}
	p.refs = append(p.refs, releaseRef{"published", rel.Reference})
	if p.publicKey == nil && p.kms == "" {
		p.publicKey = signed.Files.File("signed/key.pub")
	}
	if rel, err = p.promoteAll(ctx, rel); err != nil {
		return
	}
	p.deploy(ctx, rel)
}

// deploy takes the release from where it was promoted to last to the cluster.
func (p *pipeline) deploy(ctx context.Context, rel *Release) {
	if p.deployment == nil {
		p.skip("deploy", "no --kubeconfig")
		return
	}
	// How it ended is the report's last line, whatever it is.
	_, _ = p.step("deploy", "deploy", func() (*Report, error) { return rel.deploy(ctx, rel.Reference, p.deployment, p.rollout) })
}

// promoteAll verifies the release where it is and hands it on, from one repository to the next. It returns the release where it is in the
// end.
func (p *pipeline) promoteAll(ctx context.Context, rel *Release) (*Release, error) {
	for i := range len(p.promote) + 1 {
		to := ""
		if i < len(p.promote) {
			to = p.promote[i]
		}
		verified, err := p.step(numbered("verify", i), "verify", func() (*Report, error) {
			return rel.verify(ctx, p.publicKey, p.kms, p.environment, to)
		})
		if err != nil {
			return nil, err
		}
		if to == "" {
			break
		}
		if _, err = p.step(numbered("promote", i), "promote", func() (*Report, error) {
			r, err := rel.promote(ctx, verified, to, p.key, p.password, p.kms, p.moveTag)
			if err != nil {
				return nil, err
			}
			rel, err = p.slipway.release(r)
			return r, err
		}); err != nil {
			return nil, err
		}
		p.refs = append(p.refs, releaseRef{"promoted", rel.Reference})
	}
	if len(p.promote) == 0 {
		p.skip("promote", "no --promote")
	}
	return rel, nil
}

func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}

// parallel runs all of do at the same time, waits for all, and returns the first error in their order.
func parallel(do ...func() error) error {
	errs := make([]error, len(do))
	var wg sync.WaitGroup
	for i, f := range do {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// report runs the report stage over everything that the other stages left.
func (p *pipeline) report(ctx context.Context) (*Report, error) {
	p.addUnreached()
	results := dag.Directory()
	ctr := p.slipway.program("report")
	for _, s := range p.stages {
		if s.files != nil {
			// The image itself is not part of the report about it. Mounted, because copying takes the engine longer, and only who
			// asks for the files needs copies.
			results = results.WithDirectory(s.Dir, s.files, dagger.DirectoryWithDirectoryOpts{Exclude: []string{"bin", "layout", "image.tar", "db"}})
			ctr = ctr.WithMountedDirectory("/results/"+s.Dir, s.files)
		}
	}
	input := map[string]any{
		"schema": "https://slipway.dev/schema/run-input/v1", "started": p.began.UTC().Format(time.RFC3339),
		"stages": p.stages, "digest": p.digest, "references": p.refs,
	}
	if p.facts != nil {
		input["name"], input["version"], input["commit"] = p.facts.Name, p.facts.Version, p.facts.Source.Commit
		if p.slipway.Version != "" {
			input["version"] = p.slipway.Version
		}
	}
	text, err := json.MarshalIndent(input, "", "  ")
	if err != nil {
		return nil, err
	}
	ctr = ctr.WithMountedFile("/run.json", dag.Directory().WithNewFile("run.json", string(text)).File("run.json"))
	r, err := run(ctx, "report", ctr, []string{"report", "-run", "/run.json", "-results", "/results"})
	if err != nil {
		return nil, err
	}
	summary, err := r.Files.File("summary.txt").Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return &Report{Stage: "pipeline", Verdict: r.Verdict, Summary: r.Summary, Details: summary,
		Files: r.Files.WithDirectory("stages", results)}, nil
}

// addUnreached lists the stages that a closed gate kept from running. What ran comes first, in the order in which it began.
func (p *pipeline) addUnreached() {
	began := func(r *stageRun) float64 {
		if r.Dir == "" {
			return math.Inf(1)
		}
		return r.Start
	}
	slices.SortStableFunc(p.stages, func(a, b *stageRun) int { return cmp.Compare(began(a), began(b)) })
	for _, s := range street {
		if !slices.ContainsFunc(p.stages, func(r *stageRun) bool { return r.Stage == s.stage }) {
			p.skip(s.stage, "an earlier stage did not pass")
		}
	}
}
