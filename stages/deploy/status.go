package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// The files that Status and History write.
const (
	StatusName  = "status.json"
	HistoryFile = "history.json"
)

// Status is how an application stands.
type Status struct {
	App       string `json:"app"`
	Namespace string `json:"namespace"`
	// Serving is the last good deployment; nil when there is none.
	Serving *Record `json:"serving,omitempty"`
	// Last is the one that ended last, also when it failed.
	Last *Record `json:"last,omitempty"`
	// Running is the deployment under way, or interrupted.
	Running *State `json:"running,omitempty"`
	// Holder has the lease; empty when nobody works on it.
	Holder string `json:"holder,omitempty"`
	// Workloads are what the serving deployment runs, as the cluster has it now.
	Workloads []Workload `json:"workloads,omitempty"`
}

// Workload is a Deployment, StatefulSet or DaemonSet as it is.
type Workload struct {
	Name   string   `json:"name"`
	Ready  int64    `json:"ready"`
	Wanted int64    `json:"wanted"`
	Images []string `json:"images"`
	// Drift says what is not as it was deployed; empty when nothing.
	Drift string `json:"drift,omitempty"`
}

// ReadStatus asks the cluster how an application stands. It fails when Slipway never deployed it.
func ReadStatus(ctx context.Context, c *Cluster, app, out string) (*result.Result, error) {
	h, err := c.history(ctx, app)
	if err != nil {
		return nil, err
	}
	if !h.exists {
		return nil, neverDeployed(c, app)
	}
	s := &Status{App: app, Namespace: c.Namespace, Running: h.state, Serving: h.good()}
	if n := len(h.records); n > 0 {
		s.Last = &h.records[n-1]
	}
	if s.Holder, err = c.holder(ctx, app); err != nil {
		return nil, err
	}
	if s.Serving != nil {
		objects, err := h.read(s.Serving.Objects)
		if err != nil {
			return nil, err
		}
		if s.Workloads, err = c.workloads(ctx, objects); err != nil {
			return nil, err
		}
	}
	r := &result.Result{Verdict: result.Pass, Summary: s.line(), Outputs: map[string]string{"text": s.String()},
		Files: []result.File{{Path: StatusName, MediaType: "application/json"}}}
	return r, writeJSON(out, StatusName, s)
}

func neverDeployed(c *Cluster, app string) error {
	return result.Inputf("Slipway has deployed no %q to namespace %s: correct --name or --namespace", app, c.Namespace)
}

func (c *Cluster) holder(ctx context.Context, app string) (string, error) {
	lease, err := c.typed.CoordinationV1().Leases(c.Namespace).Get(ctx, HistoryName(app), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", c.explain("reading the lease", err)
	}
	if h := lease.Spec.HolderIdentity; h != nil && *h != "" && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < leaseTime {
		return *h, nil
	}
	return "", nil
}

// workloads compares what runs with what was deployed.
func (c *Cluster) workloads(ctx context.Context, objects []*unstructured.Unstructured) ([]Workload, error) {
	var all []Workload
	for _, o := range objects {
		if o.GetKind() != "Deployment" && o.GetKind() != "StatefulSet" && o.GetKind() != "DaemonSet" {
			continue
		}
		w := Workload{Name: Name(o)}
		r, err := c.resource(o)
		if err != nil {
			return nil, err
		}
		live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			w.Drift = "it is gone"
		case err != nil:
			return nil, c.explain("reading "+Name(o), err)
		default:
			ready, wanted := "readyReplicas", "replicas"
			if o.GetKind() == "DaemonSet" {
				ready, wanted = "numberReady", "desiredNumberScheduled"
			}
			if w.Ready, _, err = unstructured.NestedInt64(live.Object, "status", ready); err != nil {
				return nil, err
			}
			if w.Wanted, _, err = unstructured.NestedInt64(live.Object, "status", wanted); err != nil {
				return nil, err
			}
			w.Images = images(live)
			if was := images(o); fmt.Sprint(was) != fmt.Sprint(w.Images) {
				w.Drift = fmt.Sprintf("it was deployed with %v", was)
			}
		}
		all = append(all, w)
	}
	return all, nil
}

func images(o *unstructured.Unstructured) []string {
	var list []string
	_ = each(o.Object, func(c map[string]any) error {
		image, _ := c["image"].(string)
		list = append(list, image)
		return nil
	}, append(append([]string{}, podSpecs[o.GetKind()]...), "containers")...)
	return list
}

