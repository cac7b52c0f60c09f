package smoke

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestRun(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			if asked.Add(1) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		case "/ok":
			fmt.Fprint(w, "hello "+r.URL.Query().Get("q"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	tests := []struct {
		name     string
		health   string
		requests []config.Request
		want     result.Verdict
		finding  string
	}{
		{"healthy", "/healthz", nil, result.Pass, ""},
		{"answers", "/healthz", []config.Request{{Path: "/ok?q=you", Contains: "hello you"}, {Path: "/no", Status: 404}}, result.Pass, ""},
		{"wrong status", "/healthz", []config.Request{{Path: "/no"}}, result.Fail, "/no"},
		{"wrong body", "/healthz", []config.Request{{Path: "/ok", Contains: "bye"}}, result.Fail, "bye"},
		{"never healthy", "/sick", nil, result.Fail, "/sick"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Run(t.Context(), Inputs{URL: srv.URL, Health: tt.health, Timeout: time.Second, Requests: tt.requests})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != tt.want {
				t.Errorf("verdict = %s, want %s: %+v", r.Verdict, tt.want, r)
			}
			if tt.finding != "" && (len(r.Findings) == 0 || !strings.Contains(r.Findings[0].Message, tt.finding)) {
				t.Errorf("findings = %+v, want one about %s", r.Findings, tt.finding)
			}
		})
	}
	if _, err := Run(t.Context(), Inputs{URL: "nonsense"}); !result.IsInput(err) {
		t.Errorf("error = %v, want an input error", err)
	}
}
