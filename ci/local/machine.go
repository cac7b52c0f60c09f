package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machine is the cache folder and what runs out of it.
type machine struct {
	root   string // the cache folder
	source string // this program's source, where the engine's go.mod is
	log    *progress
}

func newMachine(stderr io.Writer) (*machine, error) {
	root := os.Getenv("SLIPWAY_CACHE")
	if root == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, usagef("no cache folder: set SLIPWAY_CACHE: %w", err)
		}
		root = filepath.Join(dir, "slipway")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	source := os.Getenv("SLIPWAY_LOCAL_SOURCE")
	if source == "" {
		return nil, usagef("start it with ci/local/run")
	}
	// A socket's path has to fit into 108 bytes.
	if len(filepath.Join(root, "run", "engine.sock")) > 100 {
		return nil, usagef("the path of the cache folder is too long for a socket: %s: set SLIPWAY_CACHE to a shorter one", root)
	}
	for _, dir := range []string{"bin", "cni", "images", "registry", "engine", "run", "log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, usagef("creating the cache folder: %w: set SLIPWAY_CACHE to a folder of yours", err)
		}
	}
	return &machine{root: root, source: source, log: newProgress(stderr)}, nil
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.root}, elem...)...)
}

func (m *machine) socket() string { return "unix://" + m.path("run", "engine.sock") }

// parts are what up starts beside the registry.
type parts struct{ engine, cluster bool }

// up makes what is missing and starts what does not run. Whatever an interrupted up left is redone: each part has a mark that is
// written last.
func (m *machine) up(ctx context.Context, p parts) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	reg, err := m.ensureRegistry(ctx)
	if err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	if p.engine {
		if err := m.ensureEngine(ctx, reg); err != nil {
			return err
		}
	}
	if p.cluster {
		return m.cluster(reg).up(ctx)
	}
	return nil
}

// lock lets one up or down work at a time; a second one waits.
func (m *machine) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(m.path("run", "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		if !said {
			m.log.say("another up or down is at work: waiting for it")
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// exec runs a command in place of this program, so that its signals and exit code are the command's own.
func (m *machine) exec(ctx context.Context, p parts, args []string) error {
	if err := m.up(ctx, p); err != nil {
		return err
	}
	reg, err := m.readProcess("registry")
	if err != nil {
		return err
	}
	env := map[string]string{"SLIPWAY_REGISTRY": reg.Address, "PATH": os.Getenv("PATH")}
	if p.cluster {
		c := m.cluster(reg.Address)
		tools, err := c.tools()
		if err != nil {
			return err
		}
		env["PATH"] = tools + ":" + env["PATH"]
		env["KUBECONFIG"] = c.kubeconfig()
	}
	if p.engine {
		env["PATH"] = m.path("bin") + ":" + env["PATH"]
		env["_EXPERIMENTAL_DAGGER_RUNNER_HOST"] = m.socket()
		env["DAGGER_NO_NAG"], env["DO_NOT_TRACK"] = "1", "1"
	}
	for k, v := range env {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	bin, err := exec.LookPath(args[0])
	if err != nil {
		return usageError{err}
	}
	return fmt.Errorf("running %s: %w", bin, syscall.Exec(bin, args, os.Environ()))
}

// node is a running Kubernetes node.
type node struct {
	Address    string `json:"address"` // of the API server
	Kubeconfig string `json:"kubeconfig"`
	Network    string `json:"network"`    // the name of its network namespace
	Gateway    string `json:"gateway"`    // host:port in there
	Prometheus string `json:"prometheus"` // namespace/service:port
}

// state is what status prints.
type state struct {
	Cache    string   `json:"cache"`
	Engine   *process `json:"engine"`
	Registry *process `json:"registry"`
	Cluster  *node    `json:"cluster"`
	Images   []string `json:"images"`
}

func (m *machine) status(w io.Writer, asJSON bool) error {
	s := state{Cache: m.root}
	if p, err := m.readProcess("engine"); err == nil && p.alive() {
		s.Engine = p
	}
	if p, err := m.readProcess("registry"); err == nil && p.alive() {
		s.Registry = p
	}
	if p, err := m.readProcess(forwarder); err == nil && p.alive() {
		c := m.cluster("")
		s.Cluster = &node{Address: "https://" + p.Address, Kubeconfig: c.kubeconfig(), Network: c.namespace(),
			Gateway: gatewayIP + ":" + gatewayPort, Prometheus: gatewayNamespace + "/prometheus:" + prometheusPort}
	}
	for _, img := range baseImages {
		if _, err := os.Stat(m.path("images", img.name+".done")); err == nil {
			s.Images = append(s.Images, img.tags...)
		}
	}
	slices.Sort(s.Images)
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	show := func(name string, p *process) {
		if p == nil {
			fmt.Fprintf(w, "%-9s not running\n", name)
			return
		}
		fmt.Fprintf(w, "%-9s %s (process %d)\n", name, p.Address, p.PID)
	}
	fmt.Fprintf(w, "%-9s %s\n", "cache", m.root)
	show("engine", s.Engine)
	if s.Engine != nil && s.Engine.Listener.Address != "" {
		fmt.Fprintf(w, "%-9s tls://%s\n", "", s.Engine.Listener.Address)
	}
	show("registry", s.Registry)
	if s.Cluster == nil {
		show("cluster", nil)
	} else {
		fmt.Fprintf(w, "%-9s %s (kubeconfig %s)\n", "cluster", s.Cluster.Address, s.Cluster.Kubeconfig)
		fmt.Fprintf(w, "%-9s %s in the network namespace %s (metrics: service %s)\n", "gateway", s.Cluster.Gateway, s.Cluster.Network, s.Cluster.Prometheus)
	}
	for _, i := range s.Images {
		fmt.Fprintf(w, "%-9s docker.io/%s\n", "image", i)
	}
	return nil
}

// logs prints the end of a log, and with follow also what comes until ctx ends.
func (m *machine) logs(ctx context.Context, w io.Writer, name string, follow bool) error {
	if name == "" {
		name = "engine"
	}
	known := append([]string{"engine", "registry", "build", forwarder}, m.cluster("").names()...)
	if !slices.Contains(known, name) {
		return usagef("logs: unknown log %q: use one of %s", name, strings.Join(known, ", "))
	}
	f, err := os.Open(m.path("log", name+".log"))
	if err != nil {
		return usagef("logs: nothing was logged yet: %w", err)
	}
	defer f.Close()
	const tail = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		if _, err := f.Seek(-tail, io.SeekEnd); err != nil {
			return err
		}
	}
	for {
		if _, err := io.Copy(w, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// down stops the cluster and, unless only that is meant, everything else.
func (m *machine) down(ctx context.Context, onlyCluster, purge bool) error {
	if onlyCluster && purge {
		return usagef("down: --cluster and --purge exclude each other: the cache folder holds everything")
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.cluster("").down(ctx); err != nil {
		return fmt.Errorf("stopping the cluster: %w", err)
	}
	if onlyCluster {
		return nil
	}
	if err := m.stopEngine(ctx); err != nil {
		return fmt.Errorf("stopping the engine: %w", err)
	}
	if err := m.stop("registry", patience); err != nil {
		return fmt.Errorf("stopping the registry: %w", err)
	}
	if purge {
		return os.RemoveAll(m.root)
	}
	return nil
}

// answers reports whether something accepts connections there.
func answers(network, address string) bool {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// serves reports whether a registry answers there.
func serves(address string) bool {
	c := http.Client{Timeout: 2 * time.Second}
	res, err := c.Get("http://" + address + "/v2/")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}
