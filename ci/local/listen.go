package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// listener is where the engine listens beside its socket, for runners on other machines. Who reaches an engine is root on its machine: it takes only
// callers with a certificate of one's own authority.
type listener struct {
	// Address is HOST:PORT; empty when the engine listens on its socket only.
	Address string `json:"address"`
	// TLS is a folder with ca.pem, cert.pem and key.pem.
	TLS string `json:"tls"`
}

// The files of a listener's folder; ci/slipway reads the same names at the other end.
const tlsAuthority, tlsCertificate, tlsKey = "ca.pem", "cert.pem", "key.pem"

func (m *machine) listenerFile() string { return m.path("run", "listen.json") }

// setListener keeps what the next start of the engine takes; an empty address ends it.
func (m *machine) setListener(address, dir string) error {
	l := listener{Address: address}
	if address != "" {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return usagef("--listen %s: %w: give HOST:PORT", address, err)
		}
		if dir == "" {
			return usagef("--listen %s without --tls: name a folder with %s, %s and %s", address, tlsAuthority, tlsCertificate, tlsKey)
		}
		var err error
		if l.TLS, err = filepath.Abs(dir); err != nil {
			return err
		}
		if err := l.check(); err != nil {
			return usagef("--tls %s: %w", dir, err)
		}
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return writeFile(m.listenerFile(), data)
}

// check reads the folder as the engine will: it would only say so in its log.
func (l *listener) check() error {
	if _, err := tls.LoadX509KeyPair(filepath.Join(l.TLS, tlsCertificate), filepath.Join(l.TLS, tlsKey)); err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(l.TLS, tlsAuthority))
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(authority) {
		return fmt.Errorf("%s holds no certificate", tlsAuthority)
	}
	return nil
}

// listener is what was set last.
func (m *machine) listener() (listener, error) {
	var l listener
	data, err := os.ReadFile(m.listenerFile())
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(data, &l)
}

// flags are the engine's.
func (l *listener) flags() []string {
	if l.Address == "" {
		return nil
	}
	return []string{"--addr", "tcp://" + l.Address, "--tlscacert", filepath.Join(l.TLS, tlsAuthority), "--tlscert", filepath.Join(l.TLS, tlsCertificate),
		"--tlskey", filepath.Join(l.TLS, tlsKey)}
}
