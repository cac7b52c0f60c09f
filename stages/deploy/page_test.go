package deploy

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

var pageBegan = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func pageAt(seconds float64) time.Time {
	return pageBegan.Add(time.Duration(seconds * float64(time.Second)))
}

// went makes visits, a second or as many as given after one another.
type went struct {
	phase  Phase
	step   int
	weight int
	took   float64
}

func pageRecord(strategy string, verdict result.Verdict, way ...went) Record {
	rec := Record{By: "somebody", Reference: "registry.test/app@sha256:" + strings.Repeat("a", 64), Digest: "sha256:" + strings.Repeat("a", 64), Strategy: strategy,
		Verdict: verdict, Summary: "app runs", Action: actionDeploy, Began: pageBegan.Format(time.RFC3339)}
	at := 0.0
	for _, w := range way {
		rec.Phases = append(rec.Phases, Visit{Phase: w.phase, Step: w.step, Weight: w.weight, At: pageAt(at)})
		at += w.took
	}
	rec.Time = pageAt(at).Format(time.RFC3339)
	return rec
}

// measured adds a metric that is measured every other second of a step; a negative value is no data.
func measured(rec *Record, metric string, step, weight int, from float64, limit float64, values ...float64) {
	d := Decision{Metric: metric, Step: step, Weight: weight, Query: `sum(rate(x{code=~"5.."}[1m]))`, Limit: fmt.Sprintf("<= %g", limit), Needed: 20}
	for i, v := range values {
		n := int64(i + 1)
		p := Point{Metric: metric, Step: step, At: pageAt(from + 2*float64(i+1)), Limit: &limit, Baseline: new(0.01), Samples: 10 * n, BaselineSamples: 90 * n, Verdict: result.Pass}
		switch {
		case v < 0:
			p.Verdict = result.Inconclusive
		case v > limit:
			p.Value, p.Verdict = &v, result.Fail
		default:
			p.Value = &v
		}
		rec.Points = append(rec.Points, p)
		d.Value, d.Baseline, d.Samples, d.BaselineSamples, d.Verdict, d.Why, d.Measured = p.Value, p.Baseline, p.Samples, p.BaselineSamples, p.Verdict, "as it is", i+1
	}
	rec.Decisions = append(rec.Decisions, d)
}

func passedCanary() Record {
	rec := pageRecord(config.Canary, result.Pass, went{Preparing, 0, 0, 1}, went{Starting, 0, 0, 5}, went{Checking, 0, 0, 1}, went{Shifting, 0, 0, 2},
		went{Analysing, 0, 10, 10}, went{Shifting, 1, 10, 3}, went{Analysing, 1, 50, 10}, went{Shifting, 2, 50, 3}, went{Analysing, 2, 100, 10},
		went{Switching, 2, 100, 1}, went{Holding, 2, 100, 3}, went{Draining, 2, 100, 3}, went{Retiring, 2, 100, 4}, went{Done, 2, 100, 0})
	for step, from := range []float64{9, 22, 35} {
		measured(&rec, "errors", step, []int{10, 50, 100}[step], from, 0.05, 0.002, 0.01, -1, 0.02, 0.01)
		measured(&rec, "latency", step, []int{10, 50, 100}[step], from, 1, 0.005, 0.006, 0.004, 0.005, 0.0061)
	}
	return rec
}

func abortedCanary() Record {
	rec := pageRecord(config.Canary, result.Fail, went{Preparing, 0, 0, 1}, went{Starting, 0, 0, 5}, went{Checking, 0, 0, 1}, went{Shifting, 0, 0, 2},
		went{Analysing, 0, 10, 9}, went{Returning, 0, 10, 4}, went{Clearing, 0, 0, 6}, went{Aborted, 0, 0, 0})
	rec.Summary = "step 1 of 3 (10 %): errors: 12 of 40 requests failed: 0.3 is not <= 0.05; rolled back to the last good deployment"
	measured(&rec, "errors", 0, 10, 9, 0.05, 0.04, -1, 0.05, 0.3)
	return rec
}

func longCanary() Record {
	rec := pageRecord(config.Canary, result.Pass, went{Preparing, 0, 0, 1}, went{Shifting, 0, 0, 2}, went{Analysing, 0, 20, 1200}, went{Switching, 0, 20, 1}, went{Done, 0, 100, 0})
	values := make([]float64, 600)
	for i := range values {
		values[i] = math.Abs(math.Sin(float64(i)))
	}
	measured(&rec, "errors", 0, 20, 3, 0.9, values...)
	return rec
}

func hostileRecord() Record {
	const bad = "</title></svg><script>alert(1)</script>\x00\x01\u202e\xff\"'><img src=x onerror=alert(1)>"
	rec := abortedCanary()
	rec.By, rec.Summary, rec.Digest, rec.Reference, rec.Strategy, rec.Action, rec.Verdict = bad, bad, bad, bad, bad, bad, bad
	rec.Began, rec.Time = bad, bad
	for i := range rec.Phases {
		rec.Phases[i].Phase = Phase(bad)
	}
	for i := range rec.Points {
		rec.Points[i].Metric, rec.Points[i].Verdict = bad, bad
	}
	d := &rec.Decisions[0]
	d.Metric, d.Query, d.Limit, d.Why, d.Verdict = bad, bad, bad, bad, bad
	return rec
}

