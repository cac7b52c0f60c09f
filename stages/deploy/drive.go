package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// world does in a cluster what the machine's phases mean.
type world interface {
	// enter makes it so. It may find some of it done already, by a run that was interrupted.
	enter(ctx context.Context) error
	// observe says whether the phase has come to its end; no event means not yet, and why is then how far it is.
	observe(ctx context.Context) (e Event, why string, err error)
	// failed collects why a phase of the way forward failed, before anything is taken back.
	failed(ctx context.Context) []result.Finding
}

// errTaken ends a run at once: somebody else works on the application now.
var errTaken = errors.New("somebody else has taken the lease")

// drive takes the state from phase to phase until it ends, and writes each into the cluster before it begins.
func (d *deployment) drive(ctx context.Context, w world) error {
	s := d.state
	m, limits := s.machine(), s.limits()
	var last error
	for !s.Phase.Ended() {
		now := time.Now().UTC()
		s.Since, s.Deadline = now, now.Add(limits.of(s.position))
		s.Visits = append(s.Visits, Visit{Phase: s.Phase, Step: s.Step, Weight: s.Weight, At: now})
		if err := d.persist(ctx); err != nil {
			if ctx.Err() == nil {
				return err
			}
			ctx = d.toldToEnd(ctx, &last) // the way back is written when its phase begins
		}
		d.Say("%s: %s", d.App, limits.told(s.position, s.Candidate))
		e, why, err := d.stay(ctx, w)
		if errors.Is(context.Cause(ctx), errTaken) {
			return context.Cause(ctx)
		}
		if ctx.Err() != nil {
			ctx = d.toldToEnd(ctx, &last)
			e, why = AbortAsked, last.Error()
		} else if err != nil {
			last = err
			why = cmp.Or(why, err.Error())
		}
		next := m.next(s.position, e)
		if !s.Phase.back() && next.Phase.back() {
			s.Why, s.Unsure = why, e == Inconclusive || e == TimedOut && err != nil
			d.Say("%s: %s", d.App, why)
			d.findings = append(d.findings, w.failed(ctx)...)
		}
		if next.Phase == Broken {
			s.Why += "; " + limits.told(s.position, s.Candidate) + ": " + cmp.Or(why, string(e))
		}
		s.position = next
	}
	s.Visits = append(s.Visits, Visit{Phase: s.Phase, Step: s.Step, Weight: s.Weight, At: time.Now().UTC()})
	if result.IsInput(last) || s.Phase == Broken || errors.Is(last, context.Canceled) {
		return last
	}
	return nil
}

// toldToEnd gives a run that was told to end the time to take back what it began.
func (d *deployment) toldToEnd(ctx context.Context, last *error) context.Context {
	*last = fmt.Errorf("told to end in the middle: %w", context.Cause(ctx))
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	context.AfterFunc(after, cancel)
	return after
}

// persist writes the state; an API server that is away for a moment costs nothing.
func (d *deployment) persist(ctx context.Context) error {
	for began := time.Now(); ; {
		err := d.history.save(ctx)
		if err == nil || result.IsInput(err) || ctx.Err() != nil || time.Since(began) > lostContact {
			return err
		}
		d.pause(ctx)
	}
}

func (d *deployment) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(pollEvery):
	}
}

// stay is in one phase until something happens. Errors of the world are borne until the phase's deadline: the API server may be away.
func (d *deployment) stay(ctx context.Context, w world) (e Event, why string, err error) {
	s, entered, told := d.state, false, ""
	var lost time.Time
	d.away = 0
	for ; ; d.pause(ctx) {
		began := time.Now()
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		var asked string
		if err = d.history.refresh(ctx); err == nil {
			asked = d.history.asked
			if !lost.IsZero() {
				d.away += time.Since(lost)
				lost = time.Time{}
			}
		}
		if asked != "" && !s.Phase.back() {
			return AbortAsked, "aborted by " + asked, nil
		}
		if err == nil && !entered {
			if err = w.enter(ctx); err == nil {
				entered = true
			}
		}
		if err == nil {
			e, why, err = w.observe(ctx)
		}
		switch {
		case result.IsInput(err):
			return Failed, err.Error(), err
		case err != nil:
			why = "no answer: " + err.Error()
			if lost.IsZero() {
				lost = began
			}
		case e != "":
			return e, why, nil
		}
		if why != "" && why != told {
			told = why
			d.Say("%s", why)
		}
		if time.Now().After(s.Deadline) {
			return TimedOut, fmt.Sprintf("not done after %s: %s", s.Deadline.Sub(s.Since).Round(time.Second), cmp.Or(why, "no answer")), err
		}
	}
}