// line is the status in one.
func (s *Status) line() string {
	switch {
	case s.Running != nil && s.Holder != "":
		return fmt.Sprintf("%s: %s is deploying %s (%s, %d %% of the traffic)", s.App, s.Holder, s.Running.Digest, s.Running.Phase, s.Running.Weight)
	case s.Running != nil && s.Running.Phase == Broken:
		return fmt.Sprintf("%s: the way back of the last deployment failed: abort it again, or deploy a version that works: %s", s.App, s.Running.Why)
	case s.Running != nil:
		return fmt.Sprintf("%s: the deployment of %s by %s was interrupted while %s: resume or abort it", s.App, s.Running.Digest, s.Running.By, s.Running.limits().told(s.Running.position, s.Running.Candidate))
	case s.Serving != nil:
		return fmt.Sprintf("%s runs %s", s.App, s.Serving.Digest)
	}
	return s.App + " runs nothing that Slipway deployed"
}

// String is the status for people.
func (s *Status) String() string {
	var b bytes.Buffer
	fmt.Fprintln(&b, s.line())
	if r := s.Serving; r != nil {
		fmt.Fprintf(&b, "  since %s, by %s, %s %s\n", r.Time, r.By, r.Strategy, r.Action)
	}
	for _, w := range s.Workloads {
		fmt.Fprintf(&b, "  %s: %d of %d ready", w.Name, w.Ready, w.Wanted)
		if w.Drift != "" {
			fmt.Fprintf(&b, "; drift: %s", w.Drift)
		}
		fmt.Fprintln(&b)
	}
	if r := s.Last; r != nil && (s.Serving == nil || r.Time != s.Serving.Time) {
		fmt.Fprintf(&b, "  last: %s %s of %s by %s: %s: %s\n", r.Time, r.Action, r.Digest, r.By, r.Verdict, r.Summary)
	}
	if r := s.Running; r != nil {
		for _, d := range r.Decisions {
			fmt.Fprintf(&b, "  %s\n", d)
		}
	}
	return b.String()
}

// String is a decision in a line.
func (d Decision) String() string {
	value := "no data"
	if d.Value != nil {
		value = fmt.Sprintf("%.4g", *d.Value)
	}
	text := fmt.Sprintf("%d %%: %s: %s: %s, limit %s, %d samples (%d needed)", d.Weight, d.Metric, d.Verdict, value, d.Limit, d.Samples, d.Needed)
	if d.DryRun {
		text += ", decides nothing"
	}
	return text
}

// ReadHistory tells what was deployed, the latest first.
func ReadHistory(ctx context.Context, c *Cluster, app, out string) (*result.Result, error) {
	h, err := c.history(ctx, app)
	if err != nil {
		return nil, err
	}
	if !h.exists {
		return nil, neverDeployed(c, app)
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENDED\tBY\tACTION\tSTRATEGY\tVERDICT\tDIGEST\tBACK\tSUMMARY")
	for _, r := range slices.Backward(h.records) {
		back := "no"
		if r.Objects != "" {
			back = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Time, r.By, r.Action, r.Strategy, r.Verdict, r.Digest, back, r.Summary)
	}
	if err := t.Flush(); err != nil {
		return nil, err
	}
	r := &result.Result{Verdict: result.Pass, Summary: fmt.Sprintf("%d deployments of %s", len(h.records), app), Outputs: map[string]string{"text": b.String()},
		Files: []result.File{{Path: HistoryFile, MediaType: "application/json"}}}
	return r, writeJSON(out, HistoryFile, h.records)
}

func writeJSON(dir, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o644)
}

// StatementDir holds the unsigned statement about a deployment.
const StatementDir = "statements"

// writeRecord leaves the record of this deployment beside the result, and as a statement about the image, for a signature.
func (d *deployment) writeRecord(rec Record) error {
	d.result.Files = append(d.result.Files, result.File{Path: RecordName, MediaType: "application/json"})
	if err := writeJSON(d.Out, RecordName, rec); err != nil {
		return err
	}
	page, err := deploymentPage(d.App, d.Cluster.Namespace, rec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.Out, PageName), page, 0o644); err != nil {
		return err
	}
	d.result.Files = append(d.result.Files, result.File{Path: PageName, MediaType: "text/html"})
	s, err := statement.New(d.result.Inputs, statement.Deployment, map[string]any{
		"app": d.App, "namespace": d.Cluster.Namespace, "server": d.Cluster.Server, "time": rec.Time, "record": rec,
		statement.VerdictKey: statement.Verdict{Verdict: rec.Verdict, Summary: rec.Summary, Metrics: d.result.Metrics, Time: rec.Time},
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(d.Out, StatementDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d.result.Files = append(d.result.Files, result.File{Path: filepath.Join(StatementDir, "deployment.json"), MediaType: "application/vnd.in-toto+json"})
	return writeJSON(dir, "deployment.json", s)
}
