package oci

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// idleConn ends a transfer that makes no progress in either direction for a while: a registry that hangs is a fault, not a wait.
type idleConn struct {
	net.Conn
	limit time.Duration
	wrote atomic.Int64 // when a write last made progress, in Unix nanoseconds
}

// Read waits for as long as something is written: the answer to an upload comes after all of it.
func (c *idleConn) Read(p []byte) (int, error) {
	for {
		began := time.Now()
		if err := c.SetReadDeadline(began.Add(c.limit)); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.wrote.Load() < began.UnixNano() {
			return n, err
		}
	}
}

func (c *idleConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.wrote.Store(time.Now().UnixNano())
	}
	return n, err
}
