package deploy

import (
	"cmp"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
)

// preset is how a proxy, or an application, counts what it serves.
type preset struct {
	// errors and total select counters, seconds a histogram's buckets without the suffix.
	errors, total, seconds string
	// scale makes seconds of the histogram's unit.
	scale string
}

// presets by source. The selectors fit one Service, or one Deployment's pods, and not those whose names only begin the same.
var sources = map[string]preset{
	// Traefik, as Gateway API, Ingress or IngressRoute controller, with addServicesLabels.
	"traefik": {
		errors:  `traefik_service_requests_total{service=~"${namespace}-${service}-([a-z0-9]+-)?[0-9]+@kubernetes.*",code=~"5.."}`,
		total:   `traefik_service_requests_total{service=~"${namespace}-${service}-([a-z0-9]+-)?[0-9]+@kubernetes.*"}`,
		seconds: `traefik_service_request_duration_seconds_SUFFIX{service=~"${namespace}-${service}-([a-z0-9]+-)?[0-9]+@kubernetes.*"}`,
	},
	"istio": {
		errors:  `istio_requests_total{reporter="destination",destination_service_namespace="${namespace}",destination_service_name="${service}",response_code=~"5.."}`,
		total:   `istio_requests_total{reporter="destination",destination_service_namespace="${namespace}",destination_service_name="${service}"}`,
		seconds: `istio_request_duration_milliseconds_SUFFIX{reporter="destination",destination_service_namespace="${namespace}",destination_service_name="${service}"}`,
		scale:   " / 1000",
	},
	// ingress-nginx counts a canary under the main Ingress, and says so in a label.
	"nginx": {
		errors:  `nginx_ingress_controller_requests{exported_namespace="${namespace}",ingress="${route}",canary${is}"",status=~"5.."} or nginx_ingress_controller_requests{namespace="${namespace}",ingress="${route}",canary${is}"",status=~"5.."}`,
		total:   `nginx_ingress_controller_requests{exported_namespace="${namespace}",ingress="${route}",canary${is}""} or nginx_ingress_controller_requests{namespace="${namespace}",ingress="${route}",canary${is}""}`,
		seconds: `nginx_ingress_controller_request_duration_seconds_SUFFIX{ingress="${route}",canary${is}""}`,
	},
	// The names that most client libraries and frameworks agree on; the code is in the label code or status.
	"http": {
		errors:  `http_requests_total{namespace="${namespace}",pod=~"${deployment}-[a-z0-9]+-[a-z0-9]+",code=~"5.."} or http_requests_total{namespace="${namespace}",pod=~"${deployment}-[a-z0-9]+-[a-z0-9]+",status=~"5.."}`,
		total:   `http_requests_total{namespace="${namespace}",pod=~"${deployment}-[a-z0-9]+-[a-z0-9]+"}`,
		seconds: `http_request_duration_seconds_SUFFIX{namespace="${namespace}",pod=~"${deployment}-[a-z0-9]+-[a-z0-9]+"}`,
	},
}

// sourceOf is whose metrics a preset reads when it does not say.
var sourceOf = map[string]string{config.ByGateway: "traefik", config.ByIstio: "istio", config.ByNginx: "nginx", config.ByReplicas: "http"}

// defaultMetrics hold when Prometheus is named, and nothing to measure: twice the baseline's errors end a canary.
var defaultMetrics = []config.Metric{{Preset: "errors", Times: 2}}

// expand makes a preset counters or a query.
func expand(m config.Metric, driver string) config.Metric {
	if m.Preset == "" {
		return m
	}
	p := sources[cmp.Or(m.Source, sourceOf[driver])]
	m.Name = cmp.Or(m.Name, m.Preset)
	if m.Limit == "" && m.Times == 0 {
		m.Times = 2
	}
	if m.Preset == "errors" {
		m.Errors, m.Total = p.errors, p.total
		return m
	}
	histogram := func(suffix string) string { return strings.ReplaceAll(p.seconds, "SUFFIX", suffix) }
	m.Query = "histogram_quantile(0.95, sum by (le) (rate(" + histogram("bucket") + "[${window}])))" + p.scale
	m.Count = "sum(increase(" + histogram("count") + "[${window}]))"
	return m
}

// side is one of the two versions in a query.
type side struct {
	namespace, service, deployment, route string
	canary                                bool
	window                                time.Duration
}

// fill replaces the variables.
func (s side) fill(promQL string) string {
	is := "="
	if s.canary {
		is = "!="
	}
	return strings.NewReplacer("${namespace}", s.namespace, "${service}", s.service, "${deployment}", s.deployment, "${route}", s.route, "${is}", is,
		"${window}", s.window.Round(time.Second).String()).Replace(promQL)
}
