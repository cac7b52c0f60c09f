package deploy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Defaults are what the manifests need to know that Slipway makes when there are none.
type Defaults struct {
	// Name of the application, and of every object.
	Name      string
	Namespace string
	Image     name.Digest
	// Port that the application listens on; 0 makes no Service, and no probe.
	Port int
	// Health is the path that answers 2xx when the application can serve.
	Health   string
	Replicas int32
	// MaxReplicas is how many pods a HorizontalPodAutoscaler may make of Replicas; 0 asks for none.
	MaxReplicas int32
	// CPUPercent is the processor use that it aims at, in percent of what is requested; 0 is 80.
	CPUPercent int32
	// Requests and Limits are quantities by resource, such as cpu: 250m. They replace single defaults, and an empty one takes a default away.
	Requests, Limits map[string]string
}

const (
	// drain is how long a pod goes on serving after it was told to end: until every proxy has heard that it is gone.
	drain = 5
	// grace is how long it may take altogether, in seconds.
	grace = 40
	// aim is the processor use that an autoscaler aims at, in percent.
	aim = 80
)

// What a container asks for, and gets at most. There is no limit for the processor: it would throttle where nobody else wants it.
var (
	defaultRequests = map[string]string{"cpu": "50m", "memory": "64Mi"}
	defaultLimits   = map[string]string{"memory": "256Mi"}
)

var standardResources = []string{string(corev1.ResourceCPU), string(corev1.ResourceMemory), string(corev1.ResourceEphemeralStorage)}

var dnsLabel = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Manifests makes a Deployment that loses no request while it is replaced, and what belongs around it.
func (d Defaults) Manifests() ([]*unstructured.Unstructured, error) {
	if !dnsLabel.MatchString(d.Name) {
		return nil, result.Inputf("the name %q cannot be a Kubernetes object's: use a-z, 0-9 and '-', and start with a letter: set name in slipway.yaml", d.Name)
	}
	resources, err := d.resources()
	if err != nil {
		return nil, err
	}
	if err := d.checkScale(resources); err != nil {
		return nil, err
	}
	selector := map[string]string{"app.kubernetes.io/name": d.Name}
	about := metav1.ObjectMeta{Name: d.Name, Namespace: d.Namespace, Labels: selector}
	no := false
	objects := []runtime.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: about, AutomountServiceAccountToken: &no},
		d.deployment(about, selector, resources),
	}
	if d.Port != 0 {
		objects = append(objects, d.service(about, selector))
	}
	objects = append(objects, d.networkPolicy(about, selector))
	if max(d.Replicas, d.MaxReplicas) > 1 { // one pod alone has to go when its node does
		// One at a time, and what does not run anyway keeps no node from being drained.
		most, policy := intstr.FromInt32(1), policyv1.AlwaysAllow
		objects = append(objects, &policyv1.PodDisruptionBudget{TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}, ObjectMeta: about,
			Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: selector}, UnhealthyPodEvictionPolicy: &policy}})
	}
	if d.MaxReplicas > 0 {
		objects = append(objects, d.autoscaler(about))
	}
	out := make([]*unstructured.Unstructured, 0, len(objects))
	for _, o := range objects {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, err
		}
		u := &unstructured.Unstructured{Object: fields}
		prune(u)
		out = append(out, u)
	}
	return out, nil
}

// resources are those of the container.
func (d Defaults) resources() (corev1.ResourceRequirements, error) {
	var r corev1.ResourceRequirements
	var err error
	if r.Requests, err = quantities("requests", defaultRequests, d.Requests); err != nil {
		return r, err
	}
	if r.Limits, err = quantities("limits", defaultLimits, d.Limits); err != nil {
		return r, err
	}
	for name, most := range r.Limits {
		if least, ok := r.Requests[name]; ok && least.Cmp(most) > 0 {
			return r, result.Inputf("requests: %s: %s is more than the limit of %s: raise limits, too", name, &least, &most)
		}
	}
	return r, nil
}

func quantities(field string, defaults, given map[string]string) (corev1.ResourceList, error) {
	list := corev1.ResourceList{}
	all := maps.Clone(defaults)
	maps.Copy(all, given)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch {
		case all[name] == "":
			continue
		case !slices.Contains(standardResources, name) && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) && !strings.Contains(name, "/"):
			return nil, result.Inputf("%s: %q is no resource: there are %s, hugepages-SIZE, and a device's, as example.com/gpu",
				field, name, strings.Join(standardResources, ", "))
		}
		q, err := resource.ParseQuantity(all[name])
		if err != nil || q.Sign() < 0 {
			return nil, result.Inputf("%s: %s: %q is no quantity: write it as 250m or 2 of cpu, and 64Mi or 1Gi of memory", field, name, all[name])
		}
		list[corev1.ResourceName(name)] = q
	}
	return list, nil
}

