package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Recorded finds the deployment that a rollback to the digest leads to: without one, the last good one of another digest than now. Nothing is changed.
func Recorded(ctx context.Context, c *Cluster, app, digest string) (*result.Result, error) {
	h, err := c.history(ctx, app)
	if err != nil {
		return nil, err
	}
	if !h.exists {
		return nil, neverDeployed(c, app)
	}
	rec, err := h.target(digest)
	if err != nil {
		return nil, err
	}
	return &result.Result{Verdict: result.Pass, Summary: fmt.Sprintf("%s, deployed by %s, %s", rec.Digest, rec.By, rec.Time),
		Outputs: map[string]string{"reference": rec.Reference, "digest": rec.Digest}}, nil
}

func (h *history) target(digest string) (*Record, error) {
	now := h.good()
	rec := h.find(func(r *Record) bool {
		return digest == "" && r.Digest != now.Digest || digest != "" && r.Digest == digest
	})
	if rec != nil {
		return rec, nil
	}
	var known []string
	for i := len(h.records) - 1; i >= 0; i-- {
		if r := &h.records[i]; r.Objects != "" && !strings.Contains(strings.Join(known, ", "), r.Digest) {
			known = append(known, r.Digest)
		}
	}
	if digest == "" {
		return nil, result.Inputf("there is no earlier release to go back to: the record has %s", orNone(known))
	}
	return nil, result.Inputf("there is no good deployment of %s that can be gone back to: the record has %s", digest, orNone(known))
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// Rollback deploys a recorded release again, with the manifests that it had. Its evidence has been verified anew by who calls this.
func Rollback(ctx context.Context, in Inputs, digest string) (*result.Result, error) {
	d := &deployment{Inputs: in}
	return d.locked(ctx, func(ctx context.Context) error {
		if d.history.state != nil {
			if err := d.makeWay(ctx, "a rollback was asked for"); err != nil {
				return err
			}
		}
		rec, err := d.history.target(digest)
		if err != nil {
			return err
		}
		objects, err := d.history.read(rec.Objects)
		if err != nil {
			return err
		}
		if d.image, err = name.NewDigest(rec.Reference); err != nil {
			return result.Inputf("the deployments' record has the reference %q: %w", rec.Reference, err)
		}
		d.app = understand(unplaced(objects, rec.Stable), d.image)
		d.app.settle = time.Duration(in.Settings.Settle)
		return d.begin(ctx, actionRollback)
	})
}

// Resume goes on with a deployment that was interrupted.
func Resume(ctx context.Context, in Inputs) (*result.Result, error) {
	d := &deployment{Inputs: in}
	return d.locked(ctx, func(ctx context.Context) error {
		s := d.history.state
		if s == nil {
			return result.Inputf("no deployment of %s was interrupted: there is nothing to go on with", in.App)
		}
		if s.Phase == Broken {
			return result.Inputf("the way back of the last deployment of %s failed: abort it again, or deploy a version that works", in.App)
		}
		d.Say("%s: going on with what %s began at %s", d.App, s.By, s.Began.Format(time.RFC3339))
		if d.history.asked != "" && !s.Phase.back() {
			return d.takeBack(ctx, "aborted by "+d.history.asked)
		}
		return d.goOn(ctx)
	})
}

// Abort ends a deployment on the last good version: the run that works on it is told, or, when there is none any more, this one does it. It
// returns when it is done.
func Abort(ctx context.Context, in Inputs) (*result.Result, error) {
	h, err := in.Cluster.history(ctx, in.App)
	if err != nil {
		return nil, err
	}
	if !h.exists {
		return nil, neverDeployed(in.Cluster, in.App)
	}
	if h.state == nil {
		return nil, result.Inputf("no deployment of %s is under way: there is nothing to abort; rollback goes back behind one that has ended", in.App)
	}
	began := h.state.Began
	holder, err := in.Cluster.holder(ctx, in.App)
	if err != nil {
		return nil, err
	}
	if holder != "" {
		in.Say("%s: telling %s to go back", in.App, holder)
		if err := h.askAbort(ctx, in.By); err != nil {
			return nil, err
		}
		return in.awaitAbort(ctx, began)
	}
	d := &deployment{Inputs: in}
	r, err := d.locked(ctx, func(ctx context.Context) error {
		if d.history.state == nil {
			return result.Inputf("the deployment of %s has ended meanwhile", in.App)
		}
		return d.takeBack(ctx, "aborted by "+in.By)
	})
	if err != nil || d.state.Phase != Aborted {
		return r, err
	}
	r.Verdict = result.Pass // what was asked for was done
	return r, nil
}

// awaitAbort waits until the run that was told to go back has done so, or has died and left it to this one.
func (in Inputs) awaitAbort(ctx context.Context, began time.Time) (*result.Result, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
		h, err := in.Cluster.history(ctx, in.App)
		if err != nil {
			return nil, err
		}
		if h.state == nil || !h.state.Began.Equal(began) {
			last := h.records[len(h.records)-1]
			return &result.Result{Verdict: result.Pass, Summary: last.Summary, Outputs: map[string]string{"digest": last.Digest}}, nil
		}
		holder, err := in.Cluster.holder(ctx, in.App)
		if err != nil {
			return nil, err
		}
		if holder == "" {
			return Abort(ctx, in)
		}
		if h.state.Phase == Broken {
			return nil, fmt.Errorf("the way back failed: %s", h.state.Why)
		}
	}
}
