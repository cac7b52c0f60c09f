package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"sort"
	"strings"
	"time"
)

// event is one line of "go test -json".
//
// Source: go doc test2json
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// Limits on what is kept of a test's output: enough to see why it failed.
const (
	maxOutput = 64 << 10
	maxLine   = 1 << 20
)

// Case is one test, or a package as a whole when Name is empty.
type Case struct {
	Package string
	Name    string
	// Outcome is pass, fail or skip.
	Outcome string
	Elapsed time.Duration
	Output  string
}

// Report is what a run of go test said.
type Report struct {
	Cases []Case
	// Noise is what was printed between the events: the go command's own complaints.
	Noise string
}

// tail keeps the last bytes of what was written.
type tail struct{ b []byte }

func (t *tail) add(s string) {
	t.b = append(t.b, s...)
	if len(t.b) > 2*maxOutput {
		t.b = append([]byte(nil), t.b[len(t.b)-maxOutput:]...)
	}
}

func (t *tail) String() string { return string(t.b[max(0, len(t.b)-maxOutput):]) }

type key struct{ pkg, test string }

// Parse reads the stream of "go test -json". A test that never ended counts as failed: its package was killed or panicked.
func Parse(r io.Reader) (*Report, error) {
	p := parser{running: map[key]*tail{}, builds: map[string]*tail{}}
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(br)
		if len(line) > 0 {
			p.line(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return p.finish(), nil
}

// readLine returns a line, or the first maxLine bytes of one that is longer.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		if len(line) < maxLine {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

type parser struct {
	cases   []Case
	running map[key]*tail
	builds  map[string]*tail
	noise   tail
}

func (p *parser) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		p.noise.add(string(line))
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		if p.builds[e.ImportPath] == nil {
			p.builds[e.ImportPath] = &tail{}
		}
		p.builds[e.ImportPath].add(e.Output)
	case "start", "run":
		p.running[k] = &tail{}
	case "output":
		if p.running[k] == nil {
			p.running[k] = &tail{}
		}
		p.running[k].add(e.Output)
	case "pass", "fail", "skip":
		c := Case{Package: e.Package, Name: e.Test, Outcome: e.Action, Elapsed: time.Duration(e.Elapsed * float64(time.Second))}
		if t := p.running[k]; t != nil {
			c.Output = t.String()
		}
		if b := p.builds[e.FailedBuild]; b != nil && e.FailedBuild != "" {
			c.Output += b.String()
		}
		p.cases = append(p.cases, c)
		delete(p.running, k)
	}
}

func (p *parser) finish() *Report {
	for k, t := range p.running {
		p.cases = append(p.cases, Case{Package: k.pkg, Name: k.test, Outcome: "fail", Output: t.String() + "(it never ended)\n"})
	}
	sort.Slice(p.cases, func(i, j int) bool {
		if p.cases[i].Package != p.cases[j].Package {
			return p.cases[i].Package < p.cases[j].Package
		}
		return p.cases[i].Name < p.cases[j].Name
	})
	return &Report{Cases: p.cases, Noise: p.noise.String()}
}

// Counts are of tests, not of packages.
func (r *Report) Counts() (tests, failed, skipped int) {
	for _, c := range r.Cases {
		if c.Name == "" {
			continue
		}
		tests++
		switch c.Outcome {
		case "fail":
			failed++
		case "skip":
			skipped++
		}
	}
	return tests, failed, skipped
}

// Failures are the failed tests, and the packages that failed without a failed test: they did not build, or panicked.
func (r *Report) Failures() []Case {
	blamed := map[string]bool{}
	var out []Case
	for _, c := range r.Cases {
		if c.Outcome == "fail" && c.Name != "" {
			blamed[c.Package] = true
			if !r.hasFailedChild(c) {
				out = append(out, c)
			}
		}
	}
	for _, c := range r.Cases {
		if c.Outcome == "fail" && c.Name == "" && !blamed[c.Package] {
			out = append(out, c)
		}
	}
	return out
}

// hasFailedChild reports whether a subtest of c is to blame for it.
func (r *Report) hasFailedChild(c Case) bool {
	for _, o := range r.Cases {
		if o.Outcome == "fail" && o.Package == c.Package && strings.HasPrefix(o.Name, c.Name+"/") {
			return true
		}
	}
	return false
}
