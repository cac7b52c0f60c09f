package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// scripted is a world that does what a test says, and notes what it was asked for.
type scripted struct {
	d       *deployment
	entered []string
	// on does something on entering a phase, and may fail; says answers for it, OK without.
	on   map[Phase]func() error
	says map[Phase]func() (Event, string, error)
	// unwritten are phases that were entered before the record had them.
	unwritten []string
}

func (w *scripted) enter(ctx context.Context) error {
	s := w.d.state
	at := fmt.Sprintf("%s %d", s.Phase, s.Step)
	w.entered = append(w.entered, at)
	h, err := w.d.Cluster.history(ctx, w.d.App)
	if err != nil {
		return err
	}
	if h.state == nil || h.state.position != s.position || !h.state.Deadline.After(h.state.Since) {
		w.unwritten = append(w.unwritten, at)
	}
	if do := w.on[s.Phase]; do != nil {
		return do()
	}
	return nil
}

func (w *scripted) observe(context.Context) (Event, string, error) {
	if say := w.says[w.d.state.Phase]; say != nil {
		return say()
	}
	return OK, "", nil
}

func (w *scripted) failed(context.Context) []result.Finding {
	return []result.Finding{{ID: "reason", Severity: result.High, Message: "as found"}}
}

// driven makes a canary of two steps at its beginning, against an API server in memory.
func driven(t *testing.T) (*deployment, *scripted, *fake.Clientset) {
	t.Helper()
	api := fake.NewClientset()
	c := &Cluster{Namespace: "web", typed: api}
	d := &deployment{Inputs: Inputs{App: "shop", Cluster: c, Say: t.Logf}}
	var err error
	if d.history, err = c.history(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Deploy
	settings.Strategy, settings.Steps = config.Canary, []config.Step{{Weight: 50}, {Weight: 100}}
	d.state = &State{position: position{Phase: Preparing}, Strategy: config.Canary, Settings: settings, Stable: blue, Candidate: green, Began: time.Now().UTC()}
	d.history.state = d.state
	return d, &scripted{d: d, on: map[Phase]func() error{}, says: map[Phase]func() (Event, string, error){}}, api
}

const (
	forward = "preparing 0, starting 0, checking 0, shifting 0, analysing 0, shifting 1, analysing 1, switching 1, holding 1, draining 1, retiring 1"
	upTo    = "preparing 0, starting 0, checking 0, shifting 0, analysing 0"
	back    = ", returning 0, clearing 0"
)

// TestDrive takes one deployment through what the world does to it. Each phase is in the cluster's record before it begins.
func TestDrive(t *testing.T) {
	away := errors.New("connection refused")
	for name, test := range map[string]struct {
		prepare func(t *testing.T, d *deployment, w *scripted, api *fake.Clientset, cancel context.CancelCauseFunc)
		entered string
		end     Phase
		why     string
		unsure  bool
		err     string
	}{
		"all is well": {func(*testing.T, *deployment, *scripted, *fake.Clientset, context.CancelCauseFunc) {}, forward, Done, "", false, ""},
		"a step fails": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.says[Analysing] = func() (Event, string, error) { return Failed, "too many errors", nil }
		}, upTo + back, Aborted, "too many errors", false, ""},
		"inconclusive": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.says[Analysing] = func() (Event, string, error) { return Inconclusive, "no data", nil }
		}, upTo + back, Aborted, "no data", true, ""},
		"wrong input shows late": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.on[Starting] = func() error { return result.Inputf("a conflict") }
		}, "preparing 0, starting 0" + back, Aborted, "a conflict", false, "a conflict"},
		"the API server is away for a moment": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			tries := 0
			w.on[Shifting] = func() error {
				if tries++; tries == 1 {
					return away
				}
				return nil
			}
		}, strings.Replace(forward, "shifting 0, ", "shifting 0, shifting 0, ", 1), Done, "", false, ""},
		"the API server stays away in one phase": {func(_ *testing.T, d *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			d.state.Settings.Deadline = config.Duration(time.Second)
			w.says[Starting] = func() (Event, string, error) { return "", "", away }
		}, "preparing 0, starting 0" + back, Aborted, "not done after 1s: no answer: connection refused", true, ""},
		"the record cannot be written for a moment": {func(_ *testing.T, _ *deployment, w *scripted, api *fake.Clientset, _ context.CancelCauseFunc) {
			w.on[Starting] = func() error {
				var tries atomic.Int32
				api.PrependReactor("update", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
					return tries.Add(1) < 3, nil, away
				})
				return nil
			}
		}, forward, Done, "", false, ""},
		"too slow": {func(_ *testing.T, d *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			d.state.Settings.Deadline = config.Duration(time.Second)
			w.says[Starting] = func() (Event, string, error) { return "", "0 of 2 ready", nil }
		}, "preparing 0, starting 0" + back, Aborted, "not done after 1s: 0 of 2 ready", false, ""},
		"somebody asks for an abort": {func(t *testing.T, d *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.says[Analysing] = func() (Event, string, error) { return "", "", d.history.askAbort(t.Context(), "a person") }
		}, upTo + back, Aborted, "aborted by a person", false, ""},
		"told to end": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, cancel context.CancelCauseFunc) {
			w.says[Analysing] = func() (Event, string, error) { cancel(nil); return "", "", nil }
		}, upTo + back, Aborted, "told to end", false, "told to end"},
		"somebody else has the lease": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, cancel context.CancelCauseFunc) {
			w.says[Analysing] = func() (Event, string, error) { cancel(errTaken); return "", "", nil }
		}, upTo, Analysing, "", false, "taken the lease"},
		"the way back fails, too": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.says[Checking] = func() (Event, string, error) { return Failed, "404", nil }
			w.says[Returning] = func() (Event, string, error) { return Failed, "the route is gone", nil }
		}, "preparing 0, starting 0, checking 0, returning 0", Broken, "the route is gone", false, ""},
		"it fails when the old version is being ended": {func(_ *testing.T, _ *deployment, w *scripted, _ *fake.Clientset, _ context.CancelCauseFunc) {
			w.says[Retiring] = func() (Event, string, error) { return Failed, "late", nil }
		}, forward + ", reviving 1, returning 1, clearing 1", Aborted, "late", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, w, api := driven(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			test.prepare(t, d, w, api, cancel)
			err := d.drive(ctx, w)
			if got := strings.Join(w.entered, ", "); got != test.entered {
				t.Errorf("entered\n%s\nwant\n%s", got, test.entered)
			}
			if d.state.Phase != test.end || !strings.Contains(d.state.Why, test.why) || d.state.Unsure != test.unsure {
				t.Errorf("ended as %s (%q, unsure %v), want %s because of %q", d.state.Phase, d.state.Why, d.state.Unsure, test.end, test.why)
			}
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if len(w.unwritten) > 0 {
				t.Errorf("phases that began before they were written down: %v", w.unwritten)
			}
			if wentBack := slices.ContainsFunc(w.entered, func(s string) bool { return strings.HasPrefix(s, "returning") }); wentBack != (len(d.findings) > 0) {
				t.Errorf("went back: %v, reasons: %v", wentBack, d.findings)
			}
		})
	}
}

