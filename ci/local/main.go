// Command local gives a bare machine a Dagger engine without Docker: it builds the engine from Go modules, makes base images from
// Debian packages, and serves them from a registry of its own. Everything lies in one cache folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: ci/local/run COMMAND

  up [--registry-only] [--cluster] [--listen HOST:PORT --tls DIR]
                                       build what is missing and start the engine and the registry; a no-op when they run.
                                       --cluster adds a Kubernetes node with a gateway and Prometheus (root, 17 GB,
                                       a quarter of an hour or more the first time).
                                       --listen lets runners on other machines use the engine, those with a
                                       certificate of the authority in DIR (ca.pem, cert.pem, key.pem); --listen ""
                                       ends that
  exec [--registry-only] [--cluster] -- CMD ARGS
                                       up, then run CMD with dagger on the PATH and SLIPWAY_REGISTRY set;
                                       with --cluster also kubectl and KUBECONFIG
  status [--json]                      what runs, and where
  logs [-f] [NAME]                     the end of a log: engine, registry, build, or a part of the node, as kubelet;
                                       -f goes on until interrupted
  down [--cluster] [--purge]           stop all of it, or only the Kubernetes node; --purge also deletes the cache folder

SLIPWAY_CACHE names the cache folder; the default is slipway in the user's cache folder.
`

// usageError is the caller's to mend: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "ci/local:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(3)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return usagef("a command is missing")
	}
	m, err := newMachine(stderr)
	if err != nil {
		return err
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	registryOnly := fs.Bool("registry-only", false, "")
	asJSON := fs.Bool("json", false, "")
	purge := fs.Bool("purge", false, "")
	follow := fs.Bool("f", false, "")
	withCluster := fs.Bool("cluster", false, "")
	addr := fs.String("addr", "", "")
	listen, tlsDir := fs.String("listen", "", ""), fs.String("tls", "", "")
	namespace, in, out := fs.String("namespace", "", ""), fs.String("in", "", ""), fs.String("out", "", "")
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(stdout, usage)
		return nil
	}
	if err := fs.Parse(args[1:]); err != nil {
		fmt.Fprint(stderr, usage)
		return usageError{err}
	}
	switch args[0] {
	case "up":
		given := false
		fs.Visit(func(f *flag.Flag) { given = given || f.Name == "listen" })
		if given {
			if err := m.setListener(*listen, *tlsDir); err != nil {
				return err
			}
		} else if *tlsDir != "" {
			return usagef("--tls without --listen HOST:PORT")
		}
		return m.up(ctx, parts{engine: !*registryOnly, cluster: *withCluster})
	case "exec":
		if fs.NArg() == 0 {
			return usagef("exec: a command is missing: exec -- dagger version")
		}
		return m.exec(ctx, parts{engine: !*registryOnly, cluster: *withCluster}, fs.Args())
	case "status":
		return m.status(stdout, *asJSON)
	case "logs":
		return m.logs(ctx, stdout, fs.Arg(0), *follow)
	case "down":
		return m.down(ctx, *withCluster, *purge)
	case "serve-registry": // what up starts in the background
		return serveRegistry(ctx, *addr, m.path("registry"))
	case "forward": // and this
		return forward(ctx, *namespace, *in, *out)
	}
	fmt.Fprint(stderr, usage)
	return usagef("unknown command %q", args[0])
}
