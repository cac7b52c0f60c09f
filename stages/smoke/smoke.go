// Package smoke asks a started service a few questions.
package smoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// maxBody bounds what is read of an answer, in bytes.
const maxBody = 1 << 20

// Inputs are the stage's.
type Inputs struct {
	// URL of the service, without a path.
	URL string
	// Health is the path that has to answer 2xx before Timeout is over.
	Health   string
	Timeout  time.Duration
	Requests []config.Request
}

// Run waits for health and sends the requests.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	base, err := url.Parse(in.URL)
	if err != nil || base.Host == "" {
		return nil, result.Inputf("flag -url %q: want http://host:port", in.URL)
	}
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r := &result.Result{Verdict: result.Pass, Metrics: map[string]float64{"requests": float64(len(in.Requests))}}
	if err := healthy(ctx, client, base, in.Health, in.Timeout); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.Verdict = result.Fail
		r.Summary = fmt.Sprintf("%s is not healthy after %s", in.Health, in.Timeout)
		r.Findings = []result.Finding{{ID: "health", Severity: result.Critical, Message: fmt.Sprintf("GET %s: %v", in.Health, err),
			Fix: "look at the service's log, or set smoke.health, smoke.port and smoke.timeout in slipway.yaml"}}
		return r, nil
	}
	for _, q := range in.Requests {
		if err := ask(ctx, client, base, q); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r.Findings = append(r.Findings, result.Finding{ID: "request", Severity: result.High, Message: fmt.Sprintf("GET %s: %v", q.Path, err)})
		}
	}
	r.Metrics["failed"] = float64(len(r.Findings))
	r.Summary = fmt.Sprintf("healthy, %d of %d requests answered as expected", len(in.Requests)-len(r.Findings), len(in.Requests))
	if len(r.Findings) > 0 {
		r.Verdict = result.Fail
	}
	return r, nil
}

func healthy(ctx context.Context, c *http.Client, base *url.URL, path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := errors.New("no answer")
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := ask(ctx, c, base, config.Request{Path: path})
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(wait):
		}
	}
}

// ask sends one GET and compares the answer.
func ask(ctx context.Context, c *http.Client, base *url.URL, q config.Request) error {
	ref, err := url.Parse(q.Path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.ResolveReference(ref).String(), nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return err
	}
	switch {
	case q.Status != 0 && res.StatusCode != q.Status:
		return fmt.Errorf("it answers %s, want %d", res.Status, q.Status)
	case q.Status == 0 && res.StatusCode/100 != 2:
		return fmt.Errorf("it answers %s, want 2xx", res.Status)
	case q.Contains != "" && !strings.Contains(string(body), q.Contains):
		return fmt.Errorf("its answer does not contain %q", q.Contains)
	}
	return nil
}
