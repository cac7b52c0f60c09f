package deploy

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// sideBySide is the world of blue-green and canary: the new version's pods in the other slot, and traffic that moves.
type sideBySide struct {
	*deployment
	before  []*unstructured.Unstructured
	traffic traffic
	watch   *rollout
	// own watches the new version's pods once they have started, and ended is how often they had ended then: once more is a failure.
	own      *rollout
	ended    int32
	analysis *analysis
}

func (d *deployment) progressive(before []*unstructured.Unstructured) (*sideBySide, error) {
	if d.app.main == nil || len(d.app.services) == 0 {
		return nil, result.Inputf("the deployments' record, ConfigMap %s/%s, holds manifests without a Deployment and its Service: delete the ConfigMap to begin anew",
			d.Cluster.Namespace, HistoryName(d.App))
	}
	w := &sideBySide{deployment: d, before: before}
	if d.state.Strategy == config.Canary {
		w.traffic = d.traffic()
	}
	return w, nil
}

// parts are the manifests with the new version in its slot, and the Services leading to pin.
func (w *sideBySide) parts(pin string) (support, services, later []*unstructured.Unstructured, main *unstructured.Unstructured, err error) {
	placed, err := w.app.place(w.state.Candidate, pin)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	support, services, later, main = w.app.split(placed)
	return support, services, later, main, nil
}

// scale brings the new version to n pods. It has no autoscaler yet.
func (w *sideBySide) scale(ctx context.Context, n int64) error {
	_, _, _, main, err := w.parts(w.state.Stable)
	if err != nil {
		return err
	}
	if err := setReplicas(main, n); err != nil {
		return err
	}
	scaled := []*unstructured.Unstructured{main}
	if w.hasBaseline() {
		anew, err := w.app.anew(w.before, w.state.Stable)
		if err != nil {
			return err
		}
		if err := setReplicas(anew, n); err != nil {
			return err
		}
		scaled = append(scaled, anew)
	}
	w.watch = w.Cluster.rollout(scaled, time.Duration(w.Settings.Settle))
	w.watch.strict = true
	return w.Cluster.apply(ctx, scaled, true)
}

// hasBaseline says whether the old version runs anew beside this canary.
func (d *deployment) hasBaseline() bool {
	return d.state.Strategy == config.Canary && d.state.Settings.Analysis.Baseline
}

// beside are what stands there only while two versions do.
func (d *deployment) beside(before []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	service, err := d.app.besides(d.state.Candidate, d.suffix())
	if err != nil || !d.hasBaseline() {
		return []*unstructured.Unstructured{service}, err
	}
	baseline, err := d.app.besides(fresh, fresh)
	if err != nil {
		return nil, err
	}
	anew, err := d.app.anew(before, d.state.Stable)
	return []*unstructured.Unstructured{service, baseline, anew}, err
}

// pin makes the application's Services lead to one slot, or to both.
func (w *sideBySide) pin(ctx context.Context, slot string) error {
	_, services, _, _, err := w.parts(slot)
	if err != nil {
		return err
	}
	return w.Cluster.apply(ctx, services, true)
}

// pods is how many the new version needs for its share.
func (w *sideBySide) pods(weight int) int64 {
	n, share := w.state.Replicas, int64(weight)
	switch {
	case share >= 100:
		return n
	case w.Settings.Traffic.Driver == config.ByReplicas:
		return max(1, (share*n+99-share)/(100-share))
	}
	return max(1, (share*n+99)/100)
}

func (w *sideBySide) enter(ctx context.Context) error {
	s := w.state
	switch s.Phase {
	case Preparing:
		return nil
	case Starting:
		return w.start(ctx)
	case Shifting:
		s.Weight = s.Settings.Steps[s.Step].Weight
		return w.scale(ctx, w.pods(s.Weight))
	case Analysing:
		return w.startAnalysis(ctx)
	case Switching:
		if err := w.scale(ctx, s.Replicas); err != nil {
			return err
		}
		s.Weight = 100
		return nil
	case Holding:
		return w.applyLater(ctx)
	case Draining:
		if w.traffic != nil {
			return w.traffic.send(ctx, wholly)
		}
	case Retiring:
		return w.retire(ctx)
	case Reviving:
		return w.revive(ctx)
	case Returning:
		s.Weight = 0
		services, err := w.beforeServices()
		if err != nil {
			return err
		}
		if err := w.Cluster.apply(ctx, services, true); err != nil {
			return err
		}
		if w.traffic != nil {
			return w.traffic.send(ctx, wholly)
		}
	case Clearing:
		return w.clear(ctx)
	}
	return nil
}