func absurdRecord() Record {
	rec := passedCanary()
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64} {
		rec.Points[i].Value, rec.Points[i].Baseline, rec.Points[i].Limit = new(v), new(v), new(v)
		rec.Points[i].Samples, rec.Points[i].BaselineSamples = math.MaxInt64, math.MinInt64
		rec.Decisions[i].Value, rec.Decisions[i].Baseline = new(v), new(v)
	}
	rec.Points[7].At = time.Time{}
	rec.Phases[3].At, rec.Phases[4].Weight, rec.Phases[5].Weight = time.Time{}, -7, 1000
	return rec
}

// TestDeploymentPage renders all kinds of records. What is shown is well-formed, and asks for nothing.
func TestDeploymentPage(t *testing.T) {
	for name, test := range map[string]struct {
		rec      Record
		want     []string
		pictures []string
	}{
		"rolling": {pageRecord(config.Rolling, result.Pass, went{Preparing, 0, 0, 1}, went{Updating, 0, 0, 12}, went{Holding, 0, 0, 0}, went{Retiring, 0, 0, 1}, went{Done, 0, 0, 0}),
			[]string{"replaced in place", "Only a canary is analysed", "<td>updating</td>", "12 s"}, []string{"ladder"}},
		"rolling, taken back": {pageRecord(config.Rolling, result.Fail, went{Preparing, 0, 0, 1}, went{Updating, 0, 0, 12}, went{Restoring, 0, 0, 8}, went{Aborted, 0, 0, 0}),
			[]string{"the way back was taken.", "way back took", "8.0 s"}, []string{"ladder"}},
		"blue-green": {pageRecord(config.BlueGreen, result.Pass, went{Preparing, 0, 0, 1}, went{Starting, 0, 0, 9}, went{Checking, 0, 0, 1}, went{Switching, 0, 0, 1}, went{Holding, 0, 100, 5},
			went{Draining, 0, 100, 4}, went{Retiring, 0, 100, 2}, went{Done, 0, 100, 0}), []string{"all the traffic at once", "100 %", "Only a canary is analysed"}, []string{"ladder"}},
		"canary": {passedCanary(), []string{"in 3 steps", "0:09", "limit", "gap", "errors", "latency", "150 requests", "1350 requests", "50 (20 needed); baseline 450", "0.0061", "sum(rate(x{code=~&#34;5..&#34;}[1m]))"},
			[]string{"ladder", "metric-1", "metric-2", "traffic"}},
		"canary, taken back": {abortedCanary(), []string{"It had 10 % of the traffic at most.", "12 of 40 requests failed", "on the way back", `class="dot fail"`, "0:18"}, []string{"ladder", "metric-1", "traffic"}},
		"before it had traffic": {pageRecord(config.Canary, result.Fail, went{Preparing, 0, 0, 1}, went{Starting, 0, 0, 5}, went{Returning, 0, 0, 1}, went{Clearing, 0, 0, 1}, went{Aborted, 0, 0, 0}),
			[]string{"before it had any traffic", "Nothing was measured."}, []string{"ladder"}},
		"inconclusive":  {pageRecord(config.Canary, result.Inconclusive, went{Preparing, 0, 0, 1}, went{Returning, 0, 10, 1}, went{Aborted, 0, 0, 0}), []string{"Nothing showed clearly"}, []string{"ladder"}},
		"broken":        {pageRecord(config.BlueGreen, result.Fail, went{Preparing, 0, 0, 1}, went{Returning, 0, 0, 1}, went{Broken, 0, 0, 0}), []string{"a person has to look at the cluster"}, []string{"ladder"}},
		"without steps": {pageRecord(config.Canary, result.Pass), []string{"not in the record any more", "Nothing was measured."}, nil},
		"at once":       {pageRecord(config.BlueGreen, result.Pass, went{Done, 0, 100, 0}), []string{"runs"}, []string{"ladder"}},
		"only decisions": {func() Record { r := passedCanary(); r.Points = nil; return r }(), []string{"not in the record any more", "as it is", "No metric counted the requests"},
			[]string{"ladder"}},
		"only points": {func() Record { r := passedCanary(); r.Decisions, r.Phases = nil, nil; return r }(), []string{"0.0061"}, []string{"metric-1", "metric-2", "traffic"}},
		"one version is counted": {func() Record {
			r := passedCanary()
			for i := range r.Points {
				r.Points[i].BaselineSamples = 0
			}
			return r
		}(), []string{"No metric counted the requests"}, []string{"ladder", "metric-1", "metric-2"}},
		"600 points": {longCanary(), []string{"the latest 600 measurements", "5:00", "6000 requests"}, []string{"ladder", "metric-1", "traffic"}},
		"hostile":    {hostileRecord(), []string{"&lt;script&gt;alert(1)", "\uFFFD"}, []string{"ladder", "metric-1"}},
		"absurd":     {absurdRecord(), []string{"no data"}, []string{"ladder", "metric-1", "metric-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := deploymentPage("app<i>", "space", test.rec)
			if err != nil {
				t.Fatal(err)
			}
			page := string(data)
			for _, want := range append(test.want, "app&lt;i&gt;", "in space") {
				if !strings.Contains(page, want) {
					t.Errorf("it has no %q", want)
				}
			}
			for _, bad := range []string{"NaN", "Inf", "<script", "<img", "<i>", "\x00", "\u202e", "ZgotmplZ", "http://", "https://", "url("} {
				if strings.Contains(page, bad) {
					t.Errorf("it has %q", bad)
				}
			}
			var pictures []string
			for _, m := range regexp.MustCompile(`<svg role="img" aria-labelledby="([a-z0-9-]+)-title `).FindAllStringSubmatch(page, -1) {
				pictures = append(pictures, m[1])
				if !strings.Contains(page, `<title id="`+m[1]+`-title">`) || !strings.Contains(page, `<desc id="`+m[1]+`-desc">`) {
					t.Errorf("picture %s has no title or no description", m[1])
				}
			}
			for _, want := range test.pictures {
				if !strings.Contains(" "+strings.Join(pictures, " ")+" ", " "+want+" ") {
					t.Errorf("it has the pictures %v, and not %s", pictures, want)
				}
			}
			if test.pictures == nil && pictures != nil {
				t.Errorf("it has the pictures %v", pictures)
			}
			wellFormed(t, page)
			if size := len(data); size > 600<<10 {
				t.Errorf("it has %d bytes", size)
			}
		})
	}
}

