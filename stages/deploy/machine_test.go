package deploy

import (
	"fmt"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
)

var (
	everyPhase = []Phase{Preparing, Updating, Starting, Checking, Shifting, Analysing, Switching, Holding, Draining, Retiring, Done,
		Reviving, Returning, Clearing, Restoring, Aborted, Broken}
	everyEvent    = []Event{"", OK, Failed, Inconclusive, AbortAsked, TimedOut}
	everyStrategy = []string{config.Rolling, config.BlueGreen, config.Canary}
)

// TestMachineEveryTransition walks every phase with every event.
func TestMachineEveryTransition(t *testing.T) {
	for _, strategy := range everyStrategy {
		m := machine{strategy: strategy, steps: 4}
		for _, phase := range everyPhase {
			for step := range m.steps {
				for _, e := range everyEvent {
					from := position{phase, step}
					to := m.next(from, e)
					name := fmt.Sprintf("%s: %v -%s-> %v", strategy, from, e, to)
					switch {
					case e == "" && to != from:
						t.Errorf("%s: moved without an event", name)
					case (phase == Done || phase == Aborted) && to != from:
						t.Errorf("%s: left its end", name)
					case (e == Failed || e == Inconclusive || e == TimedOut) && !phase.Ended() && !phase.back() && !to.Phase.back():
						t.Errorf("%s: a failure does not lead back", name)
					case e == AbortAsked && !phase.Ended() && !to.Phase.back():
						t.Errorf("%s: the abort is ignored", name)
					case e == OK && phase.back() && !to.Phase.back() && to.Phase != Aborted:
						t.Errorf("%s: leaves the way back", name)
					case to.Phase == Done && phase != Retiring && phase != Done:
						t.Errorf("%s: skips to the end", name)
					}
				}
			}
		}
	}
}

// TestMachineEnds: from everywhere, with OK alone, the end comes, and no phase is without a deadline on the way.
func TestMachineEnds(t *testing.T) {
	l := limits{Deploy: config.Default().Deploy}
	for _, strategy := range everyStrategy {
		m := machine{strategy: strategy, steps: len(l.Steps)}
		for _, phase := range everyPhase {
			p := position{phase, 0}
			for n := 0; !p.Phase.Ended(); n++ {
				if l.of(p) <= 0 {
					t.Errorf("%s: %v has no deadline", strategy, p)
				}
				if n > 100 {
					t.Fatalf("%s: no end from %s", strategy, phase)
				}
				p = m.next(p, OK)
			}
		}
	}
}

// cluster is one in small: what the Service leads to, the weights, and a data plane that follows later.
type cluster struct {
	t        *testing.T
	strategy string
	steps    []int

	oldUp, newUp         bool // pods run and are ready
	selector, weight     int  // what is configured: 0 old, 1 new; percent to the preview Service
	atSelector, atWeight int  // what the data plane does
	newBad, oldBroken    bool // it never gets ready, it does not come up again
	history              []string
}

func (m *cluster) note(format string, args ...any) {
	m.history = append(m.history, fmt.Sprintf(format, args...))
}

// converge is what a proxy does some time later.
func (m *cluster) converge() { m.atSelector, m.atWeight = m.selector, m.weight }

// enter is what the world does on entering a phase; it may be called again, after a crash.
func (m *cluster) enter(p position) {
	m.note("enter %v", p)
	switch p.Phase {
	case Updating:
		m.newUp = !m.newBad // one pod after the other, by the Deployment's own controller: the old ones stay until then
		if m.newUp {
			m.selector = 1
			m.converge()
			m.oldUp = false
		}
	case Starting:
		m.newUp = !m.newBad
	case Shifting:
		m.weight = m.steps[p.Step]
	case Switching:
		m.selector = 1
	case Draining:
		m.weight = 0
	case Retiring:
		m.oldUp = m.oldUp && m.strategy == config.Rolling // there, nothing is left of it
	case Reviving:
		m.oldUp = !m.oldBroken
	case Returning:
		m.selector, m.weight = 0, 0
	case Clearing:
		m.newUp = false
	case Restoring:
		m.oldUp = !m.oldBroken || m.oldUp
		if m.oldUp {
			m.selector = 0
			m.converge()
			m.newUp = false
		}
	}
}

