package deploy

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	recordKey = "history.json"
	stateKey  = "state.json"
	// abortAnnotation of the ConfigMap names who asks the run to go back.
	abortAnnotation = "slipway.dev/abort"
	// keepRecords are told, keepObjects of the good ones can be gone back to: a ConfigMap holds one MiB.
	keepRecords, keepObjects = 20, 5
	// maxRecord bounds the ConfigMap's content, in bytes.
	maxRecord = 900 << 10
	leaseTime = 30 * time.Second
)

// Record is one deployment: who, when, what, and how it ended.
type Record struct {
	Time      string `json:"time"`
	By        string `json:"by"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	Strategy  string `json:"strategy"`
	// Verdict is pass or fail, Summary one line about it.
	Verdict result.Verdict `json:"verdict"`
	Summary string         `json:"summary"`
	// Action is deploy or rollback.
	Action string `json:"action"`
	// Began is when it did; Time is when it ended.
	Began string `json:"began,omitempty"`
	// Phases are what it went through, Decisions what the analysis measured.
	Phases    []Visit    `json:"phases,omitempty"`
	Decisions []Decision `json:"decisions,omitempty"`
	Points    []Point    `json:"points,omitempty"`
	// Stable is the slot that has the traffic since.
	Stable string `json:"stable,omitempty"`
	// Objects names the entry that holds what was applied; empty when it is kept no more.
	Objects string `json:"objects,omitempty"`
}

// history is the application's record in the cluster: a ConfigMap that everybody with the rights can read with kubectl.
type history struct {
	cluster *Cluster
	name    string
	exists  bool   // whether there is a ConfigMap yet
	version string // its resourceVersion
	records []Record
	// state is the deployment that runs, or was interrupted; nil when the last one has ended.
	state *State
	// asked says who wants it aborted.
	asked   string
	objects map[string][]byte
}

// HistoryName is that of the ConfigMap and the Lease of an application.
func HistoryName(app string) string { return "slipway-" + app }

func (c *Cluster) history(ctx context.Context, app string) (*history, error) {
	h := &history{cluster: c, name: HistoryName(app), objects: map[string][]byte{}}
	cm, err := c.typed.CoreV1().ConfigMaps(c.Namespace).Get(ctx, h.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return h, nil
	}
	if err != nil {
		return nil, c.explain("reading the deployments' record", err)
	}
	h.exists, h.version, h.asked = true, cm.ResourceVersion, cm.Annotations[abortAnnotation]
	if cm.BinaryData != nil {
		h.objects = cm.BinaryData
	}
	if err := json.Unmarshal([]byte(cm.Data[recordKey]), &h.records); err != nil {
		return nil, h.unreadable(recordKey, err)
	}
	if text := cm.Data[stateKey]; text != "" {
		h.state = &State{}
		if err := json.Unmarshal([]byte(text), h.state); err != nil {
			return nil, h.unreadable(stateKey, err)
		}
	}
	return h, nil
}

func (h *history) unreadable(entry string, err error) error {
	return result.Inputf("the deployments' record, ConfigMap %s/%s: %s cannot be read: %w: delete the ConfigMap to begin anew", h.cluster.Namespace, h.name, entry, err)
}

// good is the last deployment that passed and can be gone back to; nil when there is none.
func (h *history) good() *Record { return h.find(func(*Record) bool { return true }) }

// find is the latest good deployment that fits and can be gone back to.
func (h *history) find(fits func(*Record) bool) *Record {
	for i := len(h.records) - 1; i >= 0; i-- {
		if r := &h.records[i]; r.Verdict == result.Pass && r.Objects != "" && fits(r) {
			return r
		}
	}
	return nil
}

// read gives the objects of one entry; none for no entry.
func (h *history) read(entry string) ([]*unstructured.Unstructured, error) {
	if entry == "" {
		return nil, nil
	}
	objects, err := unpack(h.objects[entry])
	if err != nil {
		return nil, h.unreadable(entry, err)
	}
	return objects, nil
}

// keep stores objects under a new entry.
func (h *history) keep(objects []*unstructured.Unstructured) (entry string, err error) {
	packed, err := pack(objects)
	if err != nil {
		return "", err
	}
	entry = fmt.Sprintf("objects-%s.json.gz", time.Now().UTC().Format("20060102T150405.000000000"))
	h.objects[entry] = packed
	return entry, nil
}

// end puts a record at the end, in the place of the state.
func (h *history) end(ctx context.Context, r Record) error {
	h.records = append(h.records, r)
	h.records = h.records[max(0, len(h.records)-keepRecords):]
	for i := range h.records[:max(0, len(h.records)-keepObjects)] {
		h.records[i].Phases, h.records[i].Decisions = nil, nil // of long ago, the verdict is enough
	}
	for i := range h.records[:len(h.records)-1] {
		h.records[i].Points = nil // the picture is of the last one
	}
	h.state = nil
	return h.save(ctx)
}

// save writes the whole. Only who has the lease does.
func (h *history) save(ctx context.Context) error {
	h.forget()
	records := h.records
	if records == nil {
		records = []Record{}
	}
	text, err := json.MarshalIndent(records, "", " ")
	if err != nil {
		return err
	}
	data := map[string]string{recordKey: string(text)}
	if h.state != nil {
		text, err := json.MarshalIndent(h.state, "", " ")
		if err != nil {
			return err
		}
		data[stateKey] = string(text)
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: h.name, Namespace: h.cluster.Namespace, ResourceVersion: h.version, Labels: map[string]string{ManagedBy: FieldManager}},
		Data:       data, BinaryData: h.objects,
	}
	maps := h.cluster.typed.CoreV1().ConfigMaps(h.cluster.Namespace)
	if !h.exists {
		cm, err = maps.Create(ctx, cm, metav1.CreateOptions{FieldManager: FieldManager})
	} else {
		if h.state != nil && h.asked != "" {
			cm.Annotations = map[string]string{abortAnnotation: h.asked}
		}
		cm, err = maps.Update(ctx, cm, metav1.UpdateOptions{FieldManager: FieldManager})
		if apierrors.IsConflict(err) { // somebody asks for an abort meanwhile: nobody else writes without the lease
			if err = h.refresh(ctx); err == nil {
				return h.save(ctx)
			}
		}
	}
	if err != nil {
		return h.cluster.explain("writing the deployments' record", err)
	}
	h.exists, h.version = true, cm.ResourceVersion
	return nil
}

// refresh sees whether somebody asks for an abort.
func (h *history) refresh(ctx context.Context) error {
	cm, err := h.cluster.typed.CoreV1().ConfigMaps(h.cluster.Namespace).Get(ctx, h.name, metav1.GetOptions{})
	if err != nil {
		return h.cluster.explain("reading the deployments' record", err)
	}
	h.version, h.asked = cm.ResourceVersion, cm.Annotations[abortAnnotation]
	return nil
}

// askAbort tells the run that has the lease to go back.
func (h *history) askAbort(ctx context.Context, by string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{abortAnnotation: by}}})
	if err != nil {
		return err
	}
	_, err = h.cluster.typed.CoreV1().ConfigMaps(h.cluster.Namespace).Patch(ctx, h.name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	return h.cluster.explain("asking for the abort", err)
}

// forget drops the objects of all but the last good deployments, and of the one that runs.
func (h *history) forget() {
	kept, size := map[string]bool{}, 0
	if s := h.state; s != nil {
		for _, entry := range []string{s.Objects, s.Before} {
			if entry != "" && !kept[entry] {
				kept[entry] = true
				size += len(h.objects[entry])
			}
		}
	}
	running := len(kept)
	for i := len(h.records) - 1; i >= 0; i-- {
		r := &h.records[i]
		if r.Objects == "" || kept[r.Objects] {
			continue
		}
		if size += len(h.objects[r.Objects]); len(kept)-running == keepObjects || (size > maxRecord && len(kept) > 0) {
			r.Objects = ""
			continue
		}
		kept[r.Objects] = true
	}
	for name := range h.objects {
		if !kept[name] {
			delete(h.objects, name)
		}
	}
}

func pack(objects []*unstructured.Unstructured) ([]byte, error) {
	data, err := encode(objects)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(data []byte) ([]*unstructured.Unstructured, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxManifests))
	if err != nil {
		return nil, err
	}
	return decode(text)
}

// lock takes the application's Lease, so that two runs do not work against each other. It is renewed until unlock; a run that died gives it
// up by not renewing it.
func (c *Cluster) lock(ctx context.Context, app, holder string) (held context.Context, unlock func(), err error) {
	leases := c.typed.CoordinationV1().Leases(c.Namespace)
	seconds := int32(leaseTime.Seconds())
	now := metav1.NowMicro()
	want := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: HistoryName(app), Namespace: c.Namespace, Labels: map[string]string{ManagedBy: FieldManager}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now}}
	lease, err := leases.Create(ctx, want, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		if lease, err = leases.Get(ctx, want.Name, metav1.GetOptions{}); err != nil {
			return nil, nil, c.explain("reading the lease", err)
		}
		if other := lease.Spec.HolderIdentity; other != nil && *other != "" && lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < leaseTime {
			return nil, nil, result.Inputf("%s is being deployed by %s since %s (Lease %s/%s): wait until it has ended", app, *other,
				lease.Spec.AcquireTime.UTC().Format(time.RFC3339), c.Namespace, want.Name)
		}
		want.ResourceVersion = lease.ResourceVersion
		lease, err = leases.Update(ctx, want, metav1.UpdateOptions{FieldManager: FieldManager})
		if apierrors.IsConflict(err) {
			return nil, nil, result.Inputf("%s is being deployed by somebody else since just now (Lease %s/%s): wait until it has ended", app, c.Namespace, want.Name)
		}
	}
	if err != nil {
		return nil, nil, c.explain("taking the lease", err)
	}
	held, cancel := context.WithCancelCause(ctx)
	// A run that is told to end still takes back what it began, and nobody else may come between.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		for {
			select {
			case <-renewing.Done():
				return
			case <-time.After(leaseTime / 3):
			}
			now := metav1.NowMicro()
			lease.Spec.RenewTime = &now
			next, err := leases.Update(renewing, lease, metav1.UpdateOptions{FieldManager: FieldManager})
			if apierrors.IsConflict(err) {
				cancel(fmt.Errorf("lease %s/%s: %w", c.Namespace, want.Name, errTaken))
				return
			}
			if err == nil { // else the API server is away, and the next try may reach it
				lease = next
			}
		}
	}()
	return held, func() {
		stop()
		<-renewed
		cancel(nil)
		nobody := ""
		lease.Spec.HolderIdentity = &nobody
		// Whoever finds it held waits until it has run out.
		_, _ = leases.Update(context.WithoutCancel(ctx), lease, metav1.UpdateOptions{FieldManager: FieldManager})
	}, nil
}

func fromUnstructured(fields map[string]any, into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(fields, into)
}
