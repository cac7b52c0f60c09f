package deploy

import (
	"fmt"
	"math"
	"strings"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Decision is one measurement held against its limit: everything that it was decided by.
type Decision struct {
	Metric string `json:"metric"`
	Step   int    `json:"step"`
	Weight int    `json:"weight"`
	// At is when, in RFC 3339.
	At string `json:"at"`
	// Query is what was asked for the new version.
	Query string `json:"query"`
	// Value is the new version's, Baseline the old one's; absent when there were no data.
	Value    *float64 `json:"value,omitempty"`
	Baseline *float64 `json:"baseline,omitempty"`
	// Limit is what the value had to be, with the comparison worked out.
	Limit string `json:"limit"`
	// Samples stand behind the value, BaselineSamples behind the other; Needed is how many it takes.
	Samples         int64 `json:"samples"`
	BaselineSamples int64 `json:"baselineSamples,omitempty"`
	Needed          int64 `json:"needed"`
	// Chance is how probable so many errors were by accident if the limit held; only for counted errors above it.
	Chance *float64 `json:"chance,omitempty"`
	// Verdict is pass, fail or inconclusive, Why the reason in words.
	Verdict result.Verdict `json:"verdict"`
	Why     string         `json:"why"`
	// DryRun says that it decides nothing.
	DryRun bool `json:"dryRun,omitempty"`
	// limit is the number in Limit that decides.
	limit *float64
	// Measured is how many measurements of this step this one stands for.
	Measured int `json:"measured"`
}

// measurement is what was asked and what came.
type measurement struct {
	query string
	// value of the new and of the old version; nil is no data.
	value, baseline *float64
	// samples behind each.
	samples, baselineSamples int64
	// errors are counted, when the value is a share of samples; -1 when it is something else.
	errors int64
}

const (
	// baselineFloor is the least share of errors that a baseline counts with: twice nothing would be nothing.
	baselineFloor = 0.005
	// accident is how improbable so many errors must be by chance to count as bad.
	accident = 0.005
	// fewest is how many samples a share of errors or a latency needs when slipway.yaml says nothing.
	fewest = 20
)

// judge holds a measurement against the metric's limits. No data, and too few, are never a pass.
func judge(m config.Metric, got measurement) (Decision, error) {
	d := Decision{Metric: m.Title(), Query: got.query, Value: got.value, Baseline: got.baseline, Samples: got.samples, BaselineSamples: got.baselineSamples,
		Needed: int64(m.Samples), DryRun: m.DryRun, Measured: 1}
	if !isNumber(got.baseline) { // such as a quantile of no requests
		got.baseline, d.Baseline = nil, nil
	}
	limit, hasLimit, err := limitOf(m)
	if err != nil {
		return d, err
	}
	relative := m.Times > 0
	d.Limit = limitText(limit, hasLimit, m.Times)
	if !isNumber(got.value) {
		d.Value, d.Verdict, d.Why = nil, result.Inconclusive, "no data"
		return d, nil
	}
	value := *got.value
	if relative && got.baseline != nil {
		base := *got.baseline
		if got.errors >= 0 {
			base = max(base, baselineFloor)
		}
		most := config.Limit{Op: "<=", Value: m.Times * base}
		d.Limit = fmt.Sprintf("<= %.4g (%g times the baseline's %.4g)", most.Value, m.Times, base)
		if hasLimit {
			d.Limit = fmt.Sprintf("%s %.4g, and %s", limit.Op, limit.Value, d.Limit)
		}
		// Of two upper limits the tighter one decides: it takes fewer samples to be sure that it is broken.
		if !hasLimit || !most.Keeps(value) && limit.Keeps(value) || strings.HasPrefix(limit.Op, "<") && most.Value < limit.Value {
			limit, hasLimit = most, true
		}
		relative = false
	}
	if hasLimit {
		d.limit = &limit.Value
	}
	if hasLimit && !limit.Keeps(value) {
		if got.errors < 0 {
			return d.decide(got.samples >= d.Needed, result.Fail, fmt.Sprintf("%.4g is not %s %.4g", value, limit.Op, limit.Value)), nil
		}
		// A handful of requests says little: how probable are so many errors if the limit held?
		p := atLeast(got.errors, got.samples, max(limit.Value, baselineFloor))
		d.Chance = &p
		if p < accident {
			d.Verdict, d.Why = result.Fail, fmt.Sprintf("%d of %d requests failed: %.4g is not %s %.4g", got.errors, got.samples, value, limit.Op, limit.Value)
			return d, nil
		}
		d.Verdict, d.Why = result.Inconclusive, fmt.Sprintf("%d of %d requests failed: above the limit, and too few to tell from chance (%.2g)", got.errors, got.samples, p)
		return d, nil
	}
	if relative { // there is something to compare with, and nothing came from it
		d.Verdict, d.Why = result.Inconclusive, "no data of the baseline"
		return d, nil
	}
	return d.decide(got.samples >= d.Needed, result.Pass, fmt.Sprintf("%.4g is within the limit", value)), nil
}

func isNumber(v *float64) bool { return v != nil && !math.IsNaN(*v) && !math.IsInf(*v, 0) }

func (d Decision) decide(enough bool, v result.Verdict, why string) Decision {
	d.Verdict, d.Why = v, why
	if !enough {
		d.Verdict, d.Why = result.Inconclusive, fmt.Sprintf("%s, of %d samples where %d are needed", why, d.Samples, d.Needed)
	}
	return d
}

func limitOf(m config.Metric) (config.Limit, bool, error) {
	if m.Limit == "" {
		return config.Limit{}, false, nil
	}
	l, err := config.ParseLimit(m.Limit)
	return l, err == nil, err
}

func limitText(l config.Limit, has bool, times float64) string {
	switch {
	case has && times > 0:
		return fmt.Sprintf("%s %.4g, and %g times the baseline at most", l.Op, l.Value, times)
	case has:
		return fmt.Sprintf("%s %.4g", l.Op, l.Value)
	}
	return fmt.Sprintf("<= %g times the baseline", times)
}

// atLeast is the binomial tail: how probable k or more of n are when each happens with probability p.
func atLeast(k, n int64, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	// The sum of the terms from k upwards, from logarithms: n may be a million.
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x + 1)); return v }
	term := lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
	sum, t := 0.0, math.Exp(term)
	for i := k; i <= n; i++ {
		sum += t
		t *= float64(n-i) / float64(i+1) * p / (1 - p)
		if t < sum*1e-12 && float64(i) > p*float64(n) {
			break
		}
	}
	if sum == 0 && float64(k) < p*float64(n) { // below the mean, and the first term has no digits left
		return 1
	}
	return min(1, sum)
}
