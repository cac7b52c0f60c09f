package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Client reaches registries as the flags say.
type Client struct {
	keychain  authn.Keychain
	transport http.RoundTripper
	plainHTTP []string
}

// The limits that keep a hanging registry from hanging a pipeline.
const (
	dialTimeout     = 10 * time.Second
	responseTimeout = 60 * time.Second
	idleTimeout     = 60 * time.Second
)

// Client checks the flags and reads the files that they name. Its errors are input errors.
func (f *Flags) Client() (*Client, error) {
	endpoints := map[string]string{}
	for _, e := range f.endpoints {
		host, addr, ok := cut(e, "=")
		if !ok {
			return nil, result.Inputf("flag -endpoint %q: want HOST=ADDR", e)
		}
		endpoints[withPort(host)] = addr
	}
	roots, err := f.roots()
	if err != nil {
		return nil, err
	}
	chain, err := f.keychain()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if to, ok := endpoints[addr]; ok {
				addr = to
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &idleConn{Conn: conn, limit: idleTimeout}, nil
		},
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: responseTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	return &Client{keychain: chain, transport: t, plainHTTP: f.plainHTTP}, nil
}

// withPort is host with the port that HTTP would use: loopback names are without TLS by custom.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, "80")
}

// roots are Mozilla's, which come with the program because it runs where there are none, and the caller's.
func (f *Flags) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, err
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
			continue
		}
		pool.AddCertWithConstraint(cert, root.Constraint)
	}
	if f.ca == "" {
		return pool, nil
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, result.Inputf("flag -ca: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, result.Inputf("flag -ca: %s holds no PEM certificate", f.ca)
	}
	return pool, nil
}

// keychain answers with the credentials of the flags only: a program takes nothing from its surroundings.
func (f *Flags) keychain() (authn.Keychain, error) {
	chain := credentials{}
	if f.registryConfig != "" {
		if err := chain.addDockerConfig(f.registryConfig); err != nil {
			return nil, err
		}
	}
	for _, a := range f.auths {
		host, rest, ok := cut(a, "=")
		user, file, ok2 := cut(rest, ":")
		if !ok || !ok2 {
			return nil, result.Inputf("flag -auth: want HOST=USER:PASSWORDFILE")
		}
		password, err := os.ReadFile(file)
		if err != nil {
			return nil, result.Inputf("flag -auth for %s: %w", host, err)
		}
		chain[host] = authn.AuthConfig{Username: user, Password: strings.TrimRight(string(password), "\r\n")}
	}
	return chain, nil
}

// credentials are by registry host.
type credentials map[string]authn.AuthConfig

// Resolve implements authn.Keychain.
func (c credentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	host := r.RegistryStr()
	if host == name.DefaultRegistry {
		for _, alias := range []string{authn.DefaultAuthKey, "docker.io", host} {
			if cfg, ok := c[alias]; ok {
				return authn.FromConfig(cfg), nil
			}
		}
	}
	if cfg, ok := c[host]; ok {
		return authn.FromConfig(cfg), nil
	}
	return authn.Anonymous, nil
}

// addDockerConfig reads the "auths" of a Docker config.json. Credential helpers are programs of the machine it was written on, so an
// entry that needs one cannot be used here.
func (c credentials) addDockerConfig(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return result.Inputf("flag -registry-config: %w", err)
	}
	return result.Input(c.parseDockerConfig(data))
}

func (c credentials) parseDockerConfig(data []byte) error {
	var cfg struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(data, &cfg); err != nil {
		// The error's text may quote what it failed on, and that is a secret.
		return errors.New("the registry configuration is not Docker's config.json: it is not valid JSON of that shape")
	}
	for host, a := range cfg.Auths {
		auth := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
		if a.Auth != "" {
			text, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return errors.New("the registry configuration's auth for " + host + " is not base64")
			}
			user, password, ok := strings.Cut(string(text), ":")
			if !ok {
				return errors.New("the registry configuration's auth for " + host + " is not USER:PASSWORD")
			}
			auth.Username, auth.Password = user, strings.TrimRight(password, "\x00")
		}
		if host != authn.DefaultAuthKey {
			host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
			host, _, _ = strings.Cut(host, "/")
		}
		c[host] = auth
	}
	return nil
}

// Options are remote's: transport, credentials, and bounded retries of what may pass.
func (c *Client) Options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(c.transport),
		remote.WithAuthFromKeychain(c.keychain),
		remote.WithRetryBackoff(remote.Backoff{Duration: 500 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 4}),
		remote.WithRetryStatusCodes(http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout),
	}
}

// Reference parses an image reference strictly: a tag or digest, if there is one, is what was written.
func (c *Client) Reference(ref string) (name.Reference, error) {
	host, path, ok := strings.Cut(ref, "/")
	if !ok || path == "" || strings.HasPrefix(path, ":") || strings.HasPrefix(path, "@") {
		return nil, result.Inputf("reference %q has no repository: write it as registry/repository:tag", ref)
	}
	var opts []name.Option
	if slices.Contains(c.plainHTTP, host) {
		opts = append(opts, name.Insecure)
	}
	r, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, result.Inputf("reference %q: %w", ref, err)
	}
	return r, nil
}

// Tag is the tag that ref names, or "" when it names none.
func Tag(ref string) string {
	if strings.Contains(ref, "@") {
		ref, _, _ = strings.Cut(ref, "@")
	}
	last := ref[strings.LastIndexByte(ref, '/')+1:]
	_, tag, _ := strings.Cut(last, ":")
	return tag
}

// Explain turns what a registry or the network answered into an error that says whose it is to mend: refused credentials and unknown
// names are the caller's, everything else the world's.
func Explain(err error, ref name.Reference) error {
	if err == nil {
		return nil
	}
	host := ref.Context().RegistryStr()
	if terr, ok := errors.AsType[*transport.Error](err); ok {
		switch terr.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return result.Inputf("registry %s refuses access to %s (%d): check the credentials given by with-registry-auth or --registry-config",
				host, ref.Context().RepositoryStr(), terr.StatusCode)
		case http.StatusNotFound:
			return result.Inputf("%s: not found in registry %s", ref, host)
		}
		if terr.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("registry %s failed (%d), also when asked again: %w", host, terr.StatusCode, err)
		}
	}
	return err
}

// NotFound reports whether a registry said that something does not exist.
func NotFound(err error) bool {
	terr, ok := errors.AsType[*transport.Error](err)
	return ok && terr.StatusCode == http.StatusNotFound
}

// Digest asks the registry what a tag or digest refers to; ok is false when it does not exist.
func (c *Client) Digest(ctx context.Context, ref name.Reference) (d v1.Hash, ok bool, err error) {
	desc, err := remote.Get(ref, c.Options(ctx)...)
	if NotFound(err) {
		return v1.Hash{}, false, nil
	}
	if err != nil {
		return v1.Hash{}, false, Explain(err, ref)
	}
	return desc.Digest, true, nil
}
