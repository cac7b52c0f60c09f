package vulndb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	tests := []struct {
		name    string
		updated time.Time
		want    result.Verdict
		text    string
	}{
		{"fresh", now.Add(-day), result.Pass, ""},
		{"a little ahead", now.Add(time.Hour), result.Pass, ""},
		{"at the limit", now.Add(-7 * day), result.Pass, ""},
		{"stale", now.Add(-9 * day), result.Inconclusive, "vulnerability database is 9 days old (limit 7 days): refresh it or set scan.maxDatabaseAge"},
		{"future", now.Add(3 * time.Hour), result.Inconclusive, "future"},
		{"no time", time.Time{}, result.Inconclusive, "does not say"},
	}
	for _, tt := range tests {
		got, text := Judge(&Metadata{UpdatedAt: tt.updated}, 7*day, now)
		if got != tt.want || !strings.Contains(text, tt.text) {
			t.Errorf("%s: %s, %q; want %s, %q", tt.name, got, text, tt.want, tt.text)
		}
	}
}

func archive(t testing.TB, entries ...tar.Header) *bytes.Buffer {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, h := range entries {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func file(name string, size int64) tar.Header {
	return tar.Header{Name: name, Size: size, Typeflag: tar.TypeReg, Mode: 0o644}
}

func TestExtract(t *testing.T) {
	good := []tar.Header{file(DatabaseName, 10), file(MetadataName, 5)}
	tests := []struct {
		name    string
		entries []tar.Header
		bad     bool
	}{
		{"good", good, false},
		{"more than needed", append([]tar.Header{file("../../evil", 3), file("other", 1)}, good...), false},
		{"incomplete", good[:1], true},
		{"twice", append(good[:1:1], good...), true},
		{"link", []tar.Header{{Name: DatabaseName, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, file(MetadataName, 5)}, true},
		{"huge metadata", []tar.Header{file(DatabaseName, 1), file(MetadataName, 2<<20)}, true},
	}
	for _, tt := range tests {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := Extract(archive(t, tt.entries...), dir)
		if (err != nil) != tt.bad {
			t.Errorf("%s: error = %v", tt.name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "..", "..", "evil")); err == nil {
			t.Errorf("%s: something was written outside", tt.name)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"Version":2,"UpdatedAt":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseMetadata(data); err == nil && m.Version != SchemaVersion {
			t.Errorf("accepted %q", data)
		}
	})
}

func FuzzExtract(f *testing.F) {
	f.Add(archive(f, file(DatabaseName, 10), file(MetadataName, 5)).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = Extract(bytes.NewReader(data), t.TempDir()) // it must not panic, nor write elsewhere
	})
}