// observe is what the world says when all goes as it can.
func (m *cluster) observe(p position) Event {
	switch p.Phase {
	case Updating, Starting:
		if !m.newUp {
			return Failed
		}
	case Shifting, Draining, Returning: // they wait for the data plane; what Switching sees is what the API server knows
		m.converge()
	case Reviving, Restoring:
		if !m.oldUp {
			return Failed
		}
	}
	return OK
}

// check asks for what must hold at every moment.
func (m *cluster) check() {
	m.t.Helper()
	serves := func(side int) bool { return side == 0 && m.oldUp || side == 1 && m.newUp }
	if m.strategy == config.Rolling { // the Deployment's controller sees to it
		if !m.oldUp && !m.newUp {
			m.t.Fatalf("nothing serves: %v", m.history)
		}
		return
	}
	if share := 100 - m.atWeight; share > 0 && !serves(m.atSelector) {
		m.t.Fatalf("the Service leads %d %% of the requests to a version without pods: %v", share, m.history)
	}
	if m.atWeight > 0 && !serves(1) {
		m.t.Fatalf("%d %% of the requests go to a new version without pods: %v", m.atWeight, m.history)
	}
}

// TestModel takes every strategy through every phase with every event in it, and with a kill before and after what each phase does: the
// invariants hold at every moment, and an abort ends on the last good version.
func TestModel(t *testing.T) {
	for _, strategy := range everyStrategy {
		for _, newBad := range []bool{false, true} {
			for _, oldBroken := range []bool{false, true} {
				for at := range 24 {
					for _, e := range everyEvent {
						for _, kill := range []string{"", "before", "after"} {
							m := &cluster{t: t, strategy: strategy, steps: []int{5, 25, 50, 100}, oldUp: true, newBad: newBad, oldBroken: oldBroken}
							m.walk(at, e, kill)
						}
					}
				}
			}
		}
	}
}

func (m *cluster) walk(at int, e Event, kill string) {
	m.t.Helper()
	machine := machine{strategy: m.strategy, steps: len(m.steps)}
	p := position{Phase: Preparing}
	disturbed := Phase("")
	for n := 0; !p.Phase.Ended(); n++ {
		if n > 60 {
			m.t.Fatalf("no end: %v", m.history)
		}
		if n != at || kill != "before" { // a run that is killed before it does anything is begun again by the next
			m.enter(p)
			m.check()
		}
		if n == at && kill != "" {
			m.enter(p) // the run that resumes enters the phase that was written down
			m.check()
		}
		event := m.observe(p)
		if n == at && e != "" && e != OK { // the world alone says that something is well
			event, disturbed = e, p.Phase
		}
		m.check()
		p = machine.next(p, event)
		m.note("%s", event)
	}
	m.check()
	m.converge()
	m.check()
	switch {
	case p.Phase == Done && (m.selector != 1 || !m.newUp || m.oldUp && m.strategy != config.Rolling):
		m.t.Fatalf("done, and the new version is not what runs: %+v", m)
	case p.Phase == Aborted && (m.selector != 0 || !m.oldUp || m.newUp):
		m.t.Fatalf("aborted, and the old version is not what runs: %+v", m)
	case p.Phase == Broken && !m.oldBroken && !disturbed.back():
		m.t.Fatalf("broken, and nothing was: %v", m.history)
	case e == AbortAsked && disturbed != "" && !disturbed.back() && !m.oldBroken && p.Phase != Aborted:
		m.t.Fatalf("asked to abort in %s, and ended as %s: %v", disturbed, p.Phase, m.history)
	}
}

func TestLimitsCoverWhatTheyAreToldToWait(t *testing.T) {
	l := limits{Deploy: config.Default().Deploy, hooks: time.Hour}
	for p, least := range map[position]time.Duration{
		{Preparing, 0}: time.Hour, {Holding, 0}: time.Hour + time.Duration(l.Hold), {Analysing, 1}: time.Duration(l.Steps[1].Hold + l.Analysis.Patience),
		{Draining, 0}: time.Duration(l.Drain),
	} {
		if got := l.of(p); got <= least {
			t.Errorf("%v ends after %s, and has to wait %s", p, got, least)
		}
	}
}
