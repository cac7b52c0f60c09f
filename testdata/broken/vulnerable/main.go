// Command vulnerable echoes what it is told over a WebSocket.
package main

import (
	"log"
	"net/http"

	"github.com/gorilla/websocket"
)

func main() {
	log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(echo))) //nolint:gosec // a fixture
}

func echo(w http.ResponseWriter, r *http.Request) {
	var up websocket.Upgrader
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for {
		kind, data, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, data) != nil {
			return
		}
	}
}
