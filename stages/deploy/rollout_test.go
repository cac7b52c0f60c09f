package deploy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestEndedAfterReady: who has served and ends is found; who ends before it was ever ready may wait for something.
func TestEndedAfterReady(t *testing.T) {
	pod := func(ready bool, restarts int32) []corev1.Pod {
		return []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "shop-1", UID: "1"}, Status: corev1.PodStatus{
			ContainerStatuses: []corev1.ContainerStatus{{Ready: ready, RestartCount: restarts}}}}}
	}
	for name, test := range map[string]struct {
		seen [][]corev1.Pod
		want string
	}{
		"slow to come up":     {[][]corev1.Pod{pod(false, 0), pod(false, 2), pod(true, 2), pod(true, 2)}, ""},
		"served, and ended":   {[][]corev1.Pod{pod(false, 0), pod(true, 0), pod(false, 1)}, "shop-1"},
		"not ready for a bit": {[][]corev1.Pod{pod(true, 0), pod(false, 0), pod(true, 0)}, ""},
		"no status yet":       {[][]corev1.Pod{{{ObjectMeta: metav1.ObjectMeta{Name: "shop-1", UID: "1"}}}, pod(false, 1)}, ""},
	} {
		r := &rollout{served: map[types.UID]int32{}}
		got := ""
		for _, pods := range test.seen {
			got = r.endedAfterReady(pods)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
