package deploy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubectl/pkg/polymorphichelpers"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	// pollEvery is how often the cluster is asked how far it is.
	pollEvery = 500 * time.Millisecond
	// lostContact is how long the API server may be away before a run that has nothing written gives up.
	lostContact = 2 * time.Minute
	// logLines are shown of each container that failed.
	logLines = 20
	// crashes are how many restarts of a container say that waiting longer helps nothing.
	crashes = 3
)

// awaited are the kinds that have to run before a deployment counts. A CronJob has nothing to run yet.
var awaited = []string{"Deployment", "StatefulSet", "DaemonSet", "Job"}

// watched refuses pods that nobody could tell the state of: they would pass unseen.
func watched(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if _, runs := podSpecs[o.GetKind()]; runs && o.GetKind() != "CronJob" && !slices.Contains(awaited, o.GetKind()) {
			return result.Inputf("%s: a bare %s is not rolled out, and nothing replaces it when it ends: make it a Deployment or a Job", Name(o), o.GetKind())
		}
	}
	return nil
}

// health is what is known about a workload.
type health struct {
	text           string
	done, hopeless bool
	// restarts changes whenever a container of its pods starts anew; ended counts how often one did.
	restarts string
	ended    int32
	pods     []corev1.Pod
}

// rollout watches workloads until all of them run as they should.
type rollout struct {
	cluster *Cluster
	objects []*unstructured.Unstructured
	// settle is how long everything must have been ready without a restart before it counts: a container that ends after some seconds is
	// ready until then.
	settle time.Duration

	stable   time.Time
	restarts string
	// ended is how often containers have ended, in the pods that there are.
	ended int32
	// strict fails as soon as a container ends in a pod that was ready: it has served, and will again until it ends once more. A container
	// that ends before may wait for something.
	strict bool
	// served holds how often a pod's containers had started when it was last ready.
	served map[types.UID]int32
	// open are those that are not ready yet, or will never be.
	open []*unstructured.Unstructured
}

func (c *Cluster) rollout(objects []*unstructured.Unstructured, settle time.Duration) *rollout {
	r := &rollout{cluster: c, settle: settle, stable: time.Now(), served: map[types.UID]int32{}}
	settled := true
	for _, o := range objects {
		if slices.Contains(awaited, o.GetKind()) {
			r.objects = append(r.objects, o)
			least, _, err := unstructured.NestedInt64(o.Object, "spec", "minReadySeconds")
			settled = settled && err == nil && o.GetKind() == "Deployment" && float64(least) >= settle.Seconds()
		}
	}
	if settled { // its controller has waited that long, for each pod
		r.settle = 0
	}
	return r
}

// look asks how far it is: OK when all have settled, Failed as soon as it is clear that one never will be ready.
func (r *rollout) look(ctx context.Context) (e Event, why string, err error) {
	var open []*unstructured.Unstructured
	var started strings.Builder
	var ended int32
	var texts []string
	for _, o := range r.objects {
		h, err := r.cluster.health(ctx, o)
		if err != nil {
			return "", "", err
		}
		if pod := r.endedAfterReady(h.pods); pod != "" && r.strict {
			h.text, h.hopeless = "pod "+pod+" was ready, and then a container of it has ended", true
		}
		if h.hopeless {
			r.open = []*unstructured.Unstructured{o}
			return Failed, Name(o) + ": " + h.text, nil
		}
		if !h.done {
			open = append(open, o)
			texts = append(texts, Name(o)+": "+h.text)
		}
		started.WriteString(h.restarts)
		ended += h.ended
	}
	r.open, r.ended = open, ended
	if len(open) > 0 || started.String() != r.restarts {
		r.stable, r.restarts = time.Now(), started.String()
	}
	switch {
	case len(r.objects) == 0:
		return OK, "", nil
	case len(open) > 0:
		return "", strings.Join(texts, "; "), nil
	case time.Since(r.stable) < r.settle:
		return "", fmt.Sprintf("ready, and not yet for %s without a restart", r.settle), nil
	}
	return OK, "", nil
}

// endedAfterReady names a pod that was ready, and whose containers have started again since.
func (r *rollout) endedAfterReady(pods []corev1.Pod) string {
	for i := range pods {
		p := &pods[i]
		var starts int32
		ready := len(p.Status.ContainerStatuses) > 0
		for _, s := range p.Status.ContainerStatuses {
			starts += s.RestartCount
			ready = ready && s.Ready
		}
		if before, ok := r.served[p.UID]; ok && starts > before {
			return p.Name
		}
		if ready {
			r.served[p.UID] = starts
		}
	}
	return ""
}

