package deploy

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// keepJobs is how long the cluster keeps a hook's Job after its end, for people who look.
const keepJobs = time.Hour

// hooks runs one Job after the other. What ran already, in a run that was interrupted, does not run again.
func (d *deployment) hooks(ctx context.Context, list []config.Hook) (e Event, why string, err error) {
	for _, h := range list {
		e, why, err := d.job(ctx, h.Name, h.Command, h.Args, time.Duration(h.Deadline))
		if e != OK {
			return e, "hook " + h.Name + ": " + why, err
		}
	}
	return OK, "", nil
}

// job sees to it that a command runs once in this deployment, with the new version's image, environment and account.
func (d *deployment) job(ctx context.Context, name string, command, args []string, deadline time.Duration) (e Event, why string, err error) {
	job, err := d.jobManifest(ctx, name, command, args, deadline)
	if err != nil {
		return "", "", err
	}
	r, err := d.Cluster.resource(job)
	if err != nil {
		return "", "", err
	}
	live, err := r.Get(ctx, job.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		d.Say("%s: starting %s", d.App, Name(job))
		if _, err = r.Create(ctx, job, metav1.CreateOptions{FieldManager: FieldManager}); err == nil || apierrors.IsAlreadyExists(err) {
			return "", "started", nil
		}
	}
	if err != nil {
		return "", "", d.Cluster.explain("running "+Name(job), err)
	}
	h, err := jobHealth(live)
	switch {
	case err != nil:
		return "", "", err
	case h.hopeless:
		d.findings = append(d.findings, d.Cluster.reasons(ctx, []*unstructured.Unstructured{live})...)
		return Failed, h.text, nil
	case h.done:
		return OK, "", nil
	}
	return "", h.text, nil
}

// jobManifest makes a Job of the main Deployment's pods. Its pods have none of their labels: no Service may lead to them.
func (d *deployment) jobManifest(ctx context.Context, name string, command, args []string, deadline time.Duration) (*unstructured.Unstructured, error) {
	if d.app.main == nil {
		return nil, result.Inputf("hook %s: it runs with a Deployment's image and environment: %s", name, d.app.several)
	}
	pod, _, err := unstructured.NestedMap(d.app.main.Object, "spec", "template", "spec")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(d.app.main), err)
	}
	containers, _, err := unstructured.NestedSlice(pod, "containers")
	if err != nil {
		return nil, result.Inputf("%s: %w", Name(d.app.main), err)
	}
	for _, c := range containers {
		c, ok := c.(map[string]any)
		if !ok || c["image"] != d.image.String() {
			continue
		}
		for _, serving := range []string{"ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"} {
			delete(c, serving)
		}
		if len(command) > 0 {
			c["command"] = texts(command)
			delete(c, "args")
		}
		if len(args) > 0 {
			c["args"] = texts(args)
		}
		pod["containers"] = []any{c} // without its companions, which would never end
		break
	}
	pod["restartPolicy"] = "Never"
	delete(pod, "topologySpreadConstraints")
	if account, ok := pod["serviceAccountName"].(string); ok {
		sa := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": account, "namespace": d.app.main.GetNamespace()}}}
		live, err := d.live(ctx, sa)
		if err != nil {
			return nil, err
		}
		if live == nil { // before a first deployment, it is not there yet
			delete(pod, "serviceAccountName")
		}
	}
	labels := map[string]any{ManagedBy: FieldManager, AppLabel: d.App, "slipway.dev/hook": name}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": map[string]any{"name": fmt.Sprintf("%.20s-%.30s-%s", d.App, name, strconv.FormatInt(d.state.Began.Unix(), 36)), "namespace": d.namespace(), "labels": labels},
		"spec": map[string]any{"backoffLimit": int64(0), "activeDeadlineSeconds": max(1, int64(deadline.Seconds())), "ttlSecondsAfterFinished": int64(keepJobs.Seconds()),
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": pod}},
	}}, nil
}

// namespace is where the application is.
func (d *deployment) namespace() string {
	if d.app.main != nil && d.app.main.GetNamespace() != "" {
		return d.app.main.GetNamespace()
	}
	return d.Cluster.Namespace
}

func texts(list []string) []any {
	out := make([]any, 0, len(list))
	for _, s := range list {
		out = append(out, s)
	}
	return out
}
