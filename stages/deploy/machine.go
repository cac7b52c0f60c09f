package deploy

import (
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
)

// Phase is where a deployment stands. What each does in a cluster is the world's affair; here is only what follows what.
type Phase string

// The phases, in the order of the way forward, and then of the way back.
const (
	// Preparing runs the hooks before, and makes everything that the new version needs beside its pods.
	Preparing Phase = "preparing"
	// Updating replaces the old version's pods in place: rolling.
	Updating Phase = "updating"
	// Starting brings the new version up beside the old, without traffic.
	Starting Phase = "starting"
	// Checking asks the new version whether it works, still without traffic.
	Checking Phase = "checking"
	// Shifting gives the new version the step's share of the traffic.
	Shifting Phase = "shifting"
	// Analysing watches the step.
	Analysing Phase = "analysing"
	// Switching makes the new version what the Service leads to.
	Switching Phase = "switching"
	// Holding keeps the old version ready, while the hooks after run.
	Holding Phase = "holding"
	// Draining waits until no proxy sends anything to the old version any more.
	Draining Phase = "draining"
	// Retiring ends the old version.
	Retiring Phase = "retiring"
	// Done is the good end.
	Done Phase = "done"

	// Reviving brings the old version up again, when it may have been ended.
	Reviving Phase = "reviving"
	// Returning gives the traffic back to the old version.
	Returning Phase = "returning"
	// Clearing ends the new version, when no traffic goes to it any more, and takes back what came with it.
	Clearing Phase = "clearing"
	// Restoring applies the last good deployment again: rolling.
	Restoring Phase = "restoring"
	// Aborted is the end on the last good version.
	Aborted Phase = "aborted"
	// Broken is the end where the way back failed, too: a person has to look.
	Broken Phase = "broken"
)

// Event is what happened in a phase.
type Event string

// The events. Nothing yet is the empty one.
const (
	OK           Event = "ok"
	Failed       Event = "failed"
	Inconclusive Event = "inconclusive"
	AbortAsked   Event = "abort"
	TimedOut     Event = "timeout"
)

// Ended says whether nothing follows.
func (p Phase) Ended() bool { return p == Done || p == Aborted || p == Broken }

// back says whether p belongs to the way back.
func (p Phase) back() bool {
	switch p {
	case Reviving, Returning, Clearing, Restoring:
		return true
	}
	return false
}

// position is what the machine itself knows: the phase, and the step of the ladder.
type position struct {
	Phase Phase `json:"phase"`
	Step  int   `json:"step"`
}

// machine says what follows what. It knows no cluster.
type machine struct {
	strategy string
	steps    int
}

// next is where e leads from p. What an event means nothing to stays where it is.
func (m machine) next(p position, e Event) position {
	switch {
	case e == "" || p.Phase.Ended() && e != AbortAsked:
		return p
	case p.Phase == Broken: // trying to abort once more
		return m.wayBack(position{Retiring, p.Step})
	case p.Phase.Ended():
		return p
	case e == OK:
		return m.forward(p)
	case !p.Phase.back():
		return m.wayBack(p)
	case e == AbortAsked: // it is on its way
		return p
	}
	return position{Broken, p.Step}
}

func (m machine) forward(p position) position {
	to := func(phase Phase) position { return position{phase, p.Step} }
	switch p.Phase {
	case Preparing:
		if m.strategy == config.Rolling {
			return to(Updating)
		}
		return to(Starting)
	case Updating:
		return to(Holding)
	case Starting:
		return to(Checking)
	case Checking:
		if m.strategy == config.Canary {
			return to(Shifting)
		}
		return to(Switching)
	case Shifting:
		return to(Analysing)
	case Analysing:
		if p.Step+1 < m.steps {
			return position{Shifting, p.Step + 1}
		}
		return to(Switching)
	case Switching:
		return to(Holding)
	case Holding:
		if m.strategy == config.Rolling {
			return to(Retiring)
		}
		return to(Draining)
	case Draining:
		return to(Retiring)
	case Retiring:
		return to(Done)
	case Reviving:
		return to(Returning)
	case Returning:
		return to(Clearing)
	case Clearing, Restoring:
		return to(Aborted)
	}
	return p
}

// wayBack begins as near as it can: only what may have been ended is brought up again, so that a bad version loses its traffic at once.
func (m machine) wayBack(p position) position {
	switch {
	case m.strategy == config.Rolling:
		return position{Restoring, p.Step}
	case p.Phase == Retiring:
		return position{Reviving, p.Step}
	}
	return position{Returning, p.Step}
}

// limits are how long each phase may take.
type limits struct {
	config.Deploy
	hooks time.Duration
}

// margin is what a phase gets beyond the time that it is told to wait: for the API server's and the controllers' own.
const margin = 2 * time.Minute

// of is the longest that a phase may take; no phase is without.
func (l limits) of(p position) time.Duration {
	deadline := time.Duration(l.Deadline)
	switch p.Phase {
	case Preparing:
		return deadline + l.hooks + margin
	case Holding:
		return deadline + l.hooks + time.Duration(l.Hold) + margin
	case Analysing:
		return l.step(p.Step) + time.Duration(l.Analysis.Patience) + margin
	case Draining, Returning:
		return time.Duration(l.Drain) + margin
	case Switching:
		return margin
	case Updating, Starting, Checking, Shifting:
		return deadline
	case Retiring, Reviving, Clearing, Restoring:
		return deadline + margin
	}
	return 0
}

// step is how long the step's analysis lasts at least.
func (l limits) step(i int) time.Duration {
	if i < len(l.Steps) {
		return time.Duration(l.Steps[i].Hold)
	}
	return 0
}

// told is the phase in words for people.
func (l limits) told(p position, candidate string) string {
	switch p.Phase {
	case Preparing:
		return "preparing"
	case Updating:
		return "replacing the pods"
	case Starting:
		return "starting the new version beside the old (" + candidate + ")"
	case Checking:
		return "asking the new version, before it has traffic"
	case Shifting:
		return fmt.Sprintf("step %d of %d: %d %% of the traffic to the new version", p.Step+1, len(l.Steps), l.Steps[p.Step].Weight)
	case Analysing:
		return fmt.Sprintf("step %d of %d: watching for %s", p.Step+1, len(l.Steps), l.Steps[p.Step].Hold)
	case Switching:
		return "switching to the new version"
	case Holding:
		return "the new version has all the traffic; the old one stays ready for " + l.Hold.String()
	case Draining:
		return "waiting " + l.Drain.String() + " until nobody asks the old version any more"
	case Retiring:
		return "ending the old version"
	case Reviving:
		return "starting the old version again"
	case Returning:
		return "giving the traffic back to the old version"
	case Clearing:
		return "ending the new version"
	case Restoring:
		return "applying the last good deployment again"
	}
	return string(p.Phase)
}