// start applies what the new version needs, and its first pods.
func (w *sideBySide) start(ctx context.Context) error {
	support, services, _, _, err := w.parts(w.state.Stable)
	if err != nil {
		return err
	}
	beside, err := w.beside(w.before)
	if err != nil {
		return err
	}
	beside = slices.DeleteFunc(beside, func(o *unstructured.Unstructured) bool { return o.GetKind() != "Service" }) // pods come with scale
	for _, objects := range [][]*unstructured.Unstructured{support, services, beside} {
		if err := w.Cluster.apply(ctx, objects, false); err != nil {
			return err
		}
	}
	first := w.state.Replicas
	if w.state.Strategy == config.Canary {
		first = w.pods(w.state.Settings.Steps[0].Weight)
	}
	return w.scale(ctx, first)
}

// applyLater brings what comes with the traffic: other workloads. They are waited for.
func (w *sideBySide) applyLater(ctx context.Context) error {
	_, _, later, _, err := w.parts(w.state.Candidate)
	if err != nil {
		return err
	}
	w.watch = w.Cluster.rollout(later, time.Duration(w.Settings.Settle))
	return w.Cluster.apply(ctx, later, false)
}

// retire ends the old version, and leaves things as the manifests have them.
func (w *sideBySide) retire(ctx context.Context) error {
	s := w.state
	_, _, _, main, err := w.parts(s.Candidate)
	if err != nil {
		return err
	}
	if err := w.Cluster.leaveReplicas(ctx, []*unstructured.Unstructured{main}); err != nil {
		return err
	}
	if err := w.Cluster.apply(ctx, []*unstructured.Unstructured{main}, true); err != nil {
		return err
	}
	placed, err := w.app.place(s.Candidate, s.Candidate)
	if err != nil {
		return err
	}
	if err := w.prune(ctx, w.before, placed); err != nil { // the old Deployment is among them
		return err
	}
	return w.removeBeside(ctx)
}

func (w *sideBySide) removeBeside(ctx context.Context) error {
	beside, err := w.beside(w.before)
	if err != nil {
		return err
	}
	_, err = w.Cluster.remove(ctx, beside, w.App)
	return err
}

// revive brings the old version up again: what ran before, with as many pods as it had.
func (w *sideBySide) revive(ctx context.Context) error {
	var old []*unstructured.Unstructured
	for _, o := range w.before {
		o := o.DeepCopy()
		if o.GetKind() == "Service" {
			continue
		}
		if o.GetKind() == "Deployment" && o.GetName() == w.app.slotName(w.state.Stable) {
			if err := setReplicas(o, w.state.Replicas); err != nil {
				return err
			}
		}
		old = append(old, o)
	}
	w.watch = w.Cluster.rollout(old, 0)
	return w.Cluster.apply(ctx, old, true)
}

// beforeServices are the last good deployment's, leading to the old version.
func (w *sideBySide) beforeServices() ([]*unstructured.Unstructured, error) {
	var services []*unstructured.Unstructured
	for _, o := range w.before {
		if o.GetKind() == "Service" {
			o := o.DeepCopy()
			if len(servicesOf([]*unstructured.Unstructured{o}, w.app.main)) > 0 {
				// Also one of a time when it named no slot: both versions' pods would fit it.
				if err := pinService(o, w.state.Stable); err != nil {
					return nil, result.Inputf("%s: %w", Name(o), err)
				}
			}
			services = append(services, o)
		}
	}
	return services, nil
}

// clear ends the new version, and makes everything as it was.
func (w *sideBySide) clear(ctx context.Context) error {
	var rest []*unstructured.Unstructured
	for _, o := range w.before {
		isMain := o.GetKind() == "Deployment" && o.GetName() == w.app.slotName(w.state.Stable)
		if o.GetKind() != "Service" && !isMain { // these two are as they were
			rest = append(rest, o)
		}
	}
	w.watch = w.Cluster.rollout(rest, 0)
	if err := w.Cluster.apply(ctx, rest, true); err != nil {
		return err
	}
	_, _, _, main, err := w.parts(w.state.Stable)
	if err != nil {
		return err
	}
	if _, err := w.Cluster.remove(ctx, []*unstructured.Unstructured{main}, w.App); err != nil {
		return err
	}
	if err := w.removeBeside(ctx); err != nil {
		return err
	}
	return w.removeCreated(ctx, w.before)
}

