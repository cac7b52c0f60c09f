package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// dnsDir is where the engine's name service keeps its files, by the network's name. It is the engine's choice.
const dnsDir = "/var/run/containers/cni/dnsname"

// networkMark is the file that says that the engine's network may be there.
const networkMark = "network"

// network is the engine's own. Its name belongs to the cache folder and its addresses to nobody else, so that two engines on one
// machine, also one that is not ours, do not disturb each other.
func (m *machine) network() (name, cidr string, err error) {
	sum := sha256.Sum256([]byte(m.root))
	name = "slip" + hex.EncodeToString(sum[:3]) // an interface's name has 15 letters at most
	used, err := addresses(name + "0")
	if err != nil {
		return "", "", err
	}
	cidr, err = freeRange(sum[3], used)
	return name, cidr, err
}

// freeRange is the first of the ranges from 10.(64+start).0.0/16 on that overlaps with none in use.
func freeRange(start byte, used []netip.Prefix) (string, error) {
	const ranges = 128
	for i := range byte(ranges) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + (start%ranges+i)%ranges, 0, 0}), 16)
		free := true
		for _, u := range used {
			// A wider network may contain ours: the narrower route wins.
			free = free && (u.Bits() < p.Bits() || !u.Overlaps(p))
		}
		if free {
			return p.String(), nil
		}
	}
	return "", errors.New("no private address range is free for the engine's containers")
}

// addresses are the networks of this machine's interfaces, but for one.
func addresses(except string) ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, i := range interfaces {
		if i.Name == except {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			continue // it is gone by now
		}
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				all = append(all, p.Masked())
			}
		}
	}
	return all, nil
}

// plugins puts the network plugins that the engine asks for into their folder. The engine has them write a dozen firewall rules for each
// container and delete them again, one iptables process after the other: half of what it costs to start a container. So bridge is told
// to leave that be, firewall is one that hands on what it gets (tuning, with nothing to tune), and openNetwork's rules hold for all.
func (m *machine) plugins() error {
	const folder = "/usr/lib/cni/"
	for name, from := range map[string]string{"loopback": "loopback", "host-local": "host-local", "firewall": "tuning"} {
		if err := copyFile(folder+from, m.path("cni", name)); err != nil {
			return err
		}
	}
	return writeScript(m.path("cni", "bridge"), `sed 's/"ipMasq": *true/"ipMasq":false/' | exec `+folder+"bridge")
}

// openNetwork lets the containers reach what this machine reaches, under its address.
func openNetwork(ctx context.Context, name, cidr string) error {
	mark := " -m comment --comment " + name + " "
	return restoreRules(ctx, "*nat\n-A POSTROUTING -s "+cidr+" ! -o "+name+"0"+mark+"-j MASQUERADE\nCOMMIT\n"+
		"*filter\n-I FORWARD -s "+cidr+mark+"-j ACCEPT\n"+
		"-I FORWARD -d "+cidr+mark+"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n")
}

// removeNetwork takes back what the engine leaves behind when it ends: its rules, the name service and the bridge.
func (m *machine) removeNetwork(ctx context.Context) error {
	name, _, err := m.network()
	if err != nil {
		return err
	}
	if _, err := os.Stat(m.path("run", networkMark)); errors.Is(err, os.ErrNotExist) {
		return nil // no engine of ours has run, and this machine may not even allow asking for rules
	}
	if err := closeNetwork(ctx, name); err != nil {
		return fmt.Errorf("removing the network's rules: %w", err)
	}
	dir := filepath.Join(dnsDir, name)
	if err := stopNameService(dir); err != nil {
		return err
	}
	if link, err := netlink.LinkByName(name + "0"); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("removing the bridge %s0: %w", name, err)
		}
	}
	return errors.Join(os.RemoveAll(dir), os.Remove(m.path("run", networkMark)))
}

// nameService makes the dnsmasq that the engine starts, and returns its folder. The engine's own configuration would have it listen on port
// 53 of every address, where the machine's name service may be, or another engine's.
func (m *machine) nameService() (dir string, err error) {
	dir = m.path("run", "libexec")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, writeScript(filepath.Join(dir, "dnsmasq"), "exec "+debianPackages["dnsmasq-base"]+` --bind-dynamic "$@"`)
}

func writeScript(file, command string) error {
	if err := writeFile(file, []byte("#!/bin/sh\n"+command+"\n")); err != nil {
		return err
	}
	return os.Chmod(file, 0o755)
}

func stopNameService(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "pidfile"))
	if err != nil {
		return nil // it never started
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return nil
	}
	// The number may be another process's by now.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(line, []byte(filepath.Join(dir, "dnsmasq.conf"))) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// closeNetwork deletes openNetwork's rules.
func closeNetwork(ctx context.Context, name string) error {
	list := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, debianPackages["iptables"], args...).Output()
		return string(out), err
	}
	nat, err := list("-t", "nat", "-S", "POSTROUTING")
	if err != nil {
		return err
	}
	filter, err := list("-S", "FORWARD")
	if err != nil {
		return err
	}
	if script := removal(name, nat, filter); script != "" {
		return restoreRules(ctx, script)
	}
	return nil
}

func restoreRules(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, debianPackages["iptables"]+"-restore", "--noflush")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// removal is the script for iptables-restore that deletes a network's rules, given the rules of all.
func removal(network, nat, filter string) string {
	var script strings.Builder
	for _, table := range []struct{ name, rules string }{{"nat", nat}, {"filter", filter}} {
		var own strings.Builder
		for line := range strings.Lines(table.rules) {
			if strings.HasPrefix(line, "-A ") && strings.Contains(line, " --comment "+network+" ") {
				own.WriteString("-D" + strings.TrimPrefix(strings.TrimSpace(line), "-A") + "\n")
			}
		}
		if own.Len() > 0 {
			script.WriteString("*" + table.name + "\n" + own.String() + "COMMIT\n")
		}
	}
	return script.String()
}
