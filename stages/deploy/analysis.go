package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// analysis measures one step.
type analysis struct {
	prometheus *prometheus
	metrics    []config.Metric
	counted    []struct{ newErrors, newTotal, oldErrors, oldTotal counters }
	probes     []struct{ sent, failed int64 }
	next       time.Time
}

// metrics are slipway.yaml's, with presets as queries and the least number of samples.
func (d *deployment) metrics() []config.Metric {
	list := d.state.Settings.Analysis.Metrics
	if len(list) == 0 && d.state.Settings.Analysis.Prometheus != "" {
		list = defaultMetrics
	}
	var out []config.Metric
	for _, m := range list {
		m = expand(m, d.state.Settings.Traffic.Driver)
		switch {
		case m.Probe.Path != "":
			m.Limit, m.Samples = cmp.Or(m.Limit, "<= 0"), cmp.Or(m.Samples, 3)
		case m.Errors != "":
			m.Samples = cmp.Or(m.Samples, fewest)
			if m.Limit == "" && m.Times == 0 {
				m.Times = 2
			}
		case m.Preset != "":
			m.Samples = cmp.Or(m.Samples, fewest)
		}
		out = append(out, m)
	}
	return out
}

// planAnalysis asks each query once: one that Prometheus does not understand ends the deployment before it begins.
func (d *deployment) planAnalysis(ctx context.Context) error {
	address := d.state.Settings.Analysis.Prometheus
	if address == "" {
		return nil
	}
	p, err := d.Cluster.newPrometheus(address)
	if err != nil {
		return err
	}
	if _, err := p.query(ctx, "vector(1)"); err != nil {
		if _, away := errors.AsType[*unreachable](err); away {
			return result.Inputf("%w: correct deploy.analysis.prometheus, or start it: without it nothing can be said about the new version", err)
		}
		return err
	}
	for _, m := range d.metrics() {
		for _, q := range []string{m.Errors, m.Total} {
			if q != "" {
				if _, err := p.query(ctx, d.side(true, time.Minute).fill(q)); err != nil {
					return fmt.Errorf("metric %s: %w", m.Title(), err)
				}
			}
		}
		for _, q := range []string{m.Query, m.Count} {
			if q != "" {
				if _, err := p.number(ctx, d.side(true, time.Minute).fill(q)); err != nil {
					return fmt.Errorf("metric %s: %w", m.Title(), err)
				}
			}
		}
	}
	return nil
}

// side is what a query's variables stand for: the new version, or the old.
func (d *deployment) side(candidate bool, window time.Duration) side {
	stable, beside := d.divided()
	s := side{namespace: d.namespace(), service: stable, deployment: d.app.slotName(d.state.Stable), route: d.state.Settings.Traffic.Route, window: max(window, 2*time.Second)}
	switch {
	case candidate:
		s.service, s.deployment, s.canary = beside, d.app.slotName(d.state.Candidate), true
	case d.hasBaseline():
		s.service, s.deployment = stable+"-"+fresh, d.app.main.GetName()+"-"+fresh
	}
	return s
}

func (w *sideBySide) startAnalysis(ctx context.Context) error {
	a := &analysis{metrics: w.metrics()}
	a.counted = make([]struct{ newErrors, newTotal, oldErrors, oldTotal counters }, len(a.metrics))
	a.probes = make([]struct{ sent, failed int64 }, len(a.metrics))
	if address := w.state.Settings.Analysis.Prometheus; address != "" {
		var err error
		if a.prometheus, err = w.Cluster.newPrometheus(address); err != nil {
			return err
		}
	}
	for i := range a.metrics {
		if a.metrics[i].Errors != "" {
			if err := w.count(ctx, a, i); err != nil {
				return err
			}
		}
	}
	a.next = time.Now().Add(time.Duration(w.state.Settings.Analysis.Interval))
	w.analysis = a
	return nil
}

// count reads the counters of a metric, of both versions.
func (w *sideBySide) count(ctx context.Context, a *analysis, i int) error {
	m, c := a.metrics[i], &a.counted[i]
	for _, q := range []struct {
		into      *counters
		promQL    string
		candidate bool
	}{{&c.newErrors, m.Errors, true}, {&c.newTotal, m.Total, true}, {&c.oldErrors, m.Errors, false}, {&c.oldTotal, m.Total, false}} {
		v, err := a.prometheus.query(ctx, w.side(q.candidate, 0).fill(q.promQL))
		if err != nil {
			return err
		}
		q.into.add(v)
	}
	return nil
}

// analyse measures at every interval. The step ends well when its time is over and everything passes, and badly as soon as something fails; what
// stays inconclusive is waited for, and is no pass.
func (w *sideBySide) analyse(ctx context.Context) (e Event, why string, err error) {
	s, a := w.state, w.analysis
	hold, elapsed := s.limits().step(s.Step), time.Since(s.Since)-w.away
	if len(a.metrics) == 0 {
		if elapsed < hold {
			return "", "", nil
		}
		return OK, "", nil
	}
	if now := time.Now(); now.Before(a.next) {
		return "", "", nil
	}
	a.next = time.Now().Add(time.Duration(s.Settings.Analysis.Interval))
	var open []string
	for i := range a.metrics {
		d, err := w.measure(ctx, a, i)
		if err != nil {
			return "", "", err
		}
		w.decided(d)
		switch {
		case d.DryRun:
		case d.Verdict == result.Fail:
			return Failed, fmt.Sprintf("step %d of %d (%d %%): %s: %s (limit %s)", s.Step+1, len(s.Settings.Steps), s.Weight, d.Metric, d.Why, d.Limit), w.persistDecisions(ctx)
		case d.Verdict != result.Pass:
			open = append(open, d.Metric+": "+d.Why)
		}
	}
	if err := w.persistDecisions(ctx); err != nil {
		return "", "", err
	}
	switch {
	case elapsed < hold:
		return "", "", nil
	case len(open) == 0:
		return OK, "", nil
	case elapsed >= hold+time.Duration(s.Settings.Analysis.Patience):
		return Inconclusive, fmt.Sprintf("step %d of %d (%d %%): inconclusive after %s: %s", s.Step+1, len(s.Settings.Steps), s.Weight, elapsed.Round(time.Second), strings.Join(open, "; ")), nil
	}
	return "", "waiting for a clear result: " + strings.Join(open, "; "), nil
}