func (w *sideBySide) observe(ctx context.Context) (e Event, why string, err error) {
	s := w.state
	switch s.Phase {
	case Preparing:
		return w.hooks(ctx, w.Settings.Hooks.Before)
	case Starting:
		return w.watch.look(ctx)
	case Checking:
		return w.check(ctx)
	case Shifting:
		return w.shifted(ctx)
	case Analysing:
		if e, why, err := w.healthy(ctx); e != "" || err != nil {
			return e, why, err
		}
		return w.analyse(ctx)
	case Switching:
		return w.switched(ctx)
	case Holding:
		return w.hold(ctx)
	case Draining, Returning:
		slot := s.Candidate
		if s.Phase == Returning {
			slot = s.Stable
		}
		return w.drained(ctx, slot)
	case Reviving, Clearing:
		return w.watch.look(ctx)
	}
	return OK, "", nil
}

// shifted moves the traffic when the pods for it are there.
func (w *sideBySide) shifted(ctx context.Context) (e Event, why string, err error) {
	if e, why, err := w.watch.look(ctx); e != OK || err != nil {
		return e, why, err
	}
	if w.state.Settings.Traffic.Driver == config.ByReplicas {
		pin := unpinned
		if w.state.Weight == 100 {
			pin = w.state.Candidate
		}
		if err := w.pin(ctx, pin); err != nil {
			return "", "", err
		}
		return OK, "", nil
	}
	if err := w.traffic.send(ctx, w.state.Weight); err != nil {
		return "", "", err
	}
	return w.traffic.arrived(ctx)
}

// switched makes the Services lead to the new version once all its pods are ready, and waits until the API server's list of addresses says so.
func (w *sideBySide) switched(ctx context.Context) (e Event, why string, err error) {
	if e, why, err := w.watch.look(ctx); e != OK || err != nil {
		return e, why, err
	}
	if err := w.pin(ctx, w.state.Candidate); err != nil {
		return "", "", err
	}
	return w.leadsTo(ctx, w.state.Candidate)
}

// leadsTo says whether the Service's addresses are all of one slot's pods.
func (w *sideBySide) leadsTo(ctx context.Context, slot string) (e Event, why string, err error) {
	ns, service := w.namespace(), w.app.services[0].GetName()
	addresses, err := w.Cluster.typed.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return "", "", w.Cluster.explain("listing the addresses of Service "+ns+"/"+service, err)
	}
	pods, err := w.Cluster.typed.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: SlotLabel + "=" + slot})
	if err != nil {
		return "", "", w.Cluster.explain("listing pods", err)
	}
	own := map[types.UID]bool{}
	for i := range pods.Items {
		own[pods.Items[i].UID] = true
	}
	ready, others := 0, 0
	for i := range addresses.Items {
		for _, ep := range addresses.Items[i].Endpoints {
			switch {
			case ep.TargetRef == nil || !own[ep.TargetRef.UID]:
				others++
			case ep.Conditions.Ready == nil || *ep.Conditions.Ready:
				ready++
			}
		}
	}
	if ready == 0 || others > 0 {
		return "", fmt.Sprintf("Service %s/%s leads to %d pods of the slot %s, and to %d others", ns, service, ready, slot, others), nil
	}
	return OK, "", nil
}

// hold keeps the old version ready until the hooks, the other workloads and the time are through.
func (w *sideBySide) hold(ctx context.Context) (e Event, why string, err error) {
	if e, why, err := w.healthy(ctx); e != "" || err != nil {
		return e, why, err
	}
	if e, why, err := w.watch.look(ctx); e != OK || err != nil {
		return e, why, err
	}
	if e, why, err := w.hooks(ctx, w.Settings.Hooks.After); e != OK || err != nil {
		return e, why, err
	}
	if time.Since(w.state.Since) < time.Duration(w.Settings.Hold) {
		return "", "", nil
	}
	return OK, "", nil
}