// health asks how far one workload is, with kubectl's own judgement.
func (c *Cluster) health(ctx context.Context, o *unstructured.Unstructured) (health, error) {
	r, err := c.resource(o)
	if err != nil {
		return health{}, err
	}
	live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil {
		return health{}, c.explain("reading "+Name(o), err)
	}
	if o.GetKind() == "Job" {
		return jobHealth(live)
	}
	viewer, err := polymorphichelpers.StatusViewerFor(o.GroupVersionKind().GroupKind())
	if err != nil {
		return health{}, err
	}
	text, done, err := viewer.Status(live, 0)
	if err != nil { // the progress deadline, or a strategy that reports nothing
		return health{text: err.Error(), hopeless: true}, nil
	}
	pods, err := c.pods(ctx, live)
	if err != nil {
		return health{}, err
	}
	if problem := hopelessPod(pods); problem != "" {
		return health{text: problem, hopeless: true}, nil
	}
	h := health{text: strings.TrimSuffix(strings.TrimSpace(text), "..."), done: done, pods: pods}
	h.restarts, h.ended = restarts(pods)
	return h, nil
}

// restarts names every container of every pod with how often it has started, and counts how often one had to start anew.
func restarts(pods []corev1.Pod) (names string, ended int32) {
	var all []string
	for i := range pods {
		for _, s := range pods[i].Status.ContainerStatuses {
			all = append(all, fmt.Sprintf("%s/%s:%d ", pods[i].UID, s.Name, s.RestartCount))
			ended += s.RestartCount
			if s.State.Terminated != nil { // it has ended, and not begun again yet
				ended++
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ""), ended
}

func jobHealth(live *unstructured.Unstructured) (health, error) {
	conditions, _, err := unstructured.NestedSlice(live.Object, "status", "conditions")
	if err != nil {
		return health{}, err
	}
	for _, item := range conditions {
		c, ok := item.(map[string]any)
		if !ok || c["status"] != "True" {
			continue
		}
		switch c["type"] {
		case "Complete":
			return health{text: "complete", done: true}, nil
		case "Failed":
			return health{text: fmt.Sprintf("failed: %v", c["message"]), hopeless: true}, nil
		}
	}
	return health{text: "running"}, nil
}

// pods are those of the workload's present template: what is left of an earlier one says nothing about this.
func (c *Cluster) pods(ctx context.Context, workload *unstructured.Unstructured) ([]corev1.Pod, error) {
	fields, found, err := unstructured.NestedMap(workload.Object, "spec", "selector")
	if err != nil || !found {
		return nil, err
	}
	var selector metav1.LabelSelector
	if err := fromUnstructured(fields, &selector); err != nil {
		return nil, err
	}
	if workload.GetKind() != "Job" { // all of a Job's pods are of its only template
		label, value, err := c.revision(ctx, workload, &selector)
		if err != nil || value == "" {
			return nil, err
		}
		selector.MatchLabels = maps.Clone(selector.MatchLabels)
		if selector.MatchLabels == nil {
			selector.MatchLabels = map[string]string{}
		}
		selector.MatchLabels[label] = value
	}
	list, err := c.typed.CoreV1().Pods(workload.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&selector)})
	if err != nil {
		return nil, c.explain("listing the pods of "+Name(workload), err)
	}
	return list.Items, nil
}

// revision is the label that the pods of the workload's present template have; empty as long as its controller has not seen that template.
func (c *Cluster) revision(ctx context.Context, workload *unstructured.Unstructured, selector *metav1.LabelSelector) (label, value string, err error) {
	observed, _, err := unstructured.NestedInt64(workload.Object, "status", "observedGeneration")
	if err != nil || observed < workload.GetGeneration() {
		return "", "", err
	}
	apps := c.typed.AppsV1()
	all := metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)}
	switch workload.GetKind() {
	case "Deployment":
		const revision = "deployment.kubernetes.io/revision"
		sets, err := apps.ReplicaSets(workload.GetNamespace()).List(ctx, all)
		if err != nil {
			return "", "", c.explain("listing the replica sets of "+Name(workload), err)
		}
		for i := range sets.Items {
			if rs := &sets.Items[i]; metav1.IsControlledBy(rs, workload) && rs.Annotations[revision] == workload.GetAnnotations()[revision] {
				return appsv1.DefaultDeploymentUniqueLabelKey, rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey], nil
			}
		}
	case "StatefulSet":
		value, _, err := unstructured.NestedString(workload.Object, "status", "updateRevision")
		return appsv1.ControllerRevisionHashLabelKey, value, err
	case "DaemonSet":
		revisions, err := apps.ControllerRevisions(workload.GetNamespace()).List(ctx, all)
		if err != nil {
			return "", "", c.explain("listing the revisions of "+Name(workload), err)
		}
		var newest *appsv1.ControllerRevision
		for i := range revisions.Items {
			if r := &revisions.Items[i]; metav1.IsControlledBy(r, workload) && (newest == nil || r.Revision > newest.Revision) {
				newest = r
			}
		}
		if newest != nil {
			return appsv1.ControllerRevisionHashLabelKey, newest.Labels[appsv1.ControllerRevisionHashLabelKey], nil
		}
	}
	return "", "", nil
}

