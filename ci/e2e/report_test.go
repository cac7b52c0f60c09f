//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// TestReportPage opens the reports of a pipeline that passed and of one that failed in a real browser, as a person would: from the disk.
func TestReportPage(t *testing.T) {
	chromium := browser(t)
	for _, tt := range []struct {
		name, source, verdict string
		findings              bool
	}{
		{"passed", filepath.Join(shared.root, "testdata", "sample"), "pass", false},
		{"failed", filepath.Join(shared.root, "testdata", "broken", "vulnerable"), "fail", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "report")
			mustDagger(t, "--source", tt.source, "--registry", "tcp://"+shared.registry, "pipeline-report", "--database", shared.database,
				"files", "export", "--path", dir)
			for _, size := range []struct{ width, height int64 }{{1280, 900}, {390, 844}} {
				p := openPage(t, chromium, filepath.Join(dir, "report.html"), size.width, size.height)
				if p.verdict != tt.verdict {
					t.Errorf("%d px: badge says %q, want %q", size.width, p.verdict, tt.verdict)
				}
				if p.overflow > 0 {
					t.Errorf("%d px: the page is %v px wider than the window", size.width, p.overflow)
				}
				if p.stages < 10 || p.bars == 0 || p.bars != p.visibleBars {
					t.Errorf("%d px: %d stages, %d bars, %d of them visible", size.width, p.stages, p.bars, p.visibleBars)
				}
				if tt.findings && (p.counting == 0 || p.filtered != 0) {
					t.Errorf("%d px: %d findings count, and %d are left by a filter that nothing matches", size.width, p.counting, p.filtered)
				}
				if len(p.trouble) > 0 {
					t.Errorf("%d px: %s", size.width, strings.Join(p.trouble, "\n"))
				}
			}
		})
	}
}

// browser is the Chromium on this machine.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium on the PATH: install Debian's package chromium")
	return ""
}

// page is what a person would see.
type page struct {
	verdict                   string
	overflow                  float64
	stages, bars, visibleBars int
	counting, filtered        int
	trouble                   []string
}

func openPage(t *testing.T, chromium, path string, width, height int64) page {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.WindowSize(int(width), int(height)))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()

	var p page
	url := "file://" + path
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.trouble = append(p.trouble, "script error: "+e.ExceptionDetails.Error())
		case *cdplog.EventEntryAdded:
			p.trouble = append(p.trouble, "console: "+e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if e.Request.URL != url {
				p.trouble = append(p.trouble, "the page asks for "+e.Request.URL)
			}
		}
	})
	js := func(expression string, into any) chromedp.Action { return chromedp.Evaluate(expression, into) }
	if err := chromedp.Run(ctx,
		network.Enable(), cdplog.Enable(),
		chromedp.EmulateViewport(width, height),
		chromedp.Navigate(url),
		js(`document.querySelector('.badge').textContent`, &p.verdict),
		js(`document.documentElement.scrollWidth - innerWidth`, &p.overflow),
		js(`document.querySelectorAll('.row').length`, &p.stages),
		js(`document.querySelectorAll('.lane i').length`, &p.bars),
		js(`[...document.querySelectorAll('.lane i')].filter((e) => { const b = e.getBoundingClientRect(), l = e.parentElement.getBoundingClientRect();
			return b.width > 0 && b.height > 0 && b.left >= l.left - 1 && b.right <= l.right + 1; }).length`, &p.visibleBars),
		js(`document.querySelectorAll('#findings tbody tr[data-counts=yes]').length`, &p.counting),
		js(`(() => { const f = document.getElementById('text'); if (!f) return 0; f.value = 'nothing has this'; f.dispatchEvent(new Event('input'));
			const n = [...document.querySelectorAll('#findings tbody tr')].filter((r) => r.offsetHeight > 0).length;
			f.value = ''; f.dispatchEvent(new Event('input')); return n; })()`, &p.filtered),
	); err != nil {
		t.Fatal(err)
	}
	return p
}
