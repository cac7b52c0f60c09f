package deploy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// made are the default manifests as Kubernetes' own types.
type made struct {
	account    corev1.ServiceAccount
	deployment appsv1.Deployment
	service    corev1.Service
	policy     networkingv1.NetworkPolicy
	budget     policyv1.PodDisruptionBudget
	autoscaler autoscalingv2.HorizontalPodAutoscaler
	kinds      []string
}

// decodeStrictly reads the objects as an API server would: a field that a type does not have is an error.
func decodeStrictly(t *testing.T, objects []*unstructured.Unstructured) made {
	t.Helper()
	var m made
	into := map[string]any{"ServiceAccount": &m.account, "Deployment": &m.deployment, "Service": &m.service, "NetworkPolicy": &m.policy,
		"PodDisruptionBudget": &m.budget, "HorizontalPodAutoscaler": &m.autoscaler}
	for _, o := range objects {
		text, err := Render([]*unstructured.Unstructured{o})
		if err != nil {
			t.Fatal(err)
		}
		typed, ok := into[o.GetKind()]
		if !ok {
			t.Fatalf("nobody asked for %s", Name(o))
		}
		if err := yaml.UnmarshalStrict(text, typed); err != nil {
			t.Errorf("%s: %v\n%s", Name(o), err, text)
		}
		for _, not := range []string{"null", "Timestamp", "status:"} {
			if strings.Contains(string(text), not) {
				t.Errorf("%s claims %q:\n%s", Name(o), not, text)
			}
		}
		m.kinds = append(m.kinds, o.GetKind())
	}
	slices.Sort(m.kinds)
	return m
}

