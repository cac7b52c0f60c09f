// Command unsteady is a service that fails as it is told to, for deployments to be tried on: errors, slow answers, crashes, no readiness.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// faults are what goes wrong, and when.
type faults struct {
	release string
	// errors is the share of requests that are answered with 500.
	errors float64
	// delay is added to every answer.
	delay time.Duration
	// crashAfter ends the process; 0 is never.
	crashAfter time.Duration
	unready    bool
}

func main() {
	var f faults
	addr := flag.String("addr", ":8080", "address to listen on")
	migrate := flag.String("migrate", "", "do nothing but end: well, or badly")
	flag.StringVar(&f.release, "release", "v1", "what every answer says")
	flag.Float64Var(&f.errors, "errors", 0, "share of requests that fail")
	flag.DurationVar(&f.delay, "delay", 0, "time that every answer takes")
	flag.DurationVar(&f.crashAfter, "crash-after", 0, "end with an error after this time")
	flag.BoolVar(&f.unready, "unready", false, "never be ready")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *migrate != "" {
		fmt.Println("migration ends", *migrate)
		if *migrate != "well" {
			os.Exit(1)
		}
		return
	}
	if err := serve(ctx, *addr, f); err != nil {
		slog.Error("serving", "error", err)
		os.Exit(1)
	}
}

// serve answers until ctx ends, and then lets running requests finish.
func serve(ctx context.Context, addr string, f faults) error {
	srv := &http.Server{Addr: addr, Handler: handler(f), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	var crash <-chan time.Time
	if f.crashAfter > 0 {
		crash = time.After(f.crashAfter)
	}
	select {
	case err := <-failed:
		return err
	case <-crash:
		return errors.New("crashing, as told")
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(shutdown)
}

func handler(f faults) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if f.unready {
			http.Error(w, "not ready, as told", http.StatusServiceUnavailable)
			return
		}
		say(w, "ok")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(f.delay)
		w.Header().Set("X-Release", f.release)
		if rand.Float64() < f.errors {
			http.Error(w, "failing, as told", http.StatusInternalServerError)
			return
		}
		say(w, f.release)
	})
	return mux
}

func say(w http.ResponseWriter, text string) {
	if _, err := fmt.Fprintln(w, text); err != nil {
		slog.Error("answering", "error", err)
	}
}