// measure takes one metric, of both versions.
func (w *sideBySide) measure(ctx context.Context, a *analysis, i int) (Decision, error) {
	m, elapsed := a.metrics[i], time.Since(w.state.Since)
	got := measurement{errors: -1}
	switch {
	case m.Errors != "":
		if err := w.count(ctx, a, i); err != nil {
			return Decision{}, err
		}
		c := &a.counted[i]
		got.query = w.side(true, elapsed).fill(m.Errors) + " / " + w.side(true, elapsed).fill(m.Total)
		got.samples, got.baselineSamples = c.newTotal.sum(), c.oldTotal.sum()
		if got.errors = c.newErrors.sum(); got.samples > 0 {
			v := float64(got.errors) / float64(got.samples)
			got.value = &v
		}
		if got.baselineSamples > 0 {
			v := float64(c.oldErrors.sum()) / float64(got.baselineSamples)
			got.baseline = &v
		}
	case m.Query != "":
		if err := w.ofQuery(ctx, a, m, elapsed, &got); err != nil {
			return Decision{}, err
		}
	case m.Probe.Path != "":
		why, err := w.ask(ctx, m.Probe)
		if err != nil {
			return Decision{}, err
		}
		p := &a.probes[i]
		if p.sent++; why != "" {
			p.failed++
		}
		v := float64(p.failed) / float64(p.sent)
		got.query, got.value, got.samples = "GET "+m.Probe.Path, &v, p.sent
	default:
		return w.ofJob(ctx, m)
	}
	if !isNumber(got.baseline) && m.Times > 0 { // at 100 % nothing goes to the old version: what it was like last
		got.baseline, got.baselineSamples = w.lastBaseline(m.Title())
	}
	return judge(m, got)
}

func (w *sideBySide) ofQuery(ctx context.Context, a *analysis, m config.Metric, elapsed time.Duration, got *measurement) (err error) {
	mine, other := w.side(true, elapsed), w.side(false, elapsed)
	got.query = mine.fill(m.Query)
	if got.value, err = a.prometheus.number(ctx, got.query); err != nil {
		return err
	}
	got.samples = 1
	if m.Count != "" {
		n, err := a.prometheus.number(ctx, mine.fill(m.Count))
		if err != nil {
			return err
		}
		got.samples = 0
		if n != nil && *n > 0 {
			got.samples = int64(*n)
		}
	} else if got.value == nil {
		got.samples = 0
	}
	if m.Times > 0 {
		if got.baseline, err = a.prometheus.number(ctx, other.fill(m.Query)); err != nil {
			return err
		}
	}
	return nil
}

// ofJob is a command's verdict.
func (w *sideBySide) ofJob(ctx context.Context, m config.Metric) (Decision, error) {
	d := Decision{Metric: m.Title(), Query: strings.Join(m.Job, " "), Limit: "exit code 0", Needed: 1, DryRun: m.DryRun, Measured: 1, Verdict: result.Inconclusive}
	e, why, err := w.job(ctx, fmt.Sprintf("step-%d", w.state.Step+1), m.Job, nil, time.Duration(w.state.Settings.Deadline))
	d.Why = why
	switch e {
	case OK:
		d.Verdict, d.Samples, d.Why = result.Pass, 1, "it ended well"
	case Failed:
		d.Verdict, d.Samples = result.Fail, 1
	}
	return d, err
}

func (w *sideBySide) lastBaseline(metric string) (value *float64, samples int64) {
	for _, d := range slices.Backward(w.state.Decisions) {
		if d.Metric == metric && d.Baseline != nil {
			return d.Baseline, d.BaselineSamples
		}
	}
	return nil, 0
}

// decided notes a decision. Of one metric in one step, the last one stands for those before it.
func (w *sideBySide) decided(d Decision) {
	s := w.state
	d.Step, d.Weight, d.At = s.Step, s.Weight, time.Now().UTC().Format(time.RFC3339)
	w.Say("%s: %s: %s: %s (limit %s; %d samples, %d needed)", w.App, d.Metric, d.Verdict, d.Why, d.Limit, d.Samples, d.Needed)
	s.Points = append(s.Points, Point{Metric: d.Metric, At: time.Now().UTC(), Step: s.Step, Value: d.Value, Baseline: d.Baseline, Limit: d.limit,
		Samples: d.Samples, BaselineSamples: d.BaselineSamples, Verdict: d.Verdict})
	s.Points = s.Points[max(0, len(s.Points)-mostPoints):]
	for i := range s.Decisions {
		if p := &s.Decisions[i]; p.Metric == d.Metric && p.Step == d.Step {
			d.Measured = p.Measured + 1
			*p = d
			return
		}
	}
	s.Decisions = append(s.Decisions, d)
}

// persistDecisions writes them down. It is not the moment to give up when the API server is away.
func (w *sideBySide) persistDecisions(ctx context.Context) error { return w.history.save(ctx) }