// checkScale refuses numbers that would run nothing, or that an autoscaler could not work with.
func (d Defaults) checkScale(r corev1.ResourceRequirements) error {
	cpu := r.Requests[corev1.ResourceCPU]
	switch {
	case d.Replicas < 1:
		return result.Inputf("replicas: %d: at least one pod has to run", d.Replicas)
	case d.MaxReplicas != 0 && d.MaxReplicas < d.Replicas:
		return result.Inputf("autoscaling: at most %d pods are fewer than replicas, which is %d, and where it begins", d.MaxReplicas, d.Replicas)
	case d.CPUPercent < 0:
		return result.Inputf("autoscaling: a processor use of %d%% cannot be aimed at", d.CPUPercent)
	case d.MaxReplicas != 0 && cpu.Sign() == 0:
		return result.Inputf("autoscaling: it measures what pods use of the processor that they request, and they request none: set cpu in requests")
	}
	return nil
}

func (d Defaults) autoscaler(about metav1.ObjectMeta) *autoscalingv2.HorizontalPodAutoscaler {
	percent := cmp.Or(d.CPUPercent, aim)
	return &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}, ObjectMeta: about,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name},
			MinReplicas:    &d.Replicas, MaxReplicas: d.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}}}}
}

func (d Defaults) deployment(about metav1.ObjectMeta, selector map[string]string, resources corev1.ResourceRequirements) *appsv1.Deployment {
	no, yes := false, true
	// A quarter more, which is rounded up: at least one, and many pods are not replaced one by one.
	surge, unavailable := intstr.FromString("25%"), intstr.FromInt32(0)
	replicas := &d.Replicas
	if d.MaxReplicas > 0 {
		replicas = nil // the autoscaler's: every apply would take it back
	}
	container := corev1.Container{
		Name:      d.Name,
		Image:     d.Image.String(),
		Resources: resources,
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Privileged: &no,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
		VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}
	if d.Port != 0 {
		container.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: int32(d.Port), Protocol: corev1.ProtocolTCP}} //nolint:gosec // a port
		probe := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}
		if d.Health != "" {
			probe = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: d.Health, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}}
		}
		container.StartupProbe = &corev1.Probe{ProbeHandler: probe, PeriodSeconds: 1, FailureThreshold: 120, TimeoutSeconds: 2}
		container.ReadinessProbe = &corev1.Probe{ProbeHandler: probe, PeriodSeconds: 2, FailureThreshold: 3, TimeoutSeconds: 2}
		container.LivenessProbe = &corev1.Probe{ProbeHandler: probe, PeriodSeconds: 10, FailureThreshold: 6, TimeoutSeconds: 5}
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: drain}}}
	}
	labels := map[string]string{ManagedBy: FieldManager, AppLabel: d.Name}
	maps.Copy(labels, selector)
	var wait int64 = grace
	var history int32 = 5
	// Of this version: what is about to end is no reason to go elsewhere.
	spread := func(topology string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector}, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey}}
	}
	return &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: about,
		Spec: appsv1.DeploymentSpec{
			Replicas: replicas, RevisionHistoryLimit: &history, Selector: &metav1.LabelSelector{MatchLabels: selector},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				ServiceAccountName: d.Name, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &wait,
				SecurityContext:           &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				TopologySpreadConstraints: []corev1.TopologySpreadConstraint{spread(corev1.LabelHostname), spread(corev1.LabelTopologyZone)},
				Containers:                []corev1.Container{container},
				Volumes:                   []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			}},
		}}
}

func (d Defaults) service(about metav1.ObjectMeta, selector map[string]string) *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: about, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}}}}
}

// networkPolicy lets in what comes to the port, and out what the application asks for.
func (d Defaults) networkPolicy(about metav1.ObjectMeta, selector map[string]string) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: about,
		Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: selector}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}}
	if d.Port != 0 {
		port, tcp := intstr.FromString("http"), corev1.ProtocolTCP
		p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: &port, Protocol: &tcp}}}}
	}
	return p
}

// prune takes out what Go's types write although nobody set it: an apply would claim those fields.
func prune(o *unstructured.Unstructured) {
	unstructured.RemoveNestedField(o.Object, "status")
	clean(o.Object)
}

func clean(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			clean(v)
			if len(v) == 0 && strings.HasSuffix(k, "Timestamp") || k == "resources" && len(v) == 0 || k == "strategy" && len(v) == 0 {
				delete(m, k)
			}
		case []any:
			for _, e := range v {
				if e, ok := e.(map[string]any); ok {
					clean(e)
				}
			}
		}
	}
}
