// Package deploy takes a verified image to a Kubernetes cluster, and leaves the cluster no worse than it was.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// The files that the stage writes.
const (
	DiffName      = "changes.diff"
	ManifestsName = "manifests.yaml"
	RecordName    = "record.json"
)

// cleanUp bounds what is done after an interruption.
const cleanUp = 5 * time.Minute

// What a record says was done.
const (
	actionDeploy   = "deploy"
	actionRollback = "rollback"
)

// Inputs are the stage's.
type Inputs struct {
	// App is the application's name: its record and its lease hang on it.
	App string
	// Reference is the image by digest: a tag may mean another one tomorrow.
	Reference string
	// Manifests is a folder; without one, Defaults make them.
	Manifests string
	// Values are a Helm chart's values files; Now is the time that its templates get.
	Values   []string
	Now      time.Time
	Defaults Defaults
	// Settings say how; Smoke is what the new version is asked before it has traffic.
	Settings config.Deploy
	Smoke    config.Smoke
	// HandTo is the controller that exported manifests are for; empty is none.
	HandTo string
	// DryRun shows what would change.
	DryRun  bool
	By      string
	Cluster *Cluster
	Out     string
	Say     func(format string, args ...any)
}

// Run deploys, or shows what it would do. A run that was interrupted is gone on with when it is the same release, and taken back when it is another.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	image, err := name.NewDigest(in.Reference)
	if err != nil {
		return nil, result.Inputf("reference %q has no digest: what is deployed was verified, and that is a digest", in.Reference)
	}
	objects, err := in.objects(ctx, image)
	if err != nil {
		return nil, err
	}
	d := &deployment{Inputs: in, image: image, app: understand(objects, image)}
	d.app.settle = time.Duration(in.Settings.Settle)
	if in.DryRun {
		return d.dryRun(ctx)
	}
	if err := d.preflight(ctx); err != nil {
		return nil, err
	}
	return d.locked(ctx, func(ctx context.Context) error { return d.begin(ctx, actionDeploy) })
}

// preflight finds what is wrong before the lease is taken: wrong input leaves no trace in the cluster.
func (d *deployment) preflight(ctx context.Context) error {
	say := d.Say
	defer func() { d.Say, d.state, d.history = say, nil, nil }()
	d.Say = func(string, ...any) {}
	var err error
	if d.history, err = d.Cluster.history(ctx, d.App); err != nil {
		return err
	}
	if err := d.plan(ctx, actionDeploy); err != nil {
		return err
	}
	_, err = d.previewAll(ctx)
	return err
}

// objects are the manifests with the image in them.
func (in Inputs) objects(ctx context.Context, image name.Digest) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	var err error
	if in.Manifests == "" {
		in.Defaults.Name, in.Defaults.Namespace, in.Defaults.Image = in.App, in.Cluster.Namespace, image
		objects, err = in.Defaults.Manifests()
	} else if objects, err = in.release().Manifests(ctx, in.Manifests); err == nil {
		err = errors.Join(SetImage(objects, image), watched(objects))
	}
	if err != nil {
		return nil, err
	}
	inOrder(objects, in.App)
	return objects, nil
}

// release is what a Helm chart's templates may know.
func (in Inputs) release() Release {
	r := Release{Name: in.App, Namespace: in.Cluster.Namespace, Values: in.Values, Now: in.Now}
	r.KubeVersion, r.APIVersions = in.Cluster.versions()
	return r
}

// deployment is one run.
type deployment struct {
	Inputs
	image    name.Digest
	app      *app
	history  *history
	state    *State
	findings []result.Finding
	// away is for how long of the present phase nothing could be asked: that is no time of a step's.
	away   time.Duration
	result *result.Result
}

func (d *deployment) dryRun(ctx context.Context) (*result.Result, error) {
	var err error
	if d.history, err = d.Cluster.history(ctx, d.App); err != nil {
		return nil, err
	}
	d.result = d.newResult()
	if err := d.plan(ctx, actionDeploy); err != nil {
		return nil, err
	}
	changes, err := d.previewAll(ctx)
	if err != nil {
		return nil, err
	}
	text, differing, err := diff(changes)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(d.Out, DiffName), []byte(text), 0o644); err != nil {
		return nil, err
	}
	d.result.Files = []result.File{{Path: DiffName, MediaType: "text/x-diff"}}
	d.result.Summary = fmt.Sprintf("%d of %d objects would change; strategy %s", differing, len(changes), d.state.Strategy)
	return d.result, nil
}

func (d *deployment) newResult() *result.Result {
	return &result.Result{Verdict: result.Pass, Inputs: []result.Resource{{Name: d.image.Context().String(), Digest: map[string]string{"sha256": d.image.DigestStr()[len("sha256:"):]}}},
		Outputs: map[string]string{"digest": d.image.DigestStr(), "reference": d.image.String()}}
}

// locked does something with the application's lease, and gives the result of it.
func (d *deployment) locked(ctx context.Context, do func(ctx context.Context) error) (*result.Result, error) {
	held, unlock, err := d.Cluster.lock(ctx, d.App, d.By)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if d.history, err = d.Cluster.history(held, d.App); err != nil {
		return nil, err
	}
	err = do(held)
	if d.result != nil {
		d.result.Findings = append(d.result.Findings, d.findings...)
	}
	return d.result, err
}