// drained waits until the addresses have changed, the proxies say that they know, and then for those that say nothing.
func (w *sideBySide) drained(ctx context.Context, slot string) (e Event, why string, err error) {
	if e, why, err := w.leadsTo(ctx, slot); e != OK || err != nil {
		return e, why, err
	}
	if w.traffic != nil {
		if e, why, err := w.traffic.arrived(ctx); e != OK || err != nil {
			return e, why, err
		}
	}
	if time.Since(w.state.Since) < time.Duration(w.Settings.Drain) {
		return "", "", nil
	}
	return OK, "", nil
}

// healthy fails when a container of the new version has ended since it was ready: whatever is measured, it does not run as it should.
func (w *sideBySide) healthy(ctx context.Context) (e Event, why string, err error) {
	if w.own == nil {
		_, _, _, main, err := w.parts(w.state.Candidate)
		if err != nil {
			return "", "", err
		}
		w.own, w.ended = w.Cluster.rollout([]*unstructured.Unstructured{main}, 0), -1
	}
	e, why, err = w.own.look(ctx)
	switch {
	case e == Failed || err != nil:
		return e, why, err
	case w.ended < 0:
		w.ended = w.own.ended
	case w.own.ended > w.ended:
		w.watch = w.own
		return Failed, "a container of the new version has ended after it was ready", nil
	}
	return "", "", nil
}

func (w *sideBySide) failed(ctx context.Context) []result.Finding {
	if w.watch == nil || w.state.Phase.back() {
		return nil
	}
	open := w.watch.open
	if len(open) == 0 {
		open = w.watch.objects
	}
	return w.Cluster.reasons(ctx, open)
}

// check sends the smoke test's requests to the new version's own Service, through the API server.
func (w *sideBySide) check(ctx context.Context) (e Event, why string, err error) {
	s := w.state
	if s.Smoke.Port == 0 && len(s.Smoke.Requests) == 0 {
		return OK, "", nil
	}
	requests := s.Smoke.Requests
	if s.Smoke.Health != "" {
		requests = append([]config.Request{{Path: s.Smoke.Health}}, requests...)
	}
	for _, q := range requests {
		if why, err = w.ask(ctx, q); err != nil {
			return "", "", err
		}
		if why != "" && time.Since(s.Since) < time.Duration(s.Smoke.Timeout) {
			return "", why, nil
		}
		if why != "" {
			return Failed, "the check of the new version failed: " + why, nil
		}
	}
	return OK, "", nil
}

// ask sends one request to the new version's own Service; why is empty when the answer is as it should be.
func (w *sideBySide) ask(ctx context.Context, q config.Request) (why string, err error) {
	path, query, _ := strings.Cut(q.Path, "?")
	req := w.Cluster.typed.CoreV1().RESTClient().Get().Namespace(w.namespace()).Resource("services").
		Name(w.app.services[0].GetName() + "-" + w.suffix() + ":" + portOf(w.app.services[0])).SubResource("proxy").Suffix(path)
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", result.Inputf("path %q: %w", q.Path, err)
	}
	for k, all := range values {
		for _, v := range all {
			req = req.Param(k, v)
		}
	}
	body, code, err := raw(ctx, req)
	switch {
	case code == http.StatusForbidden || code == http.StatusUnauthorized || code == 0:
		return "", w.Cluster.explain("asking the new version at "+q.Path, err)
	case q.Status != 0 && code != q.Status, q.Status == 0 && code/100 != 2:
		return fmt.Sprintf("%s answers %d", q.Path, code), nil
	case !strings.Contains(string(body), q.Contains):
		return fmt.Sprintf("%s answers without %q", q.Path, q.Contains), nil
	}
	return "", nil
}

// raw is a request's answer, also when it is no success.
func raw(ctx context.Context, req *rest.Request) (body []byte, code int, err error) {
	res := req.Do(ctx)
	res.StatusCode(&code)
	body, err = res.Raw()
	return body, code, err
}

// portOf is a Service's port by name, or its number: the one called http, or the first.
func portOf(service *unstructured.Unstructured) string {
	var s corev1.Service
	if err := fromUnstructured(service.Object, &s); err != nil || len(s.Spec.Ports) == 0 {
		return "http"
	}
	p := s.Spec.Ports[0]
	for _, q := range s.Spec.Ports {
		if q.Name == "http" {
			p = q
		}
	}
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprint(p.Port)
}
