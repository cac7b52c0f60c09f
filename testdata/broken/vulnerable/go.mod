module example.com/vulnerable

go 1.25.0

require github.com/gorilla/websocket v1.4.0
