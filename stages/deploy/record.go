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

	"github.com/slipwayhq/slipway/stages/internal/result"
)

const (
	recordKey = "history.json"
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
	// Objects names the entry that holds what was applied; empty when it is kept no more.
	Objects string `json:"objects,omitempty"`
}

// history is the application's record in the cluster: a ConfigMap that everybody with the rights can read with kubectl.
type history struct {
	cluster *Cluster
	name    string
	version string // the ConfigMap's resourceVersion; empty when there is none yet
	records []Record
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
	h.version, h.objects = cm.ResourceVersion, cm.BinaryData
	if h.objects == nil {
		h.objects = map[string][]byte{}
	}
	if err := json.Unmarshal([]byte(cm.Data[recordKey]), &h.records); err != nil {
		return nil, result.Inputf("the deployments' record, ConfigMap %s/%s, cannot be read: %w: delete it to begin anew", c.Namespace, h.name, err)
	}
	return h, nil
}

// good is the last deployment that passed and can be gone back to.
func (h *history) good() (*Record, []*unstructured.Unstructured, error) {
	for i := len(h.records) - 1; i >= 0; i-- {
		r := &h.records[i]
		if r.Verdict != result.Pass || r.Objects == "" {
			continue
		}
		objects, err := unpack(h.objects[r.Objects])
		if err != nil {
			return nil, nil, result.Inputf("the deployments' record, ConfigMap %s/%s: %s: %w", h.cluster.Namespace, h.name, r.Objects, err)
		}
		return r, objects, nil
	}
	return nil, nil, nil
}

// add puts a record at the end and writes the whole.
func (h *history) add(ctx context.Context, r Record, objects []*unstructured.Unstructured) error {
	if r.Verdict == result.Pass {
		packed, err := pack(objects)
		if err != nil {
			return err
		}
		r.Objects = fmt.Sprintf("objects-%s.json.gz", time.Now().UTC().Format("20060102T150405.000000000"))
		h.objects[r.Objects] = packed
	}
	h.records = append(h.records, r)
	h.records = h.records[max(0, len(h.records)-keepRecords):]
	h.forget()
	text, err := json.MarshalIndent(h.records, "", " ")
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: h.name, Namespace: h.cluster.Namespace, ResourceVersion: h.version,
			Labels: map[string]string{ManagedBy: FieldManager}},
		Data: map[string]string{recordKey: string(text)}, BinaryData: h.objects,
	}
	maps := h.cluster.typed.CoreV1().ConfigMaps(h.cluster.Namespace)
	if h.version == "" {
		cm, err = maps.Create(ctx, cm, metav1.CreateOptions{FieldManager: FieldManager})
	} else {
		cm, err = maps.Update(ctx, cm, metav1.UpdateOptions{FieldManager: FieldManager})
	}
	if err != nil {
		return h.cluster.explain("writing the deployments' record", err)
	}
	h.version = cm.ResourceVersion
	return nil
}

// forget drops the objects of all but the last good deployments.
func (h *history) forget() {
	kept, size := map[string]bool{}, 0
	for i := len(h.records) - 1; i >= 0; i-- {
		r := &h.records[i]
		if r.Objects == "" {
			continue
		}
		if size += len(h.objects[r.Objects]); len(kept) == keepObjects || (size > maxRecord && len(kept) > 0) {
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
				cancel(fmt.Errorf("somebody else has taken the lease %s/%s", c.Namespace, want.Name))
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
