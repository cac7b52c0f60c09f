package vulndb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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
		want    string // a part of the error
	}{
		{"good", good, ""},
		{"more than needed", append([]tar.Header{file("../../evil", 3), file("other", 1)}, good...), ""},
		{"incomplete", good[:1], "is missing"},
		{"twice", append(good[:1:1], good...), "is there twice"},
		{"link", []tar.Header{{Name: DatabaseName, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, file(MetadataName, 5)}, "is missing"},
		{"huge metadata", []tar.Header{file(DatabaseName, 1), file(MetadataName, 2<<20)}, "are allowed"},
	}
	for _, tt := range tests {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := Extract(archive(t, tt.entries...), dir)
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want one with %q", tt.name, err, tt.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "..", "..", "evil")); err == nil {
			t.Errorf("%s: something was written outside", tt.name)
		}
	}
}

// TestExtractBomb unpacks 64 MB of zeros, which came as 64 kB, within memory that has no room for them.
func TestExtractBomb(t *testing.T) {
	const bomb = 64 << 20
	packed := archive(t, file("bomb", bomb), file(DatabaseName, 10), file(MetadataName, 5))
	if packed.Len() > bomb/500 {
		t.Fatalf("the bomb has %d bytes: it is none", packed.Len())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := extract(packed, t.TempDir(), bomb/2)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "unpacks to more than") {
		t.Errorf("error = %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > bomb/8 {
		t.Errorf("it took %d bytes of memory", used)
	}
}

func TestFolderRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string) error
		want    string
	}{
		{"link out of the folder", func(_ *testing.T, dir string) error {
			return os.Symlink("/etc/passwd", filepath.Join(dir, DatabaseName))
		}, "escapes"},
		{"pipe", func(_ *testing.T, dir string) error {
			return syscall.Mkfifo(filepath.Join(dir, DatabaseName), 0o600)
		}, "no regular file"},
		{"gigabytes", func(t *testing.T, dir string) error {
			f, err := os.Create(filepath.Join(dir, DatabaseName))
			if err != nil {
				return err
			}
			t.Cleanup(func() { f.Close() })
			return f.Truncate(limits[DatabaseName] + 1)
		}, "are allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from := t.TempDir()
			if err := tt.prepare(t, from); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(from, MetadataName), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := fromFolder(from, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
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
