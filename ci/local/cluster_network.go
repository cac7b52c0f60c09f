package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// forwarder is the process that joins the node's network namespace with the machine's loopback, and nothing else.
const forwarder = "cluster-forward"

func (c *cluster) namespace() string {
	sum := sha256.Sum256([]byte(c.root))
	return "slipway-" + hex.EncodeToString(sum[:3])
}

// shareNamespaces makes the folder what "ip netns" makes it, a shared mount of its own. Otherwise the first "ip netns add" after us would do that, and
// cover what is mounted there with a copy: the namespace could not be removed any more.
func shareNamespaces(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	share := func() error { return syscall.Mount("", dir, "none", syscall.MS_SHARED|syscall.MS_REC, "") }
	if err := share(); !errors.Is(err, syscall.EINVAL) { // it is no mount yet
		return err
	}
	if err := syscall.Mount(dir, dir, "none", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	return share()
}

func (c *cluster) namespacePath() string { return filepath.Join("/run/netns", c.namespace()) }

// createNetwork makes the node's network namespace: loopback, a bridge without ports for the node's own address, and the pods' bridge.
func (c *cluster) createNetwork() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		return err
	}
	defer outside.Close()
	if err := shareNamespaces(filepath.Dir(c.namespacePath())); err != nil {
		return fmt.Errorf("sharing the folder of network namespaces: %w", err)
	}
	inside, err := netns.NewNamed(c.namespace()) // and this thread is in it
	if err != nil {
		return err
	}
	defer inside.Close()
	return errors.Join(layNetwork(), netns.Set(outside))
}

// layNetwork works in the thread's namespace.
func layNetwork() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	node := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "node0"}}
	// With an address of its own: the bridge plugin would let it change as pods come and go.
	mac, err := net.ParseMAC("0a:58:0a:f4:00:01")
	if err != nil {
		return err
	}
	pods := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: clusterBridge, HardwareAddr: mac}}
	for _, b := range []*netlink.Bridge{node, pods} {
		if err := netlink.LinkAdd(b); err != nil {
			return fmt.Errorf("adding %s: %w", b.Name, err)
		}
	}
	address, err := netlink.ParseAddr(nodeAddress + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(node, address); err != nil {
		return err
	}
	for _, b := range []*netlink.Bridge{node, pods} {
		if err := netlink.LinkSetUp(b); err != nil {
			return err
		}
	}
	// A service's address needs some route before it is translated. Nothing leaves by this one.
	return netlink.RouteAdd(&netlink.Route{LinkIndex: node.Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
}

func (c *cluster) removeNetworkNamespace() error {
	if _, err := os.Stat(c.namespacePath()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// An interrupted one may have left the file without a mount.
	if err := syscall.Unmount(c.namespacePath(), syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return os.Remove(c.namespacePath())
}

// inNamespace calls do on a thread that is in a named network namespace.
func inNamespace(name string, do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		return err
	}
	defer outside.Close()
	inside, err := netns.GetFromName(name)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := netns.Set(inside); err != nil {
		return err
	}
	return errors.Join(do(), netns.Set(outside))
}

// dialInside connects to an address in the node's namespace. A socket stays in the namespace in which it was made.
func (c *cluster) dialInside(ctx context.Context, network, address string) (net.Conn, error) {
	return dialIn(ctx, c.namespace(), network, address)
}

func dialIn(ctx context.Context, namespace, network, address string) (conn net.Conn, err error) {
	err = inNamespace(namespace, func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// startForwarder lets the machine reach the API server, and the node the registry, both at 127.0.0.1.
func (c *cluster) startForwarder(inputs string) error {
	address, err := c.apiAddress()
	if err != nil {
		return err
	}
	cmd := exec.Command(c.path("bin", "slipway-local"), "forward", "--namespace", c.namespace(),
		"--in", address+"=127.0.0.1:"+apiPort, "--out", c.registry+"="+c.registry)
	cmd.Env = append(os.Environ(), "SLIPWAY_CACHE="+c.root)
	return c.start(forwarder, process{Address: address, Inputs: inputs}, cmd, func() bool { return answers("tcp", address) }, 10*time.Second)
}

// apiAddress is where the machine sees the API server: its usual port if that is free, else any.
func (c *cluster) apiAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+apiPort)
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// forward copies connections until ctx ends: from the machine into the namespace, and out of it. Each is LISTEN=DIAL.
func forward(ctx context.Context, namespace string, in, out string) error {
	if namespace == "" {
		return usagef("forward: --namespace is missing")
	}
	inside := func(ctx context.Context, address string) (net.Conn, error) {
		return dialIn(ctx, namespace, "tcp", address)
	}
	outside := func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	}
	failed := make(chan error, 2)
	for _, way := range []struct {
		pair   string
		listen func(func() error) error
		dial   func(context.Context, string) (net.Conn, error)
	}{
		{in, func(do func() error) error { return do() }, inside},
		{out, func(do func() error) error { return inNamespace(namespace, do) }, outside},
	} {
		from, to, ok := strings.Cut(way.pair, "=")
		if !ok {
			return usagef("forward: %q: want LISTEN=DIAL", way.pair)
		}
		var l net.Listener
		if err := way.listen(func() (err error) { l, err = net.Listen("tcp", from); return err }); err != nil {
			return err
		}
		defer l.Close()
		go func() { failed <- serveForward(ctx, l, func() (net.Conn, error) { return way.dial(ctx, to) }) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func serveForward(ctx context.Context, l net.Listener, dial func() (net.Conn, error)) error {
	for {
		near, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer near.Close()
			far, err := dial()
			if err != nil {
				slog.ErrorContext(ctx, "forwarding", "listener", l.Addr().String(), "error", err)
				return
			}
			defer far.Close()
			done := make(chan struct{})
			go func() { defer close(done); pour(far, near) }()
			pour(near, far)
			<-done
		}()
	}
}

// pour copies one direction of a connection and hands on its end.
func pour(to, from net.Conn) {
	_, _ = io.Copy(to, from) // a broken connection ends both directions, and its sides say so themselves
	if w, ok := to.(*net.TCPConn); ok {
		_ = w.CloseWrite()
	}
}