// wellFormed reads every picture as XML, and looks whether what is drawn lies inside.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	for rest := page; ; {
		begin := strings.Index(rest, "<svg")
		if begin < 0 {
			return
		}
		rest = rest[begin:]
		d := xml.NewDecoder(strings.NewReader(rest))
		depth := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) || err != nil {
				t.Fatalf("a picture is not well-formed: %v in %.200q", err, rest)
			}
			if e, ok := token.(xml.StartElement); ok {
				depth++
				inside(t, e)
			}
			if _, ok := token.(xml.EndElement); ok {
				depth--
			}
			if depth == 0 {
				break
			}
		}
		rest = rest[d.InputOffset():]
	}
}

func inside(t *testing.T, e xml.StartElement) {
	t.Helper()
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "x", "y", "cx", "cy", "x1", "x2", "y1", "y2", "width", "height", "r":
			var v float64
			if _, err := fmt.Sscanf(a.Value, "%g", &v); err != nil || math.Abs(v) > 300 || v < -8 || strings.HasSuffix(a.Value, "%") && v > 100 {
				t.Errorf("<%s> has %s=%q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

// TestPageTraffic: counts begin anew with every step, and a baseline that is carried over counts once.
func TestPageTraffic(t *testing.T) {
	phases := phasesOf(pageRecord(config.Canary, result.Pass, went{Analysing, 0, 50, 10}, went{Shifting, 1, 50, 2}, went{Analysing, 1, 100, 10}, went{Done, 1, 100, 0}))
	point := func(at float64, step int, fresh, old int64) Point {
		return Point{Metric: "errors", At: pageAt(at), Step: step, Samples: fresh, BaselineSamples: old, Baseline: new(0.0)}
	}
	list := intervals([]Point{point(2, 0, 10, 12), point(4, 0, 30, 28), point(14, 1, 40, 28), point(16, 1, 75, 28)}, phases)
	var got []string
	for _, i := range list {
		got = append(got, fmt.Sprintf("%d-%d %d %d", i.from.Sub(pageBegan)/time.Second, i.to.Sub(pageBegan)/time.Second, i.fresh, i.old))
	}
	if want := "0-2 10 12, 2-4 20 16, 12-14 40 0, 14-16 35 0"; strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
}

// TestPageScales: labels are few, and what they say is short.
func TestPageScales(t *testing.T) {
	for _, high := range []float64{1e-90, 3e-7, 0.0051, 0.05, 0.3, 1, 7, 99, 4321, 98765, 3e6, 7e11, 1e90} {
		s := newValueScale([]float64{0, high})
		ticks := s.ticks()
		if len(ticks) < 2 || len(ticks) > 6 || s.high < high {
			t.Errorf("up to %g: from %g to %g with the labels %v", high, s.low, s.high, ticks)
		}
		for _, k := range ticks {
			if len(k.Label) > 7 {
				t.Errorf("up to %g: the label %q is long", high, k.Label)
			}
		}
	}
	for _, whole := range []float64{1, 3, 59, 61, 3599, 90000, 9e6} {
		s := timeScale{zero: pageBegan, from: pageAt(0.3), to: pageAt(whole)}
		if n := len(s.ticks()); n < 1 || n > 5 {
			t.Errorf("over %g seconds: %d labels", whole, n)
		}
	}
}
