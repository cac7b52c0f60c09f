package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells a person what takes time, one line when a step begins and one when it ends.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "ci/local: [%5.1fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// step runs do and tells how long it took.
func (p *progress) step(name string, do func() error) error {
	start := time.Now()
	p.say("%s ...", name)
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.say("%s: done in %.1f s", name, time.Since(start).Seconds())
	return nil
}
