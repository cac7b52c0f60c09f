// Command load sends requests to a service at a constant rate, half of them over new connections and half over kept ones, until it is told to end,
// and then writes one line of JSON for each request. It runs where the cluster's addresses can be reached.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Request is one request and how it went.
type Request struct {
	// At is when it was sent, in milliseconds since 1970.
	At int64 `json:"at"`
	// Took is in milliseconds.
	Took    float64 `json:"took"`
	Through string  `json:"through"`
	Code    int     `json:"code"`
	Release string  `json:"release,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func main() { os.Exit(load()) }

func load() int {
	gateway := flag.String("gateway", "", "`host:port` of the Gateway")
	host := flag.String("host", "", "the `name` that the Gateway's route has")
	service := flag.String("service", "", "`host:port` of the Service")
	rate := flag.Float64("rate", 25, "requests per second, of each of the four kinds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *gateway, *host, *service, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, gateway, host, service string, rate float64) error {
	var mu sync.Mutex
	var all []Request
	var wg sync.WaitGroup
	for _, kind := range []struct {
		through, address, host string
		keep                   bool
	}{{"gateway, new connections", gateway, host, false}, {"gateway, kept", gateway, host, true}, {"service, new connections", service, "", false}, {"service, kept", service, "", true}} {
		if kind.address == "" {
			continue
		}
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: !kind.keep, MaxIdleConnsPerHost: 16, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}}
		wg.Go(func() {
			ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
			defer ticker.Stop()
			var sent sync.WaitGroup
			defer sent.Wait()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				sent.Go(func() {
					r := send(client, kind.address, kind.host)
					r.Through = kind.through
					mu.Lock()
					all = append(all, r)
					mu.Unlock()
				})
			}
		})
	}
	wg.Wait()
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	for _, r := range all {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return out.Flush()
}

// send is one request. It is not ended by the end of the load: one that is under way is waited for.
func send(client *http.Client, address, host string) Request {
	began := time.Now()
	r := Request{At: began.UnixMilli()}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	if host != "" {
		req.Host = host
	}
	res, err := client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		r.Code, r.Release = res.StatusCode, res.Header.Get("X-Release")
		_ = res.Body.Close()
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.Took = float64(time.Since(began).Microseconds()) / 1000
	return r
}
