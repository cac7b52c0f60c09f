package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table: what was measured, and what it is held against.
type row struct {
	what         string
	took         time.Duration
	baseline     string
	baselineTook time.Duration
	// aim is the highest ratio that we are content with; 0 means none.
	aim float64
}

func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	b.say("%s: %s", r.what, seconds(r.took))
}

// median runs do as often as the run asks for.
func (b *bench) median(ctx context.Context, do func(context.Context) (time.Duration, error)) (time.Duration, error) {
	var all []time.Duration
	for range b.runs {
		took, err := do(ctx)
		if err != nil {
			return 0, err
		}
		all = append(all, took)
	}
	return median(all), nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// table prints the rows for people.
func table(w io.Writer, rows []row) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\twhat\ttime\tagainst\ttime\tratio\taim\t")
	for _, r := range rows {
		ratio, aim, mark := "", "", ""
		if r.baselineTook > 0 {
			x := float64(r.took) / float64(r.baselineTook)
			ratio = fmt.Sprintf("%.2f", x)
			if r.aim > 0 {
				aim, mark = fmt.Sprintf("<= %.1f", r.aim), "ok"
				if x > r.aim {
					mark = "MISSED"
				}
			}
		}
		against := ""
		if r.baseline != "" {
			against = seconds(r.baselineTook)
		}
		line := strings.Join([]string{mark, r.what, seconds(r.took), r.baseline, against, ratio, aim, ""}, "\t")
		if _, err := fmt.Fprintln(tw, line); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
