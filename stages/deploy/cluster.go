package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// requestTimeout bounds one request to the API server.
const requestTimeout = 15 * time.Second

// Access says how to reach a cluster.
type Access struct {
	// Kubeconfig is a file. It holds its certificates and tokens itself: a container has neither the files nor the programs that it may name.
	Kubeconfig string
	// Context is one of the kubeconfig's; empty is its current one.
	Context string
	// Namespace is where what names none goes; empty is the context's, or default.
	Namespace string
	// Endpoint is where to connect to, as host:port, instead of the API server's own address; the certificate is still checked for that.
	Endpoint string
}

// Cluster is a connection to an API server.
type Cluster struct {
	// Namespace is where what names none goes.
	Namespace string
	// Server is the API server's URL, as the kubeconfig has it.
	Server string

	objects dynamic.Interface
	typed   kubernetes.Interface
	kinds   meta.ResettableRESTMapper
	rest    *rest.Config
}

// Connect reads the kubeconfig and makes a client. Nothing is asked of the cluster yet.
func Connect(a Access) (*Cluster, error) {
	data, err := os.ReadFile(a.Kubeconfig)
	if err != nil {
		return nil, result.Inputf("reading the kubeconfig: %w", err)
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		return nil, result.Inputf("the kubeconfig cannot be read: %w", err)
	}
	name, err := contextOf(config, a.Context)
	if err != nil {
		return nil, err
	}
	if err := selfContained(config, name); err != nil {
		return nil, err
	}
	client := clientcmd.NewNonInteractiveClientConfig(*config, name, &clientcmd.ConfigOverrides{}, nil)
	rc, err := client.ClientConfig()
	if err != nil {
		return nil, result.Inputf("the kubeconfig's context %q: %w", name, err)
	}
	if a.Namespace == "" {
		if a.Namespace, _, err = client.Namespace(); err != nil {
			return nil, result.Inputf("the kubeconfig's context %q: %w", name, err)
		}
	}
	return connect(rc, a)
}

func connect(rc *rest.Config, a Access) (*Cluster, error) {
	server, err := url.Parse(rc.Host)
	if err != nil || server.Host == "" {
		return nil, result.Inputf("the kubeconfig's server %q is not a URL", rc.Host)
	}
	if a.Endpoint != "" {
		dialer := &net.Dialer{Timeout: requestTimeout}
		rc.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, a.Endpoint)
		}
	} else if host := server.Hostname(); host == "localhost" || net.ParseIP(host).IsLoopback() {
		return nil, result.Inputf("the kubeconfig's server %s is on the caller's own machine, which a container cannot reach: add --cluster tcp://%s", rc.Host, server.Host)
	}
	rc.Timeout = requestTimeout
	rc.QPS, rc.Burst = 50, 100 // one run at a time, and it asks for each object several times
	rc.UserAgent = FieldManager
	c := &Cluster{Namespace: a.Namespace, Server: rc.Host, rest: rc}
	if c.objects, err = dynamic.NewForConfig(rc); err != nil {
		return nil, result.Input(err)
	}
	typed, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, result.Input(err)
	}
	c.typed = typed
	c.kinds = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))
	return c, nil
}

func contextOf(config *clientcmdapi.Config, name string) (string, error) {
	known := make([]string, 0, len(config.Contexts))
	for n := range config.Contexts {
		known = append(known, n)
	}
	slices.Sort(known)
	if name == "" {
		name = config.CurrentContext
	}
	switch {
	case len(known) == 0:
		return "", result.Inputf("the kubeconfig has no context: it is empty, or no kubeconfig")
	case name == "":
		return "", result.Inputf("the kubeconfig has no current context: choose one with --context: %s", strings.Join(known, ", "))
	case !slices.Contains(known, name):
		return "", result.Inputf("the kubeconfig has no context %q: it has %s", name, strings.Join(known, ", "))
	}
	return name, nil
}

// selfContained refuses what works only on the machine where the kubeconfig was written.
func selfContained(config *clientcmdapi.Config, name string) error {
	const flatten = "write one that holds everything with: kubectl config view --flatten --minify"
	c := config.Contexts[name]
	if cluster := config.Clusters[c.Cluster]; cluster != nil && cluster.CertificateAuthority != "" {
		return result.Inputf("the kubeconfig names the file %s, which a container does not have: %s", cluster.CertificateAuthority, flatten)
	}
	user := config.AuthInfos[c.AuthInfo]
	if user == nil {
		return nil
	}
	for _, file := range []string{user.ClientCertificate, user.ClientKey, user.TokenFile} {
		if file != "" {
			return result.Inputf("the kubeconfig names the file %s, which a container does not have: %s", file, flatten)
		}
	}
	if user.Exec != nil {
		return result.Inputf("the kubeconfig's user %q gets its token from the program %s, which a container does not have: "+
			"use a token instead: kubectl create token SERVICEACCOUNT", c.AuthInfo, user.Exec.Command)
	}
	if user.AuthProvider != nil {
		return result.Inputf("the kubeconfig's user %q gets its token from the plugin %s: use a token instead: kubectl create token SERVICEACCOUNT",
			c.AuthInfo, user.AuthProvider.Name)
	}
	return nil
}

// versions are the cluster's own and those of its APIs; none when it cannot be asked: templates then get a usual one.
func (c *Cluster) versions() (kube string, apis []string) {
	if c.typed == nil {
		return "", nil
	}
	v, err := c.typed.Discovery().ServerVersion()
	if err != nil {
		return "", nil
	}
	groups, err := c.typed.Discovery().ServerGroups()
	if err != nil {
		return v.GitVersion, nil
	}
	for _, g := range groups.Groups {
		for _, version := range g.Versions {
			apis = append(apis, version.GroupVersion)
		}
	}
	return v.GitVersion, apis
}

// resource is where objects of o's kind are.
func (c *Cluster) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	mapping, err := c.kinds.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return nil, result.Inputf("%s: the cluster does not know the kind %s of %s: install its CustomResourceDefinition first, or correct apiVersion",
			Name(o), gvk.Kind, gvk.GroupVersion())
	}
	if err != nil {
		return nil, c.explain("asking what kinds the cluster knows", err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		o.SetNamespace("")
		return c.objects.Resource(mapping.Resource), nil
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(c.Namespace)
	}
	return c.objects.Resource(mapping.Resource).Namespace(o.GetNamespace()), nil
}

// Name is how messages call an object: Kind namespace/name.
func Name(o *unstructured.Unstructured) string {
	if ns := o.GetNamespace(); ns != "" {
		return o.GetKind() + " " + ns + "/" + o.GetName()
	}
	return o.GetKind() + " " + o.GetName()
}

// explain says whose fault an error of the API server is. What the caller can mend is an input error.
func (c *Cluster) explain(doing string, err error) error {
	var unreachable *net.OpError
	switch {
	case err == nil:
		return nil
	case result.IsInput(err):
		return err
	case apierrors.IsUnauthorized(err):
		return result.Inputf("%s: the cluster %s refuses the kubeconfig's credentials: they may have expired", doing, c.Server)
	case apierrors.IsForbidden(err):
		return result.Inputf("%s: missing rights: %w: let the cluster's administrator grant them to that user", doing, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return result.Inputf("%s: %w", doing, err)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%s: the cluster %s cannot be reached: %w", doing, c.Server, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
