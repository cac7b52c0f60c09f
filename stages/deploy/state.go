package deploy

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// State is a deployment under way, as it stands in the cluster: whoever takes the lease can go on with it, or abort it. It is written before
// each phase begins, and every phase can be begun again.
type State struct {
	position

	Action    string `json:"action"`
	By        string `json:"by"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	Strategy  string `json:"strategy"`
	// Began is when the deployment did, Since when the phase did, Deadline when the phase must have ended.
	Began    time.Time `json:"began"`
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline"`
	// Settings are slipway.yaml's, and Smoke the requests of the check, as they were when it began.
	Settings config.Deploy `json:"settings"`
	Smoke    config.Smoke  `json:"smoke"`
	// Stable and Candidate are the slots. For rolling they are the same.
	Stable    string `json:"stable"`
	Candidate string `json:"candidate"`
	// Pinned says whether the Services name a slot.
	Pinned bool `json:"pinned"`
	// Replicas is how many pods the old version runs.
	Replicas int64 `json:"replicas"`
	// Weight is the share of the traffic that the new version has, in percent.
	Weight int `json:"weight"`
	// Objects and Before are the record's entries with the manifests and with what the last good deployment applied.
	Objects string `json:"objects"`
	Before  string `json:"before,omitempty"`
	// Created are objects that were not there before.
	Created []object `json:"created,omitempty"`
	// Route is the divided route's rules as they were.
	Route string `json:"route,omitempty"`
	// Why is what led to the way back, and Verdict how it counts.
	Why string `json:"why,omitempty"`
	// Unsure is set when nothing failed, and nothing showed that it works.
	Unsure    bool       `json:"unsure,omitempty"`
	Visits    []Visit    `json:"visits,omitempty"`
	Decisions []Decision `json:"decisions,omitempty"`
	Points    []Point    `json:"points,omitempty"`
}

// Point is one measurement, for the picture of how a metric went.
type Point struct {
	Metric string    `json:"m"`
	At     time.Time `json:"t"`
	Step   int       `json:"s"`
	// Value and Baseline are those of the new and of the old version, Limit what the value was held against, as far as it is a number.
	Value    *float64 `json:"v,omitempty"`
	Baseline *float64 `json:"b,omitempty"`
	Limit    *float64 `json:"l,omitempty"`
	// Samples and BaselineSamples are counted since the step began.
	Samples         int64          `json:"n"`
	BaselineSamples int64          `json:"bn,omitempty"`
	Verdict         result.Verdict `json:"r"`
}

// mostPoints bounds the record: of a long deployment, the latest are kept.
const mostPoints = 600

// Visit is one phase that was entered.
type Visit struct {
	Phase  Phase     `json:"phase"`
	Step   int       `json:"step"`
	Weight int       `json:"weight"`
	At     time.Time `json:"at"`
}

// object names one of the cluster's.
type object struct {
	schema.GroupVersionKind `json:",inline"`

	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func (o object) unstructured() *unstructured.Unstructured {
	var u unstructured.Unstructured
	u.SetGroupVersionKind(o.GroupVersionKind)
	u.SetNamespace(o.Namespace)
	u.SetName(o.Name)
	return &u
}

func named(o *unstructured.Unstructured) object {
	return object{GroupVersionKind: o.GroupVersionKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// limits are how long its phases may take.
func (s *State) limits() limits {
	l := limits{Deploy: s.Settings}
	for _, h := range append(append([]config.Hook{}, s.Settings.Hooks.Before...), s.Settings.Hooks.After...) {
		l.hooks += time.Duration(h.Deadline)
	}
	return l
}

func (s *State) machine() machine { return machine{strategy: s.Strategy, steps: len(s.Settings.Steps)} }
