package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// Message is what a webhook gets. Slack and what is like it (Mattermost, Discord with /slack, Rocket.Chat) show its text; others read the rest.
type Message struct {
	Text      string         `json:"text"`
	App       string         `json:"app"`
	Namespace string         `json:"namespace"`
	Action    string         `json:"action"`
	By        string         `json:"by"`
	Digest    string         `json:"digest,omitempty"`
	Verdict   result.Verdict `json:"verdict"`
	Summary   string         `json:"summary"`
	Time      string         `json:"time"`
}

// ReadWebhook takes the URL from a file, so that it stands in no list of processes. It is a secret: no message repeats it.
func ReadWebhook(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", result.Inputf("flag -webhook: %w", err)
	}
	u, err := url.Parse(strings.TrimSpace(string(data)))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", result.Inputf("the webhook is no http:// or https:// URL")
	}
	return u.String(), nil
}

// Notify tells a webhook how it ended. It tries three times, and gives up for good at a refusal.
func Notify(ctx context.Context, webhook string, m Message) error {
	icon := map[result.Verdict]string{result.Pass: ":white_check_mark:", result.Fail: ":x:"}[m.Verdict]
	m.Text = strings.TrimSpace(fmt.Sprintf("%s %s of *%s* (%s) by %s: %s: %s", icon, m.Action, m.App, m.Namespace, m.By, m.Verdict, m.Summary))
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	const tries = 3
	for n := 1; ; n++ {
		code, err := post(ctx, client, webhook, body)
		switch {
		case err == nil && code/100 == 2:
			return nil
		case err == nil && code/100 == 4 && code != http.StatusTooManyRequests:
			return fmt.Errorf("the webhook refuses the message: %d %s", code, http.StatusText(code))
		case n == tries && err != nil:
			return fmt.Errorf("the webhook cannot be reached: %w", err)
		case n == tries:
			return fmt.Errorf("the webhook answers %d %s", code, http.StatusText(code))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(n) * time.Second):
		}
	}
}

func post(ctx context.Context, client *http.Client, webhook string, body []byte) (code int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, webhook, bytes.NewReader(body))
	if err != nil {
		return 0, withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, err
}

// withoutURL leaves out the URL, which the http package writes in front of every error.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