// hopelessPod names what no waiting mends.
func hopelessPod(pods []corev1.Pod) string {
	for i := range pods {
		pod := pods[i].Name
		for _, s := range slices.Concat(pods[i].Status.InitContainerStatuses, pods[i].Status.ContainerStatuses) {
			w := s.State.Waiting
			if w == nil {
				continue
			}
			switch {
			case w.Reason == "CrashLoopBackOff" && s.RestartCount >= crashes:
				return fmt.Sprintf("container %s of pod %s has ended %d times", s.Name, pod, s.RestartCount)
			case w.Reason == "InvalidImageName", w.Reason == "ErrImageNeverPull",
				(w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff") && strings.Contains(strings.ToLower(w.Message), "not found"):
				return fmt.Sprintf("container %s of pod %s: %s: %s", s.Name, pod, w.Reason, oneLine(w.Message))
			}
		}
	}
	return ""
}

// reasons collects what the cluster knows about why workloads failed: container states, events, and the last lines of the logs.
func (c *Cluster) reasons(ctx context.Context, failed []*unstructured.Unstructured) []result.Finding {
	var findings []result.Finding
	for _, o := range failed {
		r, err := c.resource(o)
		if err != nil {
			continue
		}
		live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			continue // what is known has been said
		}
		pods, err := c.pods(ctx, live)
		if err != nil {
			continue
		}
		if len(pods) == 0 {
			findings = append(findings, result.Finding{ID: "no-pod", Severity: result.High, Location: Name(o),
				Message: "it has no pod: " + c.events(ctx, live.GetNamespace(), string(live.GetUID()))})
		}
		for i := range pods {
			findings = append(findings, c.podReasons(ctx, &pods[i])...)
		}
	}
	return findings
}

func (c *Cluster) podReasons(ctx context.Context, p *corev1.Pod) []result.Finding {
	location := "Pod " + p.Namespace + "/" + p.Name
	events := c.events(ctx, p.Namespace, string(p.UID))
	var findings []result.Finding
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if s.Ready && s.RestartCount == 0 || (s.State.Terminated != nil && s.State.Terminated.ExitCode == 0) {
			continue
		}
		var say []string
		if w := s.State.Waiting; w != nil {
			say = append(say, strings.TrimSuffix(w.Reason+": "+oneLine(w.Message), ": "))
		}
		if s.State.Running != nil {
			say = append(say, map[bool]string{true: "runs again", false: "runs, and is not ready"}[s.Ready])
		}
		for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if t != nil {
				say = append(say, fmt.Sprintf("ended with exit code %d (%s)", t.ExitCode, t.Reason))
				break
			}
		}
		if s.RestartCount > 0 {
			say = append(say, fmt.Sprintf("restarted %d times", s.RestartCount))
		}
		if events != "" {
			say = append(say, "events: "+events)
		}
		findings = append(findings, result.Finding{ID: "container-not-ready", Severity: result.High, Location: location + "/" + s.Name,
			Message: strings.Join(say, "; "), Note: c.logs(ctx, p, s.Name, s.RestartCount > 0)})
	}
	if len(findings) == 0 && p.Status.Phase == corev1.PodPending {
		findings = append(findings, result.Finding{ID: "pod-pending", Severity: result.High, Location: location, Message: cmp.Or(events, "no node has taken it")})
	}
	return findings
}

// events are the warnings about an object, the latest last.
func (c *Cluster) events(ctx context.Context, namespace, uid string) string {
	list, err := c.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + uid + ",type=Warning"})
	if err != nil {
		return "" // without the right to see events, the rest still counts
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	var lines []string
	for i := range list.Items {
		if line := list.Items[i].Reason + ": " + oneLine(list.Items[i].Message); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	const most = 3
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}

// logs are a container's last lines, of its last life if it has had one.
func (c *Cluster) logs(ctx context.Context, p *corev1.Pod, container string, previous bool) string {
	lines, limit := int64(logLines), int64(16<<10)
	stream, err := c.typed.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container, TailLines: &lines, LimitBytes: &limit, Previous: previous}).Stream(ctx)
	if err != nil {
		return ""
	}
	defer stream.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(stream, limit)); err != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
