package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	// FieldManager owns the fields that Slipway sets.
	FieldManager = "slipway"
	// ManagedBy and AppLabel are the labels of what Slipway may delete again: only its own, and only of the same application.
	ManagedBy = "app.kubernetes.io/managed-by"
	// AppLabel holds the application's name.
	AppLabel = "slipway.dev/app"
)

// order is what has to be there before what: the rest comes after the kinds named here, and workloads come last.
var order = []string{"Namespace", "CustomResourceDefinition", "PriorityClass", "ServiceAccount", "Secret", "ConfigMap", "PersistentVolume",
	"PersistentVolumeClaim", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "NetworkPolicy", "PodDisruptionBudget", "Service"}

var workloads = []string{"Pod", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "HorizontalPodAutoscaler"}

func rank(kind string) int {
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	if i := slices.Index(workloads, kind); i >= 0 {
		return len(order) + 1 + i
	}
	return len(order)
}

// inOrder sorts objects so that what others need comes first, and marks them as app's.
func inOrder(objects []*unstructured.Unstructured, app string) {
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a.GetKind()) - rank(b.GetKind()) })
	for _, o := range objects {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[ManagedBy], labels[AppLabel] = FieldManager, app
		o.SetLabels(labels)
	}
}

// change is what applying one object would do.
type change struct {
	object *unstructured.Unstructured
	// live is the object as it is, nil when it is not there yet; after is what the API server says that it would become, nil when it cannot
	// say, because the object's namespace is not there yet either.
	live, after *unstructured.Unstructured
}

func (c change) created() bool { return c.live == nil }

// preview asks the API server what applying each object would do. It names everything that the API server refuses: nothing was changed.
func (c *Cluster) preview(ctx context.Context, objects []*unstructured.Unstructured) ([]change, error) {
	var changes []change
	var refused []string
	coming := map[string]bool{}
	for _, o := range objects {
		r, err := c.resource(o)
		if err != nil {
			return nil, err
		}
		ch := change{object: o}
		ch.live, err = r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			ch.live = nil
		} else if err != nil {
			return nil, c.explain("reading "+Name(o), err)
		}
		if o.GetKind() == "Namespace" && ch.created() {
			coming[o.GetName()] = true
		}
		if coming[o.GetNamespace()] {
			changes = append(changes, ch)
			continue
		}
		ch.after, err = r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: FieldManager, DryRun: []string{metav1.DryRunAll}})
		if why := refusal(o, err); why != "" {
			refused = append(refused, why)
			continue
		}
		if err != nil {
			return nil, c.explain("checking "+Name(o), err)
		}
		changes = append(changes, ch)
	}
	if len(refused) > 0 {
		return nil, result.Inputf("the cluster refuses %d of %d objects, and nothing was changed:\n%s", len(refused), len(objects), strings.Join(refused, "\n"))
	}
	return changes, nil
}

// refusal says why the API server refuses one object, and what to do about it; empty when it is not the object's fault.
func refusal(o *unstructured.Unstructured, err error) string {
	var id, fix string
	switch {
	case apierrors.IsConflict(err):
		id = "field-conflict"
		fix = "remove the fields from the manifest, or take them from the other manager: kubectl apply --server-side --force-conflicts --field-manager=" + FieldManager
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		id, fix = "invalid-manifest", "correct the manifest"
	case apierrors.IsNotFound(err) && o.GetNamespace() != "":
		id, fix = "missing-namespace", "create the namespace "+o.GetNamespace()+", or put it among the manifests"
	case apierrors.IsForbidden(err):
		id, fix = "forbidden", "let the cluster's administrator grant it to the kubeconfig's user, or change the manifest if a policy refuses it"
	default:
		return ""
	}
	return fmt.Sprintf("  %s: %s: %v: %s", id, Name(o), err, fix)
}

// apply makes the objects so. With force, fields that others have taken come back: only for what was right before.
func (c *Cluster) apply(ctx context.Context, objects []*unstructured.Unstructured, force bool) error {
	for _, o := range objects {
		r, err := c.resource(o)
		if err != nil {
			return err
		}
		if _, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: FieldManager, Force: force}); err != nil {
			return c.explain("applying "+Name(o), err)
		}
	}
	return nil
}