// begin starts a deployment, or goes on with the same one.
func (d *deployment) begin(ctx context.Context, action string) error {
	d.result = d.newResult()
	if s := d.history.state; s != nil {
		if s.Digest == d.image.DigestStr() && s.Action == action && d.history.asked == "" && !s.Phase.back() {
			d.Say("%s: going on with what %s began at %s", d.App, s.By, s.Began.Format(time.RFC3339))
			return d.goOn(ctx)
		}
		if err := d.makeWay(ctx, "another release is deployed"); err != nil {
			return err
		}
	}
	if err := d.plan(ctx, action); err != nil {
		return err
	}
	changes, err := d.previewAll(ctx)
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if ch.created() {
			d.state.Created = append(d.state.Created, named(ch.object))
		}
	}
	if d.state.Objects, err = d.history.keep(d.app.objects); err != nil {
		return err
	}
	d.history.state, d.history.asked = d.state, ""
	return d.run(ctx)
}

// goOn takes up a deployment where its record says that it stands.
func (d *deployment) goOn(ctx context.Context) error {
	d.state = d.history.state
	objects, err := d.history.read(d.state.Objects)
	if err != nil {
		return err
	}
	if d.image, err = name.NewDigest(d.state.Reference); err != nil {
		return result.Inputf("the deployments' record has the reference %q: %w", d.state.Reference, err)
	}
	d.app, d.Settings, d.Smoke = understand(objects, d.image), d.state.Settings, d.state.Smoke
	d.app.settle = time.Duration(d.Settings.Settle)
	if d.result == nil {
		d.result = d.newResult()
	}
	return d.run(ctx)
}

// makeWay takes back what was interrupted, for another deployment. Where there is no way back, that one may be the way out.
func (d *deployment) makeWay(ctx context.Context, why string) error {
	s := d.history.state
	if s.Phase != Broken {
		d.Say("%s: taking back first what %s began at %s and did not end", d.App, s.By, s.Began.Format(time.RFC3339))
		if err := d.takeBack(ctx, why); err != nil && (d.state == nil || d.state.Phase != Broken) {
			return err
		}
	}
	d.history.state, d.history.asked, d.state, d.findings = nil, "", nil, nil
	if d.image.DigestStr() != "" {
		d.result = d.newResult()
	}
	return nil
}

// takeBack ends what was interrupted on the last good version.
func (d *deployment) takeBack(ctx context.Context, why string) error {
	image, app, settings, smoke := d.image, d.app, d.Settings, d.Smoke
	defer func() { d.image, d.app, d.Settings, d.Smoke = image, app, settings, smoke }()
	d.history.asked = ""
	s := d.history.state
	if !s.Phase.back() {
		s.position, s.Why = s.machine().next(s.position, AbortAsked), why
	}
	if err := d.goOn(ctx); err != nil {
		return err
	}
	if d.state.Phase == Broken {
		return fmt.Errorf("%s", d.result.Summary)
	}
	return nil
}

// run takes the state to its end, and writes the record.
func (d *deployment) run(ctx context.Context) error {
	before, err := d.history.read(d.state.Before)
	if err != nil {
		return err
	}
	w, err := d.world(before)
	if err != nil {
		return err
	}
	err = d.drive(ctx, w)
	if errors.Is(err, errTaken) || !d.state.Phase.Ended() {
		d.result.Verdict = result.Inconclusive
		d.result.Summary = fmt.Sprintf("interrupted while %s: deploy the same release again to go on, or abort it", d.state.limits().told(d.state.position, d.state.Candidate))
		return err
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), lostContact)
	defer cancel()
	return errors.Join(err, d.conclude(after))
}

func (d *deployment) world(before []*unstructured.Unstructured) (world, error) {
	if d.state.Strategy == config.Rolling {
		return d.rolling(before)
	}
	return d.progressive(before)
}

// conclude says how it ended, and writes it down.
func (d *deployment) conclude(ctx context.Context) error {
	s, r := d.state, d.result
	rec := Record{Time: time.Now().UTC().Format(time.RFC3339), Began: s.Began.Format(time.RFC3339), By: s.By, Reference: s.Reference, Digest: s.Digest,
		Strategy: s.Strategy, Action: s.Action, Phases: s.Visits, Decisions: s.Decisions, Points: s.Points, Stable: s.Stable}
	switch s.Phase {
	case Done:
		r.Summary = fmt.Sprintf("%s runs %s", d.App, s.Digest)
		rec.Stable, rec.Objects = s.Candidate, s.Objects
	case Aborted:
		r.Verdict = result.Fail
		if s.Unsure {
			r.Verdict = result.Inconclusive
		}
		r.Summary = s.Why + "; " + d.whereItEnded()
	default:
		r.Verdict = result.Fail
		r.Summary = s.Why + "; the way back failed, too: see who serves with status, and abort again, or deploy a version that works"
	}
	rec.Verdict, rec.Summary = r.Verdict, r.Summary
	r.Metrics = map[string]float64{"seconds": time.Since(s.Began).Round(time.Second).Seconds()}
	if s.Phase == Broken { // the state stays, for an abort
		if err := d.writeRecord(rec); err != nil {
			return err
		}
		d.history.records = append(d.history.records, rec)
		return d.history.save(ctx)
	}
	if s.Phase == Done {
		// What is gone back to later is what was applied, in its slot.
		placed, err := d.app.place(s.Candidate, d.finalPin())
		if err != nil {
			return err
		}
		if rec.Objects, err = d.history.keep(placed); err != nil {
			return err
		}
	}
	if err := d.writeRecord(rec); err != nil {
		return err
	}
	return d.history.end(ctx, rec)
}

// finalPin is what the Services lead to when all is done.
func (d *deployment) finalPin() string {
	if d.state.Pinned {
		return d.state.Candidate
	}
	return unpinned
}

func (d *deployment) whereItEnded() string {
	switch {
	case d.state.Before != "":
		return "rolled back to the last good deployment"
	case d.state.Replicas == 0:
		return "nothing ran before, and what was created is gone again"
	}
	return "there is no earlier deployment by Slipway to go back to: what was there before was changed, and stays so"
}
