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
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// dnsDir is where the engine's name service keeps its files, by the network's name. It is the engine's choice.
const dnsDir = "/var/run/containers/cni/dnsname"

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

// removeNetwork takes back what the engine leaves behind when it ends: the name service, the bridge, and the rules of its containers.
func (m *machine) removeNetwork(ctx context.Context) error {
	name, _, err := m.network()
	if err != nil {
		return err
	}
	dir := filepath.Join(dnsDir, name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := stopNameService(dir); err != nil {
		return err
	}
	if link, err := netlink.LinkByName(name + "0"); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("removing the bridge %s0: %w", name, err)
		}
	}
	if err := removeRules(ctx, name); err != nil {
		return fmt.Errorf("removing the network's rules: %w", err)
	}
	return os.RemoveAll(dir)
}

// nameService makes the dnsmasq that the engine starts, and returns its folder. The engine's own configuration would have it listen on port
// 53 of every address, where the machine's name service may be, or another engine's.
func (m *machine) nameService() (dir string, err error) {
	dir = m.path("run", "libexec")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	script := "#!/bin/sh\nexec " + debianPackages["dnsmasq-base"] + " --bind-dynamic \"$@\"\n"
	file := filepath.Join(dir, "dnsmasq")
	if err := writeFile(file, []byte(script)); err != nil {
		return "", err
	}
	return dir, os.Chmod(file, 0o755)
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

func removeRules(ctx context.Context, network string) error {
	list := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, debianPackages["iptables"], args...).Output()
		return string(out), err
	}
	nat, err := list("-t", "nat", "-S", "POSTROUTING")
	if err != nil {
		return err
	}
	forward, err := list("-S", "CNI-FORWARD")
	if err != nil {
		forward = "" // there was never a container
	}
	script := removal(network, nat, forward)
	if script == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, debianPackages["iptables"]+"-restore", "--noflush")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

var containerRule = regexp.MustCompile(`^-A POSTROUTING -s ([0-9.]+)/32 -m comment --comment "name: \\"([^"\\]+)\\" .* -j (CNI-[0-9a-f]+)$`)

// removal is the script for iptables-restore that deletes the rules of a network's containers, given those of all.
func removal(network, nat, forward string) string {
	var rules, chains, filter strings.Builder
	ips := map[string]bool{}
	for line := range strings.Lines(nat) {
		line = strings.TrimSpace(line)
		m := containerRule.FindStringSubmatch(line)
		if m == nil || m[2] != network {
			continue
		}
		ips[m[1]+"/32"] = true
		rules.WriteString("-D" + strings.TrimPrefix(line, "-A") + "\n")
		chains.WriteString("-F " + m[3] + "\n-X " + m[3] + "\n")
	}
	if len(ips) == 0 {
		return ""
	}
	for line := range strings.Lines(forward) {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[0] == "-A" && (fields[2] == "-s" || fields[2] == "-d") && ips[fields[3]] {
			filter.WriteString("-D" + strings.TrimPrefix(strings.TrimSpace(line), "-A") + "\n")
		}
	}
	return "*nat\n" + rules.String() + chains.String() + "COMMIT\n*filter\n" + filter.String() + "COMMIT\n"
}
