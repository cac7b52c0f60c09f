// Package oci is how every stage reaches registries and reads image layouts.
package oci

import (
	"errors"
	"flag"
	"strings"
)

// Flags are the registry flags that all programs with network share.
type Flags struct {
	registryConfig string
	ca             string
	auths          []string
	endpoints      []string
	plainHTTP      []string
}

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.registryConfig, "registry-config", "", "Docker's config.json `file` with registry credentials")
	fs.StringVar(&f.ca, "ca", "", "PEM `file` of authorities to trust beside Mozilla's")
	list(fs, &f.auths, "auth", "credentials for one registry: `HOST=USER:PASSWORDFILE`; may be repeated")
	list(fs, &f.endpoints, "endpoint", "connect to ADDR whenever HOST is meant: `HOST=ADDR`; may be repeated")
	list(fs, &f.plainHTTP, "plain-http", "`HOST` to talk to without TLS; may be repeated")
}

func list(fs *flag.FlagSet, to *[]string, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		if s == "" {
			return errors.New("it is empty")
		}
		*to = append(*to, s)
		return nil
	})
}

// cut is strings.Cut that insists on both halves.
func cut(s, sep string) (before, after string, ok bool) {
	before, after, ok = strings.Cut(s, sep)
	return before, after, ok && before != "" && after != ""
}