func TestDefaultManifests(t *testing.T) {
	web := Defaults{Name: "shop", Namespace: "n", Image: image(t), Port: 8080, Health: "/healthz", Replicas: 2}
	with := func(change func(*Defaults)) Defaults {
		d := web
		change(&d)
		return d
	}
	tests := []struct {
		name     string
		defaults Defaults
		kinds    string
		check    func(*testing.T, made)
	}{
		{"a web application", web, "Deployment NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			c := m.deployment.Spec.Template.Spec.Containers[0]
			if *m.deployment.Spec.Replicas != 2 {
				t.Errorf("replicas = %d", *m.deployment.Spec.Replicas)
			}
			for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
				if p == nil || p.HTTPGet.Path != "/healthz" || p.HTTPGet.Port.String() != "http" {
					t.Errorf("probe = %+v", p)
				}
			}
			// A pod that is told to end serves until everyone has heard of it, and has time to finish after that.
			if sleep := c.Lifecycle.PreStop.Sleep; sleep.Seconds != drain || *m.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds < sleep.Seconds+30 {
				t.Errorf("sleep = %+v, grace = %d", sleep, *m.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds)
			}
			if p := m.service.Spec.Ports[0]; p.Port != 80 || p.TargetPort.String() != c.Ports[0].Name || c.Ports[0].ContainerPort != 8080 {
				t.Errorf("ports = %+v, %+v", p, c.Ports)
			}
			if got := m.policy.Spec.Ingress; len(got) != 1 || got[0].Ports[0].Port.String() != "http" || len(m.policy.Spec.Egress) != 0 || !slices.Equal(m.policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
				t.Errorf("network policy = %+v", m.policy.Spec)
			}
		}},
		{"a worker", with(func(d *Defaults) { d.Port, d.Health, d.Replicas = 0, "", 1 }), "Deployment NetworkPolicy ServiceAccount", func(t *testing.T, m made) {
			if c := m.deployment.Spec.Template.Spec.Containers[0]; c.ReadinessProbe != nil || c.LivenessProbe != nil || c.Lifecycle != nil || c.Ports != nil {
				t.Errorf("container = %+v", c)
			}
			if m.policy.Spec.Ingress != nil {
				t.Errorf("ingress = %+v", m.policy.Spec.Ingress)
			}
		}},
		{"no path to ask", with(func(d *Defaults) { d.Health = "" }), "Deployment NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			if p := m.deployment.Spec.Template.Spec.Containers[0].ReadinessProbe; p.TCPSocket == nil || p.HTTPGet != nil {
				t.Errorf("probe = %+v", p)
			}
		}},
		{"an autoscaler", with(func(d *Defaults) { d.Replicas, d.MaxReplicas = 1, 5 }), "Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			s := m.autoscaler.Spec
			if m.deployment.Spec.Replicas != nil || *s.MinReplicas != 1 || s.MaxReplicas != 5 || s.ScaleTargetRef.Name != m.deployment.Name || s.ScaleTargetRef.Kind != m.deployment.Kind || s.ScaleTargetRef.APIVersion != m.deployment.APIVersion {
				t.Errorf("replicas = %v, autoscaler = %+v", m.deployment.Spec.Replicas, s)
			}
			if got := s.Metrics[0].Resource; len(s.Metrics) != 1 || got.Name != corev1.ResourceCPU || *got.Target.AverageUtilization != 80 {
				t.Errorf("metrics = %+v", s.Metrics)
			}
		}},
		{"an autoscaler's aim", with(func(d *Defaults) { d.MaxReplicas, d.CPUPercent = 2, 150 }), "Deployment HorizontalPodAutoscaler NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			if got := *m.autoscaler.Spec.Metrics[0].Resource.Target.AverageUtilization; got != 150 {
				t.Errorf("aim = %d", got)
			}
		}},
		{"resources", with(func(d *Defaults) {
			d.Requests, d.Limits = map[string]string{"cpu": "1.5", "ephemeral-storage": "1Gi"}, map[string]string{"memory": "", "example.com/gpu": "1"}
		}), "Deployment NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			r := m.deployment.Spec.Template.Spec.Containers[0].Resources
			if got, want := plain(r.Requests), map[string]string{"cpu": "1500m", "memory": "64Mi", "ephemeral-storage": "1Gi"}; !maps.Equal(got, want) {
				t.Errorf("requests = %v, want %v", got, want)
			}
			if got, want := plain(r.Limits), map[string]string{"example.com/gpu": "1"}; !maps.Equal(got, want) {
				t.Errorf("limits = %v, want %v", got, want)
			}
		}},
		{"no resources", with(func(d *Defaults) {
			d.Requests, d.Limits = map[string]string{"cpu": "", "memory": ""}, map[string]string{"memory": ""}
		}), "Deployment NetworkPolicy PodDisruptionBudget Service ServiceAccount", func(t *testing.T, m made) {
			if r := m.deployment.Spec.Template.Spec.Containers[0].Resources; len(r.Requests)+len(r.Limits) != 0 {
				t.Errorf("resources = %+v", r)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := tt.defaults.Manifests()
			if err != nil {
				t.Fatal(err)
			}
			m := decodeStrictly(t, objects)
			if got := strings.Join(m.kinds, " "); got != tt.kinds {
				t.Fatalf("kinds = %s, want %s", got, tt.kinds)
			}
			checkPods(t, m)
			tt.check(t, m)
		})
	}
}

func plain(list corev1.ResourceList) map[string]string {
	all := map[string]string{}
	for name, q := range list {
		all[string(name)] = q.String()
	}
	return all
}