// leaveReplicas hands the number of pods over to the autoscaler, where the manifest has none: the API server makes it 1 when nobody claims it
// any more, and so another manager's name is put to the number that there is.
func (c *Cluster) leaveReplicas(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if kind := o.GetKind(); kind != "Deployment" && kind != "StatefulSet" || replicasOf(o) != 0 {
			continue
		}
		r, err := c.resource(o)
		if err != nil {
			return err
		}
		live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && replicasOf(live) == 0 {
			continue
		}
		if err != nil {
			return c.explain("reading "+Name(o), err)
		}
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"replicas": replicasOf(live)}})
		if err != nil {
			return err
		}
		if _, err := r.Patch(ctx, o.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager + "-scale"}, "scale"); err != nil {
			return c.explain("scaling "+Name(o), err)
		}
	}
	return nil
}

// remove deletes objects that are still ours, the last ones of the order first.
func (c *Cluster) remove(ctx context.Context, objects []*unstructured.Unstructured, app string) (names []string, err error) {
	background := metav1.DeletePropagationBackground
	for _, o := range slices.Backward(objects) {
		r, err := c.resource(o)
		if result.IsInput(err) {
			continue // its kind is gone, and it with it
		}
		if err != nil {
			return names, err
		}
		live, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return names, c.explain("reading "+Name(o), err)
		}
		if l := live.GetLabels(); l[ManagedBy] != FieldManager || l[AppLabel] != app || live.GetKind() == "Namespace" || live.GetKind() == "PersistentVolumeClaim" ||
			live.GetAnnotations()["helm.sh/resource-policy"] == "keep" {
			continue // somebody else's by now, or what data hangs on
		}
		uid := live.GetUID()
		if err := r.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
			return names, c.explain("deleting "+Name(o), err)
		}
		names = append(names, Name(o))
	}
	return names, nil
}

// without are the objects of before that are not in after.
func without(before, after []*unstructured.Unstructured) []*unstructured.Unstructured {
	id := func(o *unstructured.Unstructured) string {
		return o.GroupVersionKind().GroupKind().String() + " " + o.GetNamespace() + "/" + o.GetName()
	}
	var gone []*unstructured.Unstructured
	for _, b := range before {
		if !slices.ContainsFunc(after, func(a *unstructured.Unstructured) bool { return id(a) == id(b) }) {
			gone = append(gone, b)
		}
	}
	return gone
}

// diff shows as a unified diff what the changes would do, and how many objects differ.
func diff(changes []change) (text string, differing int, err error) {
	var all strings.Builder
	for _, ch := range changes {
		after := ch.after
		if after == nil {
			after = ch.object
		}
		from, err := shown(ch.live)
		if err != nil {
			return "", 0, err
		}
		to, err := shown(after)
		if err != nil {
			return "", 0, err
		}
		if from == to {
			continue
		}
		differing++
		name := Name(ch.object)
		d, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: difflib.SplitLines(from), B: difflib.SplitLines(to),
			FromFile: name + " (now)", ToFile: name + " (after)", Context: 3})
		if err != nil {
			return "", 0, err
		}
		all.WriteString(d)
	}
	return all.String(), differing, nil
}

// shown is an object as YAML without what the API server keeps for itself, and without secrets.
func shown(o *unstructured.Unstructured) (string, error) {
	if o == nil {
		return "", nil
	}
	o = o.DeepCopy()
	unstructured.RemoveNestedField(o.Object, "status")
	for _, f := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(o.Object, "metadata", f)
	}
	if o.GetKind() == "Secret" {
		for _, field := range []string{"data", "stringData"} {
			values, _, _ := unstructured.NestedMap(o.Object, field)
			for k, v := range values {
				sum := sha256.Sum256(fmt.Append(nil, v))
				values[k] = "(secret, SHA-256 " + hex.EncodeToString(sum[:4]) + ")"
			}
			if len(values) > 0 {
				if err := unstructured.SetNestedMap(o.Object, values, field); err != nil {
					return "", err
				}
			}
		}
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
	}
	text, err := yaml.Marshal(o.Object)
	return string(text), err
}

// encode and decode keep objects in the deployment's record.
func encode(objects []*unstructured.Unstructured) ([]byte, error) {
	list := make([]map[string]any, 0, len(objects))
	for _, o := range objects {
		list = append(list, o.Object)
	}
	return json.Marshal(list)
}

func decode(data []byte) ([]*unstructured.Unstructured, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, raw := range list {
		var o unstructured.Unstructured
		if err := o.UnmarshalJSON(bytes.TrimSpace(raw)); err != nil {
			return nil, err
		}
		objects = append(objects, &o)
	}
	return objects, nil
}
