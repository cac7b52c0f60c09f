package deploy

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// TestJudge: what passes, what fails, and what nobody may call a pass.
func TestJudge(t *testing.T) {
	errorsLimit := config.Metric{Preset: "errors", Limit: "<= 0.01", Samples: 20}
	twice := config.Metric{Preset: "errors", Times: 2, Samples: 20}
	latency := config.Metric{Preset: "latency", Limit: "<= 0.5", Samples: 10}
	counted := func(errors, samples int64) measurement {
		return measurement{value: new(float64(errors) / float64(samples)), samples: samples, errors: errors}
	}
	against := func(m measurement, baseErrors, baseSamples int64) measurement {
		m.baseline, m.baselineSamples = new(float64(baseErrors)/float64(baseSamples)), baseSamples
		return m
	}
	for name, test := range map[string]struct {
		metric config.Metric
		got    measurement
		want   result.Verdict
		why    string
	}{
		"no data":                         {errorsLimit, measurement{errors: -1}, result.Inconclusive, "no data"},
		"not a number":                    {latency, measurement{value: new(math.NaN()), samples: 100, errors: -1}, result.Inconclusive, "no data"},
		"infinite":                        {latency, measurement{value: new(math.Inf(1)), samples: 100, errors: -1}, result.Inconclusive, "no data"},
		"good":                            {errorsLimit, counted(0, 100), result.Pass, "within"},
		"good, but few":                   {errorsLimit, counted(0, 19), result.Inconclusive, "19 samples where 20 are needed"},
		"bad":                             {errorsLimit, counted(20, 100), result.Fail, "20 of 100 requests failed"},
		"bad, and few, and clear":         {errorsLimit, counted(5, 10), result.Fail, "5 of 10"},
		"one of few says nothing":         {errorsLimit, counted(1, 30), result.Inconclusive, "chance"},
		"latency":                         {latency, measurement{value: new(0.2), samples: 50, errors: -1}, result.Pass, "within"},
		"slow":                            {latency, measurement{value: new(0.7), samples: 50, errors: -1}, result.Fail, "0.7 is not <= 0.5"},
		"slow, of few":                    {latency, measurement{value: new(0.7), samples: 5, errors: -1}, result.Inconclusive, "5 samples"},
		"as good as the baseline":         {twice, against(counted(2, 200), 2, 200), result.Pass, "within"},
		"worse than twice the baseline":   {twice, against(counted(20, 200), 2, 200), result.Fail, "20 of 200"},
		"a baseline without any error":    {twice, against(counted(1, 300), 0, 300), result.Pass, "within"},
		"errors where there were none":    {twice, against(counted(40, 200), 0, 800), result.Fail, "40 of 200"},
		"no baseline":                     {twice, counted(0, 200), result.Inconclusive, "no data of the baseline"},
		"no baseline, and a limit broken": {config.Metric{Preset: "errors", Times: 2, Limit: "<= 0.05"}, counted(100, 200), result.Fail, "100 of 200"},
		"both limits, the tighter one":    {config.Metric{Preset: "errors", Times: 2, Limit: "<= 0.05"}, against(counted(3, 9), 0, 500), result.Fail, "3 of 9"},
		"a baseline that is no number":    {twice, func() measurement { m := counted(0, 200); m.baseline = new(math.NaN()); return m }(), result.Inconclusive, "no data of the baseline"},
		"an infinite baseline":            {config.Metric{Preset: "latency", Times: 2}, measurement{value: new(3.0), baseline: new(math.Inf(1)), samples: 50, errors: -1}, result.Inconclusive, "no data of the baseline"},
		"noise of a bad baseline":         {twice, against(counted(3, 100), 1, 100), result.Inconclusive, "chance"},
		"more is better":                  {config.Metric{Query: "q", Limit: ">= 10"}, measurement{value: new(9.0), samples: 1, errors: -1}, result.Fail, "9 is not >= 10"},
		"both limits, the absolute one":   {config.Metric{Preset: "errors", Times: 10, Limit: "<= 0.01"}, against(counted(50, 500), 25, 500), result.Fail, "0.1 is not <= 0.01"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := judge(test.metric, test.got)
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != test.want || !strings.Contains(d.Why, test.why) {
				t.Errorf("%s: %s, want %s because of %q", d.Verdict, d.Why, test.want, test.why)
			}
			if _, err := json.Marshal(d); err != nil {
				t.Errorf("the record cannot hold it: %v", err)
			}
			if d.Limit == "" || d.Samples != test.got.samples {
				t.Errorf("the decision does not show its limit and samples: %+v", d)
			}
		})
	}
}

// TestAtLeast compares with sums worked out term by term.
func TestAtLeast(t *testing.T) {
	for _, test := range []struct {
		k, n int64
		p    float64
	}{{1, 1, 0.5}, {3, 10, 0.2}, {10, 10, 0.9}, {5, 300, 0.01}, {0, 5, 0.1}, {1, 1000, 0.005}, {400, 1000, 0.5}} {
		want := 0.0
		for i := test.k; i <= test.n; i++ {
			c := 1.0
			for j := range i {
				c *= float64(test.n-j) / float64(j+1) * test.p
			}
			want += c * math.Pow(1-test.p, float64(test.n-i))
		}
		if got := atLeast(test.k, test.n, test.p); math.Abs(got-want) > 1e-6 && !math.IsNaN(want) {
			t.Errorf("P(X >= %d) of %d at %g: %g, want %g", test.k, test.n, test.p, got, want)
		}
	}
	if got := atLeast(1, 1_000_000, 0.5); got < 0.999 {
		t.Errorf("one or more of a million at one half: %g", got)
	}
}
