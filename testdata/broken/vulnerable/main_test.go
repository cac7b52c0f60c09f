package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func TestEcho(t *testing.T) {
	srv := httptest.NewServer(nil)
	defer srv.Close()
	_, _, err := websocket.DefaultDialer.Dial(strings.Replace(srv.URL, "http", "ws", 1), nil)
	if err == nil {
		t.Error("a server without WebSocket upgraded")
	}
}