// checkPods looks at what holds whatever is asked for: no request is lost, and the "restricted" Pod Security Standard admits the pods.
func checkPods(t *testing.T, m made) {
	t.Helper()
	spec := m.deployment.Spec
	if s := spec.Strategy; s.Type != appsv1.RollingUpdateDeploymentStrategyType || s.RollingUpdate.MaxUnavailable.String() != "0" || s.RollingUpdate.MaxSurge.String() != "25%" {
		t.Errorf("strategy = %+v", s)
	}
	for k, v := range spec.Selector.MatchLabels {
		if spec.Template.Labels[k] != v || (m.service.Name != "" && m.service.Spec.Selector[k] != v) || m.policy.Spec.PodSelector.MatchLabels[k] != v {
			t.Errorf("not everything selects %s=%s", k, v)
		}
	}
	if b := m.budget; b.Name != "" && (b.Spec.MaxUnavailable.String() != "1" || b.Spec.MinAvailable != nil || *b.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow || !maps.Equal(b.Spec.Selector.MatchLabels, spec.Selector.MatchLabels)) {
		t.Errorf("budget = %+v", b.Spec)
	}
	pod := spec.Template.Spec
	if *m.account.AutomountServiceAccountToken || *pod.AutomountServiceAccountToken || pod.ServiceAccountName != m.account.Name {
		t.Error("the pod gets a token")
	}
	if s := pod.SecurityContext; !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("security context = %+v", s)
	}
	var spread []string
	for _, c := range pod.TopologySpreadConstraints {
		spread = append(spread, c.TopologyKey)
		if c.MaxSkew != 1 || c.WhenUnsatisfiable != corev1.ScheduleAnyway || !maps.Equal(c.LabelSelector.MatchLabels, spec.Selector.MatchLabels) || !slices.Equal(c.MatchLabelKeys, []string{"pod-template-hash"}) {
			t.Errorf("spread = %+v", c)
		}
	}
	if !slices.Equal(spread, []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"}) {
		t.Errorf("spread over %q", spread)
	}
	c := pod.Containers[0]
	if c.Image != image(t).String() {
		t.Errorf("image = %s", c.Image)
	}
	if s := c.SecurityContext; *s.AllowPrivilegeEscalation || *s.Privileged || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("security context = %+v", s)
	}
	if m.deployment.Namespace != "n" || c.VolumeMounts[0].MountPath != "/tmp" || c.VolumeMounts[0].Name != pod.Volumes[0].Name {
		t.Errorf("namespace %s, mounts %+v", m.deployment.Namespace, c.VolumeMounts)
	}
}

func TestDefaultsRefuse(t *testing.T) {
	for _, tt := range []struct {
		name     string
		defaults Defaults
		err      string
	}{
		{"no pod", Defaults{}, "replicas: 0: at least one"},
		{"fewer than none", Defaults{Replicas: -1}, "replicas: -1"},
		{"an autoscaler that cannot start", Defaults{Replicas: 3, MaxReplicas: 2}, "at most 2 pods are fewer than replicas, which is 3"},
		{"an autoscaler below nothing", Defaults{Replicas: 1, MaxReplicas: -1}, "at most -1 pods"},
		{"an aim below nothing", Defaults{Replicas: 1, MaxReplicas: 2, CPUPercent: -1}, "-1%"},
		{"an autoscaler without a measure", Defaults{Replicas: 1, MaxReplicas: 2, Requests: map[string]string{"cpu": ""}}, "set cpu in requests"},
		{"no number", Defaults{Replicas: 1, Requests: map[string]string{"cpu": "half"}}, `requests: cpu: "half" is no quantity: write it as 250m`},
		{"a wrong unit", Defaults{Replicas: 1, Limits: map[string]string{"memory": "64MB"}}, `limits: memory: "64MB" is no quantity`},
		{"a quantity below nothing", Defaults{Replicas: 1, Limits: map[string]string{"memory": "-1Gi"}}, `limits: memory: "-1Gi"`},
		{"an unknown resource", Defaults{Replicas: 1, Limits: map[string]string{"cpus": "1"}}, `limits: "cpus" is no resource: there are cpu, memory`},
		{"more than the limit", Defaults{Replicas: 1, Requests: map[string]string{"memory": "1Gi"}}, "requests: memory: 1Gi is more than the limit of 256Mi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.defaults.Name, tt.defaults.Image = "shop", image(t)
			if _, err := tt.defaults.Manifests(); !result.IsInput(err) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error = %v, want an input error with %q", err, tt.err)
			}
		})
	}
}
