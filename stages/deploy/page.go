package deploy

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
)

// PageName is the file that shows a deployment's record to people: one page that asks for nothing else.
const PageName = "deployment.html"

//go:embed page.html.tmpl
var pageTemplate string

// The pictures grow with the window across, and not in height: across, everything is in percent, and text keeps its size. The two widths are the
// least that a picture has on a telephone, and in a window of wideFrom or more: what text needs more room than that is left out there.
const (
	narrowPlot, widePlot = 230.0, 700.0
	letterWidth          = 6.6 // pixels of one, at most, on average

	plotTop, plotHeight = 22.0, 140.0
	// pathWidth is what paths count to across; it is stretched to the picture's width.
	pathWidth = 1000.0
)

// deploymentPage shows a record: how it ended, how the traffic moved, and every metric against its limit. Everything in it is in rec.
func deploymentPage(app, namespace string, rec Record) ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, newPage(app, namespace, rec)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// pageView is what the template shows. Its text is printable: it comes from whoever wrote the manifests, the metrics and the record.
type pageView struct {
	App, Namespace, Verdict, Headline, Summary string
	Facts                                      []pageFact
	Tiles                                      []pageFact
	Ladder                                     *ladderPicture
	Metrics                                    []metricView
	Traffic                                    *trafficView
	// Without says why nothing was measured, NoTraffic why no requests are shown.
	Without, NoTraffic string
	// Latest is how many measurements are kept, when there were more.
	Latest int
}

type pageFact struct {
	Name, Value string
	Code        bool
}

func newPage(app, namespace string, rec Record) pageView {
	v := pageView{App: printable(app), Namespace: printable(namespace), Verdict: verdictClass(rec.Verdict), Summary: printable(rec.Summary)}
	phases := phasesOf(rec)
	v.Headline = pageHeadline(rec, phases)
	v.Facts = pageFacts(rec, v.Namespace)
	v.Tiles = pageTiles(rec, phases)
	v.Ladder = newLadder(rec, phases)
	points := slices.Clone(rec.Points)
	slices.SortStableFunc(points, func(a, b Point) int { return a.At.Compare(b.At) })
	scale := analysisScale(points, phases)
	v.Metrics = metricViews(rec.Decisions, points, phases, scale)
	v.Traffic = newTraffic(points, phases, scale)
	switch {
	case rec.Strategy != config.Canary && len(v.Metrics) == 0:
		v.Without = "Only a canary is analysed: here, the pods had to be ready, and the checks had to hold."
	case len(v.Metrics) == 0:
		v.Without = "Nothing was measured."
	case v.Traffic == nil:
		v.NoTraffic = "No metric counted the requests to both versions."
	}
	if len(points) >= mostPoints {
		v.Latest = mostPoints
	}
	return v
}

// printable has no character that shows nothing, or turns what follows it around.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

func verdictClass(v result.Verdict) string {
	switch v {
	case result.Pass, result.Fail, result.Inconclusive:
		return string(v)
	}
	return "none"
}

// pageHeadline is how it ended, in a sentence.
func pageHeadline(rec Record, phases []pagePhase) string {
	what := "The new version"
	if rec.Action == actionRollback {
		what = "The version that was gone back to"
	}
	steps, most := 0, 0
	for _, p := range phases {
		steps, most = max(steps, p.Step+1), max(most, p.weight)
	}
	ended := Phase("")
	if len(phases) > 0 {
		ended = phases[len(phases)-1].Phase
	}
	switch {
	case rec.Verdict == result.Pass && rec.Strategy == config.Canary && len(rec.Decisions) > 0:
		return fmt.Sprintf("%s runs. It took over the traffic in %s. At the end of each, every metric that decides was within its limit.", what, countOf(max(steps, 1), "step"))
	case rec.Verdict == result.Pass && rec.Strategy == config.Canary:
		return fmt.Sprintf("%s runs. It took over the traffic in %s.", what, countOf(max(steps, 1), "step"))
	case rec.Verdict == result.Pass && rec.Strategy == config.BlueGreen:
		return what + " runs. It was started beside the old one, and took over all the traffic at once."
	case rec.Verdict == result.Pass:
		return what + " runs. The pods were replaced in place, one after the other."
	case ended == Broken:
		return "It failed, and the way back failed, too: a person has to look at the cluster."
	}
	text := what + " did not do well, and the way back was taken"
	if rec.Verdict == result.Inconclusive {
		text = "Nothing showed clearly that it works, and the way back was taken"
	}
	if rec.Strategy == config.Rolling || len(phases) == 0 {
		return text + "."
	}
	if most == 0 {
		return text + " before it had any traffic."
	}
	return fmt.Sprintf("%s. It had %d %% of the traffic at most.", text, most)
}

