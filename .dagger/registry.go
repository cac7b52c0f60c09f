package main

import (
	"fmt"
	"net"
	"strings"

	"dagger/slipway/internal/dagger"
)

// access says whether a step may use the caller's registry credentials.
type access bool

const (
	anonymous     access = false
	authenticated access = true
)

// registryService is the host name under which a container sees the registry on the caller's machine.
const registryService = "slipway-registry"

// registryAccess lets a container reach the registries of refs and returns the flags that say how. A reference that names the
// caller's own machine goes to the registry service, and keeps its name.
func (s *Slipway) registryAccess(ctr *dagger.Container, may access, refs ...string) (*dagger.Container, []string, error) {
	var flags []string
	bound := map[string]bool{}
	for _, ref := range refs {
		host := registryHost(ref)
		if !isLoopback(host) || bound[host] {
			continue
		}
		if s.Registry == nil {
			return nil, nil, inputf("reference %q names this machine, which a container cannot reach: "+
				"add --registry tcp://%s before the function", ref, host)
		}
		bound[host] = true
		_, port, err := net.SplitHostPort(host)
		if err != nil {
			port = "80"
		}
		ctr = ctr.WithServiceBinding(registryService, s.Registry)
		flags = append(flags, "-endpoint", host+"="+net.JoinHostPort(registryService, port))
	}
	for _, host := range s.PlainHTTP {
		flags = append(flags, "-plain-http", host)
	}
	if s.CABundle != nil {
		ctr = ctr.WithMountedFile("/trust/ca.pem", s.CABundle)
		flags = append(flags, "-ca", "/trust/ca.pem")
	}
	if may == anonymous {
		return ctr, flags, nil
	}
	if s.RegistryConfig != nil {
		ctr = ctr.WithMountedSecret("/secrets/registry/config.json", s.RegistryConfig)
		flags = append(flags, "-registry-config", "/secrets/registry/config.json")
	}
	for i, a := range s.RegistryAuths {
		path := fmt.Sprintf("/secrets/registry/password-%d", i)
		ctr = ctr.WithMountedSecret(path, a.Password)
		flags = append(flags, "-auth", a.Address+"="+a.Username+":"+path)
	}
	return ctr, flags, nil
}

// registryHost is the host part of an image reference, or "" when it has none.
func registryHost(ref string) string {
	host, _, found := strings.Cut(ref, "/")
	if !found || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		return ""
	}
	return host
}

func isLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || (ip != nil && ip.IsLoopback())
}
