package deploy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/common/model"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

func reading(values map[string]float64) model.Vector {
	var v model.Vector
	for pod, value := range values {
		v = append(v, &model.Sample{Metric: model.Metric{"pod": model.LabelValue(pod)}, Value: model.SampleValue(value)})
	}
	return v
}

// TestCounters: what was there before the step does not count, a new series counts from its first request, and a counter that begins anew loses nothing.
func TestCounters(t *testing.T) {
	var c counters
	for _, step := range []struct {
		values map[string]float64
		want   int64
	}{
		{map[string]float64{"a": 100}, 0},
		{map[string]float64{"a": 110}, 10},
		{map[string]float64{"a": 112, "b": 5}, 17}, // b's first five
		{map[string]float64{"a": 3, "b": 6}, 21},   // a began anew
		{map[string]float64{"b": 8}, 23},           // a is gone, and what it counted stays
	} {
		c.add(reading(step.values))
		if got := c.sum(); got != step.want {
			t.Errorf("after %v: %d, want %d", step.values, got, step.want)
		}
	}
	var late counters
	late.add(nil)
	late.add(reading(map[string]float64{"a": 7}))
	if got := late.sum(); got != 7 {
		t.Errorf("a series that comes later: %d, want 7", got)
	}
}

// TestPrometheus asks a server as Prometheus answers: numbers, no data, several series, a query that it does not understand, and no Prometheus.
func TestPrometheus(t *testing.T) {
	answers := map[string]string{
		"one":   `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.25"]}]}}`,
		"none":  `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"nan":   `{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`,
		"two":   `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]}]}}`,
		"range": `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}]}}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.FormValue("query")
		switch answer, ok := answers[q]; {
		case ok:
			fmt.Fprint(w, answer)
		case q == "away":
			http.Error(w, "no endpoints available", http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}`)
		}
	}))
	defer srv.Close()
	p, err := (&Cluster{}).newPrometheus(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for query, test := range map[string]struct {
		want  string
		input bool
	}{
		"one": {"0.25", false}, "none": {"no data", false}, "nan": {"NaN", false}, "two": {"gives 2 series", true}, "range": {"gives a matrix", true},
		"sum(": {"refuses the query", true}, "away": {"asking Prometheus at " + srv.URL, false},
	} {
		v, err := p.number(context.Background(), query)
		got := "no data"
		switch {
		case err != nil:
			got = err.Error()
		case v != nil:
			got = fmt.Sprint(*v)
		}
		if !strings.Contains(got, test.want) || err != nil && result.IsInput(err) != test.input {
			t.Errorf("%s: %s (input error: %v), want %s", query, got, result.IsInput(err), test.want)
		}
	}
}

// TestPresets: every preset becomes PromQL without a variable left, and of each side its own.
func TestPresets(t *testing.T) {
	for source := range sources {
		for _, kind := range []string{"errors", "latency"} {
			m := expand(config.Metric{Preset: kind, Source: source}, config.ByReplicas)
			for _, canary := range []bool{false, true} {
				s := side{namespace: "web", service: "shop", deployment: "shop-green", route: "shop", canary: canary, window: 5e9}
				for _, q := range []string{m.Errors, m.Total, m.Query, m.Count} {
					if filled := s.fill(q); strings.Contains(filled, "${") || strings.Contains(filled, "SUFFIX") {
						t.Errorf("%s %s: %s", source, kind, filled)
					}
				}
			}
			if m.Errors == "" && m.Query == "" || m.Limit == "" && m.Times == 0 {
				t.Errorf("%s %s measures nothing, or holds it against nothing: %+v", source, kind, m)
			}
		}
	}
}

// TestNotify: a message arrives, a refusal is final, a fault is tried again, and no error repeats the URL, which is a secret.
func TestNotify(t *testing.T) {
	tries := 0
	var codes []int
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code := codes[min(tries, len(codes)-1)]
		tries++
		w.WriteHeader(code)
	}))
	defer srv.Close()
	for name, test := range map[string]struct {
		codes []int
		tries int
		want  string
	}{
		"arrives": {[]int{200}, 1, ""}, "a fault": {[]int{500, 200}, 2, ""}, "refused": {[]int{404}, 1, "refuses the message: 404"}, "down": {[]int{503}, 3, "answers 503"},
	} {
		tries, codes = 0, test.codes
		err := Notify(context.Background(), srv.URL+"/secret", Message{App: "shop", Verdict: result.Pass})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if tries != test.tries || !strings.Contains(got, test.want) || (test.want == "") != (err == nil) || strings.Contains(got, "secret") {
			t.Errorf("%s: %d tries, %v", name, tries, err)
		}
	}
	srv.Close()
	if err := Notify(context.Background(), srv.URL+"/secret", Message{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody there: %v", err)
	}
}
