package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress tells a person what takes time: one line when a step begins and one when it ends. On a terminal the steps under way stand
// in the last line, with their times, and only what has ended stays.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
	// width is the terminal's in columns, or 0 where there is none.
	width   int
	running []*step
	stop    func()
}

type step struct {
	name  string
	began time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, began: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.width = 80
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			p.width = width
		}
	}
	return p
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, "ci/local: [%5.1fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
	p.draw()
}

// step runs do and tells how long it took.
func (p *progress) step(name string, do func() error) error {
	s := &step{name: name, began: time.Now()}
	p.start(s)
	err := do()
	p.end(s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.say("%s: done in %.1f s", name, time.Since(s.began).Seconds())
	return nil
}

func (p *progress) start(s *step) {
	if p.width == 0 {
		p.say("%s ...", s.name)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, s)
	if len(p.running) > 1 {
		return
	}
	done := make(chan struct{})
	p.stop = sync.OnceFunc(func() { close(done) })
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p.mu.Lock()
				p.clear()
				p.draw()
				p.mu.Unlock()
			}
		}
	}()
}

func (p *progress) end(s *step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = slices.DeleteFunc(p.running, func(r *step) bool { return r == s })
	if len(p.running) == 0 && p.stop != nil {
		p.clear()
		p.stop()
	}
}

// clear empties the terminal's last line.
func (p *progress) clear() {
	if p.width > 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// draw writes the steps under way into the terminal's last line.
func (p *progress) draw() {
	if p.width == 0 || len(p.running) == 0 {
		return
	}
	parts := make([]string, len(p.running))
	for i, s := range p.running {
		parts[i] = fmt.Sprintf("%s (%.0f s)", s.name, time.Since(s.began).Seconds())
	}
	line := []rune("... " + strings.Join(parts, ", "))
	if len(line) >= p.width {
		line = append(line[:p.width-2], '…')
	}
	fmt.Fprint(p.w, string(line))
}
