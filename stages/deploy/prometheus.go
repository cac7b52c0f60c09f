package deploy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// prometheus answers queries. Its own client is the reader: the API has warnings, special numbers and two kinds of errors.
type prometheus struct {
	address string
	api     promv1.API
}

// newPrometheus reaches NAMESPACE/SERVICE:PORT through the API server's proxy, and so needs no network of its own; or a URL.
func (c *Cluster) newPrometheus(address string) (*prometheus, error) {
	conf := api.Config{Address: address, Client: &http.Client{Timeout: requestTimeout}}
	if !strings.Contains(address, "://") {
		namespace, service, _ := strings.Cut(address, "/")
		client, err := rest.HTTPClientFor(c.rest)
		if err != nil {
			return nil, result.Input(err)
		}
		conf.Client = client
		conf.Address = strings.TrimSuffix(c.Server, "/") + "/api/v1/namespaces/" + namespace + "/services/" + service + "/proxy"
	}
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, result.Inputf("deploy.analysis.prometheus %q: %w", address, err)
	}
	return &prometheus{address: address, api: promv1.NewAPI(client)}, nil
}

// query asks for a vector. A query that Prometheus does not understand is wrong input; a Prometheus that does not answer is the world's fault.
func (p *prometheus) query(ctx context.Context, promQL string) (model.Vector, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	value, _, err := p.api.Query(ctx, promQL, time.Time{})
	if err != nil {
		return nil, p.explain(promQL, err)
	}
	switch v := value.(type) {
	case model.Vector:
		return v, nil
	case *model.Scalar:
		return model.Vector{&model.Sample{Value: v.Value}}, nil
	}
	return nil, result.Inputf("query %q gives a %s, and not numbers", promQL, value.Type())
}

func (p *prometheus) explain(promQL string, err error) error {
	if e, ok := errors.AsType[*promv1.Error](err); ok {
		detail := strings.ToLower(e.Detail)
		switch {
		case e.Type == promv1.ErrBadData || e.Type == promv1.ErrExec:
			return result.Inputf("Prometheus refuses the query %q: %s", promQL, e.Msg)
		case strings.Contains(detail, "forbidden"):
			return result.Inputf("asking Prometheus at %s: missing rights: let the cluster's administrator grant get on services/proxy: %s", p.address, oneLine(e.Detail))
		case strings.Contains(detail, `services \"`) || strings.Contains(detail, "not found"):
			return result.Inputf("there is no Prometheus at %s: correct deploy.analysis.prometheus, or install it: %s", p.address, oneLine(e.Detail))
		}
		err = errors.New(oneLine(e.Msg + " " + e.Detail))
	}
	return &unreachable{p.address, err}
}

// unreachable is a Prometheus that does not answer.
type unreachable struct {
	address string
	err     error
}

func (e *unreachable) Error() string {
	return "asking Prometheus at " + e.address + ": " + e.err.Error()
}
func (e *unreachable) Unwrap() error { return e.err }

// number is the one value of a query; nil is no data.
func (p *prometheus) number(ctx context.Context, promQL string) (*float64, error) {
	v, err := p.query(ctx, promQL)
	switch {
	case err != nil:
		return nil, err
	case len(v) == 0:
		return nil, nil
	case len(v) > 1:
		return nil, result.Inputf("query %q gives %d series, and must give one: put sum(...) or max(...) around it", promQL, len(v))
	}
	value := float64(v[0].Value)
	return &value, nil
}

// counters sums what counters grew by since they were first asked for, exactly: rate and increase guess at both ends of a window, and miss the first
// value of a new series.
type counters struct {
	series map[model.Fingerprint]*counter
}

type counter struct{ base, last, before float64 }

// add takes a new reading. The first one is where it begins; a series that comes later began at zero, and one that fell began anew.
func (c *counters) add(v model.Vector) {
	first := c.series == nil
	if first {
		c.series = map[model.Fingerprint]*counter{}
	}
	for _, s := range v {
		value, id := float64(s.Value), s.Metric.Fingerprint()
		k := c.series[id]
		switch {
		case k == nil && first:
			c.series[id] = &counter{base: value, last: value}
		case k == nil:
			c.series[id] = &counter{last: value}
		case value < k.last:
			k.before += k.last - k.base
			k.base, k.last = 0, value
		default:
			k.last = value
		}
	}
}

func (c *counters) sum() int64 {
	total := 0.0
	for _, k := range c.series {
		total += k.before + k.last - k.base
	}
	return int64(total + 0.5)
}