// TestDriveGoesOn: what a killed run left is taken up at the phase that was written down, by whoever reads the record.
func TestDriveGoesOn(t *testing.T) {
	d, _, _ := driven(t)
	d.state.position = position{Analysing, 0}
	if err := d.history.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, err := d.Cluster.history(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	next := &deployment{Inputs: d.Inputs, history: h, state: h.state}
	w := &scripted{d: next}
	if err := next.drive(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	_, want, _ := strings.Cut(forward, "shifting 0, ")
	if got := strings.Join(w.entered, ", "); got != want {
		t.Errorf("entered %s, want %s", got, want)
	}
}

// TestHistoryForgets: the record keeps what can be gone back to and what is under way, within a ConfigMap's bounds.
func TestHistoryForgets(t *testing.T) {
	d, _, _ := driven(t)
	objects := understood(t).objects
	for n := range keepRecords + 5 {
		entry, err := d.history.keep(objects)
		if err != nil {
			t.Fatal(err)
		}
		verdict := result.Pass
		if n%2 == 1 {
			verdict, entry = result.Fail, ""
		}
		if err := d.history.end(t.Context(), Record{Digest: fmt.Sprint(n), Verdict: verdict, Objects: entry, Points: []Point{{Metric: "errors"}}}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if d.state.Objects, err = d.history.keep(objects); err != nil {
		t.Fatal(err)
	}
	d.history.state = d.state
	if err := d.history.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	cm, err := d.Cluster.typed.CoreV1().ConfigMaps("web").Get(t.Context(), HistoryName("shop"), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := d.Cluster.history(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if len(h.records) != keepRecords || len(cm.BinaryData) != keepObjects+1 || h.good().Digest != fmt.Sprint(keepRecords+4) {
		t.Errorf("%d records, %d sets of objects, the last good one is %s", len(h.records), len(cm.BinaryData), h.good().Digest)
	}
	if objects, err := h.read(h.state.Objects); err != nil || len(objects) != 6 {
		t.Errorf("what is under way: %d objects, %v", len(objects), err)
	}
	if h.records[0].Points != nil || h.records[len(h.records)-1].Points == nil {
		t.Error("the points of the last deployment, and of no other, are kept")
	}
	cm.Data[recordKey] = "{"
	if _, err := d.Cluster.typed.CoreV1().ConfigMaps("web").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cluster.history(t.Context(), "shop"); !result.IsInput(err) || !strings.Contains(err.Error(), "delete the ConfigMap") {
		t.Errorf("a record that nobody can read: %v", err)
	}
}
