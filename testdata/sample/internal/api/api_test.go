package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestGreet(t *testing.T) {
	day := func(hour int) time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }
	tests := []struct {
		accept string
		at     time.Time
		want   string
	}{
		{"", day(9), "Good morning, Ada!"},
		{"de-CH, en;q=0.5", day(13), "Guten Tag, Ada!"},
		{"fr", day(22), "Bonsoir, Ada!"},
		{"xx", day(3), "Good evening, Ada!"},
	}
	for _, tt := range tests {
		if got := Greet("Ada", tt.accept, tt.at); got.Text != tt.want || got.ID == "" {
			t.Errorf("Greet(%q, %v) = %+v, want %q", tt.accept, tt.at, got, tt.want)
		}
	}
}

func TestHandler(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 1, 2, 23, 0, 0, 0, time.UTC) }
	h := New(Version{Version: "v1"}, now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":                             {http.StatusOK, "ok"},
		"/version":                             {http.StatusOK, `"version":"v1"`},
		"/api/greetings/Ada":                   {http.StatusOK, "Good evening, Ada!"},
		"/api/greetings/Ada?zone=Asia/Tokyo":   {http.StatusOK, "Good morning, Ada!"},
		"/api/greetings/Ada?zone=Nowhere/Else": {http.StatusBadRequest, "unknown time zone"},
		"/nothing":                             {http.StatusNotFound, ""},
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want.status || !strings.Contains(rec.Body.String(), want.body) {
			t.Errorf("GET %s = %d %s, want %d and %q", path, rec.Code, rec.Body, want.status, want.body)
		}
		if rec.Code == http.StatusOK && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("GET %s: not JSON: %s", path, rec.Body)
		}
	}
}
