package main

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"
)

func TestServeStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, "127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	time.Sleep(50 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it does not stop")
	}
}

func TestServeFails(t *testing.T) {
	if err := serve(t.Context(), "256.0.0.1:1", slog.New(slog.NewTextHandler(io.Discard, nil))); err == nil {
		t.Error("an address that cannot be gave no error")
	}
}