func countOf(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func pageFacts(rec Record, namespace string) []pageFact {
	all := []pageFact{{Name: "by", Value: printable(rec.By)}, {Name: "began", Value: momentText(rec.Began)}, {Name: "ended", Value: momentText(rec.Time)},
		{Name: "what", Value: strings.TrimSpace(printable(rec.Strategy + " " + rec.Action))}, {Name: "namespace", Value: namespace},
		{Name: "digest", Value: printable(rec.Digest), Code: true}, {Name: "image", Value: printable(rec.Reference), Code: true}}
	return slices.DeleteFunc(all, func(f pageFact) bool { return f.Value == "" })
}

// momentText is a time of the record for people.
func momentText(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return printable(text)
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func pageTiles(rec Record, phases []pagePhase) []pageFact {
	var all []pageFact
	if began, err := time.Parse(time.RFC3339, rec.Began); err == nil {
		if ended, err := time.Parse(time.RFC3339, rec.Time); err == nil {
			all = append(all, pageFact{Name: "took", Value: lastingText(ended.Sub(began))})
		}
	}
	if len(phases) > 0 && rec.Strategy != config.Rolling {
		most := 0
		for _, p := range phases {
			most = max(most, p.weight)
		}
		all = append(all, pageFact{Name: "most traffic", Value: fmt.Sprintf("%d %%", most)})
	}
	measured := 0
	for _, d := range rec.Decisions {
		measured += max(d.Measured, 1)
	}
	if measured > 0 {
		all = append(all, pageFact{Name: "measurements", Value: strconv.Itoa(measured)})
	}
	if i := slices.IndexFunc(phases, func(p pagePhase) bool { return p.Phase.back() }); i >= 0 {
		all = append(all, pageFact{Name: "way back took", Value: lastingText(phases[len(phases)-1].At.Sub(phases[i].At))})
	}
	return all
}

// pagePhase is one that was entered, with what follows from the next one.
type pagePhase struct {
	Visit
	took time.Duration
	// weight is what the new version had for most of it.
	weight int
}

func phasesOf(rec Record) []pagePhase {
	var all []pagePhase
	for _, visit := range rec.Phases {
		p := pagePhase{Visit: visit, weight: min(max(visit.Weight, 0), 100)}
		if p.Phase == Returning { // it begins with that
			p.weight = 0
		}
		if n := len(all); n > 0 {
			if p.At.Before(all[n-1].At) { // two machines' clocks
				p.At = all[n-1].At
			}
			all[n-1].took = p.At.Sub(all[n-1].At)
		}
		all = append(all, p)
	}
	return all
}

// phaseMeaning is what happens in a phase, in words.
var phaseMeaning = map[Phase]string{
	Preparing: "hooks before, and what the new version needs", Updating: "the pods are replaced", Starting: "the new version starts beside the old",
	Checking: "it is asked, before it has traffic", Shifting: "it gets the step's share of the traffic", Analysing: "it is watched",
	Switching: "all is led to the new version", Holding: "hooks after; the old version stays ready", Draining: "until nobody asks the old version any more",
	Retiring: "the old version is ended", Done: "the new version runs",
	Reviving: "the old version starts again", Returning: "the traffic goes back to the old version", Clearing: "the new version is ended",
	Restoring: "the last good deployment is applied again", Aborted: "the last good version runs", Broken: "a person has to look",
}

// inPlaceMeaning is what differs where no version runs beside the other.
var inPlaceMeaning = map[Phase]string{Holding: "hooks after", Retiring: "what the manifests have no more is removed"}

// timeScale places moments across a picture.
type timeScale struct{ zero, from, to time.Time }

func (s timeScale) share(at time.Time) float64 {
	whole := s.to.Sub(s.from).Seconds()
	if whole <= 0 {
		return 0
	}
	return min(max(at.Sub(s.from).Seconds()/whole, 0), 1)
}

// at is in percent of the picture's width, x in a path's units.
func (s timeScale) at(t time.Time) string { return percentText(s.share(t)) }
func (s timeScale) x(t time.Time) float64 { return pathWidth * s.share(t) }

func percentText(share float64) string { return fmt.Sprintf("%.2f%%", 100*share) }

// clock is how long after the beginning.
func (s timeScale) clock(t time.Time) string {
	seconds := int64(math.Round(t.Sub(s.zero).Seconds()))
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	if seconds >= 3600 {
		return fmt.Sprintf("%s%d:%02d:%02d", sign, seconds/3600, seconds/60%60, seconds%60)
	}
	return fmt.Sprintf("%s%d:%02d", sign, seconds/60, seconds%60)
}

// lastingText is a duration for people.
func lastingText(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", max(0, d.Seconds()))
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	s := int64(d.Round(time.Second).Seconds())
	if s < 3600 {
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %02d min", s/3600, s/60%60)
}

// pageTick is a line of the grid with its label.
type pageTick struct{ At, Label string }

// ticks are at most five across: more labels would touch on a telephone.
func (s timeScale) ticks() []pageTick {
	whole := s.to.Sub(s.from).Seconds()
	const most = 4
	every := 0.0
	for _, c := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 6 * 3600, 12 * 3600, 24 * 3600} {
		if every = c; whole/c <= most {
			break
		}
	}
	for whole/every > most {
		every *= 2
	}
	var all []pageTick
	first := math.Ceil(s.from.Sub(s.zero).Seconds()/every) * every
	for i := range most + 1 {
		at := s.zero.Add(time.Duration((first + float64(i)*every) * float64(time.Second)))
		if at.After(s.to) {
			break
		}
		all = append(all, pageTick{s.at(at), s.clock(at)})
	}
	return all
}

// valueScale places numbers in a picture's height.
type valueScale struct{ low, high, step float64 }

func newValueScale(values []float64) valueScale {
	s := valueScale{}
	for _, v := range values {
		s.low, s.high = min(s.low, v), max(s.high, v)
	}
	if s.high-s.low < 1e-90 {
		s.high = s.low + 1
	}
	const most = 4
	s.step = math.Pow(10, math.Floor(math.Log10((s.high-s.low)/most)))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if (s.high-s.low)/(f*s.step) <= most {
			s.step *= f
			break
		}
	}
	s.low, s.high = math.Floor(s.low/s.step)*s.step, math.Ceil(s.high/s.step)*s.step
	return s
}

func (s valueScale) y(v float64) float64 {
	return tenth(plotTop + plotHeight*(1-min(max((v-s.low)/(s.high-s.low), 0), 1)))
}

func tenth(v float64) float64 { return math.Round(10*v) / 10 }

func (s valueScale) ticks() []pageTick {
	var all []pageTick
	for i := range int(math.Round((s.high-s.low)/s.step)) + 1 {
		v := s.low + float64(i)*s.step
		if math.Abs(v) < s.step/2 {
			v = 0
		}
		all = append(all, pageTick{fmt.Sprintf("%.1f", s.y(v)), tickText(v)})
	}
	return all
}

// tickText is a number of few letters.
func tickText(v float64) string {
	for _, unit := range []struct {
		from, of float64
		letter   string
	}{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}} {
		if a := math.Abs(v); a >= unit.from && a < 1e12 {
			return strconv.FormatFloat(v/unit.of, 'g', 4, 64) + unit.letter
		}
	}
	return strings.NewReplacer("e+0", "e+", "e-0", "e-").Replace(strconv.FormatFloat(v, 'g', 4, 64))
}

// measuredText is a measured number; empty without data.
func measuredText(v *float64) string {
	if v == nil || !finite(*v) {
		return ""
	}
	return fmt.Sprintf("%.4g", *v)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// drawable is a value as it can be drawn: what no picture could hold lies at its edge.
func drawable(v *float64) (float64, bool) {
	if v == nil || !finite(*v) {
		return 0, false
	}
	return min(max(*v, -1e90), 1e90), true
}

// picture is what every picture has.
type picture struct {
	// Name tells the pictures apart, Title and Desc are for who does not see them.
	Name, Title, Desc string
	X, Y              []pageTick
	// Height is the whole's, Top and Base are where the plot begins and ends, and Foot is where the labels below stand.
	Height, Top, Base, Foot float64
	Labels                  []pageLabel
}

// pageLabel is text in a picture. Where a window is too narrow for it, it is left out.
type pageLabel struct {
	X, Y, Text string
	// Class has narrow where it fits on a telephone, and wide where it fits in a wide window.
	Class string
}

// fittingLabels are the labels for a stretch: the longest text that fits, on a telephone and in a wide window.
func fittingLabels(share float64, x, y string, texts ...string) []pageLabel {
	var all []pageLabel
	for _, w := range []struct {
		class string
		width float64
	}{{"narrow", narrowPlot}, {"wide", widePlot}} {
		for _, text := range texts {
			if share*w.width >= letterWidth*float64(len([]rune(text)))+8 {
				all = append(all, pageLabel{x, y, text, w.class})
				break
			}
		}
	}
	if len(all) == 2 && all[0].Text == all[1].Text {
		all = []pageLabel{{x, y, all[0].Text, ""}}
	}
	return all
}

func newPicture(name, title string, s timeScale) picture {
	base := plotTop + plotHeight
	return picture{Name: name, Title: title, X: s.ticks(), Top: plotTop, Base: base, Foot: base + 18, Height: base + 24}
}

// ladderPicture is the share of the traffic over time, and the phases below it.
type ladderPicture struct {
	picture
	// Weighted says that there is a share to show.
	Weighted                             bool
	Forward, Back, ForwardArea, BackArea string
	Phases                               []box
	StripTop, StripHeight, StripAt       float64
	Rows                                 []phaseRow
	HasBack, HasWatched                  bool
}

// box is a box across a stretch of time.
type box struct {
	X, Width    string
	Y, Height   float64
	Class, Text string
}

type phaseRow struct {
	Number                                   int
	Name, Meaning, Step, Weight, Began, Took string
	Back                                     bool
}

func newLadder(rec Record, phases []pagePhase) *ladderPicture {
	if len(phases) == 0 {
		return nil
	}
	s := timeScale{zero: phases[0].At, from: phases[0].At, to: phases[len(phases)-1].At}
	if s.to.Sub(s.from) < time.Second {
		s.to = s.from.Add(time.Second)
	}
	l := &ladderPicture{picture: newPicture("ladder", "The new version's share of the traffic", s), Weighted: rec.Strategy != config.Rolling}
	if !l.Weighted {
		l.Title, l.Top, l.Base = "The phases", 0, 0
	}
	l.StripTop, l.StripHeight = l.Base+10, 22
	if !l.Weighted {
		l.StripTop = 2
	}
	l.Foot = l.StripTop + l.StripHeight + 18
	l.Height = l.Foot + 6
	l.StripAt = l.StripTop + 15
	y := func(weight int) float64 { return plotTop + plotHeight*(1-float64(weight)/100) }
	for _, w := range []int{0, 50, 100} {
		if l.Weighted {
			l.Y = append(l.Y, pageTick{fmt.Sprintf("%.1f", y(w)), fmt.Sprintf("%d %%", w)})
		}
	}
	l.paths(s, phases, y)
	for i, p := range phases {
		share := s.share(p.At.Add(p.took)) - s.share(p.At)
		b := box{X: s.at(p.At), Width: percentText(share), Class: phaseClass(p.Phase),
			Text: fmt.Sprintf("%d %s, %s, from %s", i+1, printable(string(p.Phase)), lastingText(p.took), s.clock(p.At))}
		if !p.Phase.Ended() {
			l.Phases = append(l.Phases, b)
			middle := percentText(s.share(p.At) + share/2)
			l.Labels = append(l.Labels, fittingLabels(share, middle, fmt.Sprintf("%.1f", l.StripAt), printable(string(p.Phase)), strconv.Itoa(i+1))...)
		}
		row := phaseRow{Number: i + 1, Name: printable(string(p.Phase)), Meaning: phaseMeaning[p.Phase], Began: s.clock(p.At), Back: p.Phase.back()}
		if rec.Strategy == config.Rolling && inPlaceMeaning[p.Phase] != "" {
			row.Meaning = inPlaceMeaning[p.Phase]
		}
		l.HasBack, l.HasWatched = l.HasBack || row.Back, l.HasWatched || p.Phase == Analysing
		if l.Weighted {
			row.Weight = fmt.Sprintf("%d %%", p.weight)
		}
		if p.Phase == Shifting || p.Phase == Analysing {
			row.Step = strconv.Itoa(p.Step + 1)
		}
		if !p.Phase.Ended() {
			row.Took = lastingText(p.took)
		}
		l.Rows = append(l.Rows, row)
	}
	l.Desc = ladderDesc(s, phases, l.Weighted)
	return l
}

// paths draw the steps, and write the weight above each stretch of it.
func (l *ladderPicture) paths(s timeScale, phases []pagePhase, y func(int) float64) {
	if !l.Weighted {
		return
	}
	for from := 0; from < len(phases); {
		back := onWayBack(phases[from].Phase)
		to := from
		for to+1 < len(phases) && phases[to+1].weight == phases[from].weight && back == onWayBack(phases[to+1].Phase) {
			to++
		}
		p := phases[from]
		began, ended := p.At, s.to
		if to+1 < len(phases) {
			ended = phases[to+1].At
		}
		x1, x2, height := s.x(began), s.x(ended), y(p.weight)
		line, area := &l.Forward, &l.ForwardArea
		if back {
			line, area = &l.Back, &l.BackArea
		}
		if from == 0 {
			*line += fmt.Sprintf("M%.1f %.1f", x1, height)
		} else {
			*line += fmt.Sprintf("M%.1f %.1fV%.1f", x1, y(phases[from-1].weight), height)
		}
		*line += fmt.Sprintf("H%.1f", x2)
		if p.weight > 0 {
			*area += fmt.Sprintf("M%.1f %.1fV%.1fH%.1fV%.1fZ", x1, l.Base, height, x2, l.Base)
			share := s.share(ended) - s.share(began)
			l.Labels = append(l.Labels, fittingLabels(share, percentText(s.share(began)+share/2), fmt.Sprintf("%.1f", height-6), fmt.Sprintf("%d %%", p.weight))...)
		}
		from = to + 1
	}
}

// onWayBack counts its end to it.
func onWayBack(p Phase) bool { return p.back() || p == Aborted || p == Broken }

func phaseClass(p Phase) string {
	switch {
	case p.back():
		return "back"
	case p == Analysing:
		return "watched"
	}
	return "forward"
}

func ladderDesc(s timeScale, phases []pagePhase, weighted bool) string {
	var parts []string
	was := -1
	for _, p := range phases {
		switch {
		case !weighted:
			parts = append(parts, fmt.Sprintf("%s from %s", printable(string(p.Phase)), s.clock(p.At)))
		case p.weight != was:
			text := fmt.Sprintf("%d %% from %s", p.weight, s.clock(p.At))
			if p.Phase.back() {
				text += ", on the way back"
			}
			parts = append(parts, text)
			was = p.weight
		}
	}
	return "Minutes and seconds since it began: " + strings.Join(parts, "; ") + "."
}

// analysisScale is the time in which something was measured.
func analysisScale(points []Point, phases []pagePhase) timeScale {
	if len(points) == 0 {
		return timeScale{}
	}
	s := timeScale{from: points[0].At, to: points[len(points)-1].At}
	s.zero = s.from
	if len(phases) > 0 {
		s.zero = phases[0].At
	}
	if began, ok := stepBegan(phases, points[0]); ok {
		s.from = began
	}
	if s.to.Sub(s.from) < time.Second {
		s.to = s.from.Add(time.Second)
	}
	return s
}

// stepBegan is when the watch began that p belongs to.
func stepBegan(phases []pagePhase, p Point) (time.Time, bool) {
	for _, v := range slices.Backward(phases) {
		if v.Phase == Analysing && v.Step == p.Step && !v.At.After(p.At) {
			return v.At, true
		}
	}
	return time.Time{}, false
}

// metricView is one metric: its picture, and the table of its decisions.
type metricView struct {
	picture
	Metric, Verdict                string
	DryRun                         bool
	Drawn                          bool
	Value, Baseline, Limit         string
	Gaps                           []box
	Dots                           []pageDot
	Dense                          bool
	HasBaseline, HasLimit, HasGaps bool
	Steps                          []pageTick
	Rows                           []decisionRow
	Queries                        []string
}

type pageDot struct {
	X, Class, Text string
	Y              float64
}

type decisionRow struct {
	Step, Value, Baseline, Limit, Samples, Verdict, Class, Why string
	Measured                                                   int
}

func metricViews(decisions []Decision, points []Point, phases []pagePhase, s timeScale) []metricView {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range decisions {
		add(decisions[i].Metric)
	}
	for _, p := range points {
		add(p.Metric)
	}
	var all []metricView
	for i, name := range names {
		var own []Point
		for _, p := range points {
			if p.Metric == name {
				own = append(own, p)
			}
		}
		m := metricView{Metric: printable(name), Verdict: "none", picture: newPicture(fmt.Sprintf("metric-%d", i+1), printable(name)+", of the new version against its limit", s)}
		for j := range decisions {
			if decisions[j].Metric == name {
				m.row(&decisions[j])
			}
		}
		if len(own) > 0 {
			m.draw(own, phases, s)
		}
		all = append(all, m)
	}
	return all
}

func (m *metricView) row(d *Decision) {
	samples := fmt.Sprintf("%d (%d needed)", d.Samples, d.Needed)
	if d.BaselineSamples > 0 {
		samples += fmt.Sprintf("; baseline %d", d.BaselineSamples)
	}
	r := decisionRow{Step: fmt.Sprintf("%d (%d %%)", d.Step+1, d.Weight), Value: measuredText(d.Value), Baseline: measuredText(d.Baseline), Limit: printable(d.Limit),
		Samples: samples, Verdict: printable(string(d.Verdict)), Class: verdictClass(d.Verdict), Why: printable(d.Why), Measured: max(d.Measured, 1)}
	if d.DryRun {
		m.DryRun = true
	}
	if r.Value == "" {
		r.Value = "no data"
	}
	m.Verdict = r.Class
	m.Rows = append(m.Rows, r)
	if query := printable(d.Query); query != "" && !slices.Contains(m.Queries, query) {
		m.Queries = append(m.Queries, query)
	}
}

// draw makes the picture. Nothing is joined across a step or across a measurement without data.
func (m *metricView) draw(points []Point, phases []pagePhase, s timeScale) {
	var values []float64
	for _, p := range points {
		for _, v := range []*float64{p.Value, p.Baseline, p.Limit} {
			if f, ok := drawable(v); ok {
				values = append(values, f)
			}
		}
	}
	scale := newValueScale(values)
	const many = 80
	m.Drawn, m.Y, m.Dense = true, scale.ticks(), len(points) > many
	var value, baseline curve
	var limit levels
	verdicts := map[string]int{}
	for i, p := range points {
		began, ended := stretch(points, i, phases)
		if i == 0 || points[i-1].Step != p.Step {
			m.step(s, p, points[i:], began, phases)
			value.end()
			baseline.end()
		}
		x := s.x(p.At)
		if f, ok := drawable(p.Value); ok {
			value.to(x, scale.y(f))
			m.Dots = append(m.Dots, pageDot{X: s.at(p.At), Y: scale.y(f), Class: verdictClass(p.Verdict), Text: pointText(p, s)})
		} else {
			value.end()
			m.HasGaps = true
			m.Gaps = append(m.Gaps, box{X: s.at(began), Width: percentText(s.share(ended) - s.share(began)), Y: plotTop, Height: plotHeight, Text: s.clock(p.At) + ": no data"})
		}
		if f, ok := drawable(p.Baseline); ok {
			baseline.to(x, scale.y(f))
		} else {
			baseline.end()
		}
		if f, ok := drawable(p.Limit); ok {
			limit.level(s.x(began), s.x(ended), scale.y(f))
		}
		verdicts[verdictClass(p.Verdict)]++
	}
	m.Value, m.Baseline, m.Limit = value.String(), baseline.String(), limit.String()
	m.HasBaseline, m.HasLimit = m.Baseline != "", m.Limit != ""
	// What failed is on top of what did not.
	slices.SortStableFunc(m.Dots, func(a, b pageDot) int { return dotOrder(a.Class) - dotOrder(b.Class) })
	m.Desc = fmt.Sprintf("%s: %d pass, %d inconclusive, %d fail. The table below has the last of each step.", countOf(len(points), "measurement"),
		verdicts["pass"], verdicts["inconclusive"], verdicts["fail"])
}

func dotOrder(class string) int {
	return slices.Index([]string{"none", "pass", "inconclusive", "fail"}, class)
}

// step marks where one begins.
func (m *metricView) step(s timeScale, p Point, rest []Point, began time.Time, phases []pagePhase) {
	m.Steps = append(m.Steps, pageTick{At: s.at(began)})
	end := p.At
	for _, q := range rest {
		if q.Step != p.Step {
			break
		}
		end = q.At
	}
	m.Labels = append(m.Labels, stepLabels(s, p.Step, began, end, phases)...)
}

func stepLabels(s timeScale, step int, began, ended time.Time, phases []pagePhase) []pageLabel {
	name := fmt.Sprintf("step %d", step+1)
	texts := []string{name, strconv.Itoa(step + 1)}
	for _, v := range phases {
		if v.Phase == Analysing && v.Step == step {
			texts = []string{fmt.Sprintf("%s: %d %%", name, v.weight), fmt.Sprintf("%d %%", v.weight)}
		}
	}
	share := s.share(ended) - s.share(began)
	return fittingLabels(share, percentText(s.share(began)+share/2), fmt.Sprintf("%.1f", plotTop-9), texts...)
}

// stretch is the time that a measurement stands for: half way to those beside it, within the step.
func stretch(points []Point, i int, phases []pagePhase) (from, to time.Time) {
	p := points[i]
	half := func(a, b time.Time) time.Time { return a.Add(b.Sub(a) / 2) }
	from, to = p.At, p.At
	switch began, ok := stepBegan(phases, p); {
	case i > 0 && points[i-1].Step == p.Step:
		from = half(points[i-1].At, p.At)
	case ok:
		from = began
	}
	if i+1 < len(points) && points[i+1].Step == p.Step {
		to = half(p.At, points[i+1].At)
	}
	return from, to
}

func pointText(p Point, s timeScale) string {
	text := s.clock(p.At) + ": " + measuredText(p.Value)
	if l := measuredText(p.Limit); l != "" {
		text += ", limit " + l
	}
	if b := measuredText(p.Baseline); b != "" {
		text += ", baseline " + b
	}
	return fmt.Sprintf("%s, %d samples: %s", text, p.Samples, verdictClass(p.Verdict))
}

// curve is a path through points, with gaps. A point that stands alone is a dot.
type curve struct {
	strings.Builder
	open bool
}

func (l *curve) to(x, y float64) {
	if l.open {
		fmt.Fprintf(l, "L%.1f %.1f", x, y)
		return
	}
	fmt.Fprintf(l, "M%.1f %.1fh.1", x, y)
	l.open = true
}

func (l *curve) end() { l.open = false }

// levels is a path of levels; what goes on at the same level is one stroke.
type levels struct {
	path          strings.Builder
	from, to, lay float64
	open          bool
}

func (r *levels) level(from, to, y float64) {
	if r.open && math.Abs(r.lay-y) < 0.05 && math.Abs(r.to-from) < 0.05 {
		r.to = to
		return
	}
	r.flush()
	r.from, r.to, r.lay, r.open = from, max(to, from+0.1), y, true
}

func (r *levels) flush() {
	if r.open {
		fmt.Fprintf(&r.path, "M%.1f %.1fH%.1f", r.from, r.lay, r.to)
	}
	r.open = false
}

func (r *levels) String() string {
	r.flush()
	return r.path.String()
}

// trafficView are the requests to both versions.
type trafficView struct {
	picture
	Metric           string
	New, Old         []box
	NewSent, OldSent string
	Steps            []pageTick
}

// sentBetween is the time between two measurements, and the requests in it.
type sentBetween struct {
	from, to time.Time
	step     int
	fresh    int64
	old      int64
}

// newTraffic takes the metric that counts the most requests, of those that count both versions'.
func newTraffic(points []Point, phases []pagePhase, s timeScale) *trafficView {
	byMetric := map[string][]Point{}
	var names []string
	for _, p := range points {
		if byMetric[p.Metric] == nil {
			names = append(names, p.Metric)
		}
		byMetric[p.Metric] = append(byMetric[p.Metric], p)
	}
	var best []sentBetween
	var metric string
	var most int64
	for _, name := range names {
		list := intervals(byMetric[name], phases)
		var fresh, old int64
		for _, i := range list {
			fresh, old = fresh+i.fresh, old+i.old
		}
		if old > 0 && fresh+old > most {
			best, metric, most = list, name, fresh+old
		}
	}
	if best == nil {
		return nil
	}
	v := &trafficView{picture: newPicture("traffic", "Requests per second to both versions", s), Metric: printable(metric)}
	var rates []float64
	var fresh, old int64
	for _, i := range best {
		rates = append(rates, float64(i.fresh+i.old)/i.to.Sub(i.from).Seconds())
		fresh, old = fresh+i.fresh, old+i.old
	}
	scale := newValueScale(rates)
	v.Y, v.NewSent, v.OldSent = scale.ticks(), strconv.FormatInt(fresh, 10), strconv.FormatInt(old, 10)
	for n, i := range best {
		seconds := i.to.Sub(i.from).Seconds()
		a, b := scale.y(float64(i.fresh)/seconds), scale.y(float64(i.fresh+i.old)/seconds)
		part := box{X: s.at(i.from), Width: percentText(s.share(i.to) - s.share(i.from)),
			Text: fmt.Sprintf("%s to %s: %d requests to the new version, %d to the old", s.clock(i.from), s.clock(i.to), i.fresh, i.old)}
		part.Y, part.Height = a, tenth(v.Base-a)
		v.New = append(v.New, part)
		part.Y, part.Height = b, tenth(a-b)
		v.Old = append(v.Old, part)
		if n == 0 || best[n-1].step != i.step {
			v.Steps = append(v.Steps, pageTick{At: s.at(i.from)})
			end := i.to
			for _, later := range best[n:] {
				if later.step == i.step {
					end = later.to
				}
			}
			v.Labels = append(v.Labels, stepLabels(s, i.step, i.from, end, phases)...)
		}
	}
	v.Desc = fmt.Sprintf("While they were watched, the new version got %d requests and the old one %d.", fresh, old)
	return v
}

// intervals are the differences of one metric's counts, which begin anew with every step, and with every run that goes on with an interrupted one.
func intervals(points []Point, phases []pagePhase) []sentBetween {
	var all []sentBetween
	var before *Point
	for _, p := range points {
		var last Point
		from, known := stepBegan(phases, p)
		switch {
		case before == nil:
		case before.Step == p.Step && (!known || !before.At.Before(from)):
			last, from, known = *before, before.At, true
		case sameBaseline(*before, p):
			last.BaselineSamples = p.BaselineSamples // nothing goes to the old version: these were counted before
		}
		before = &p
		if !known || p.At.Sub(from) < time.Millisecond {
			continue
		}
		all = append(all, sentBetween{from: from, to: p.At, step: p.Step, fresh: max(0, p.Samples-max(0, last.Samples)),
			old: max(0, p.BaselineSamples-max(0, last.BaselineSamples))})
	}
	return all
}

// sameBaseline says whether both have the same baseline.
func sameBaseline(a, b Point) bool {
	return a.BaselineSamples == b.BaselineSamples && measuredText(a.Baseline) == measuredText(b.Baseline)
}
