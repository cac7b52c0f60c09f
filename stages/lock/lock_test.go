package lock

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

var golang = Lock{Schema: Schema, Images: map[string]string{"docker.io/library/golang:1.26-bookworm": "sha256:" + strings.Repeat("ab", 32)}}

func TestParse(t *testing.T) {
	data, err := golang.JSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil || !reflect.DeepEqual(got, golang) {
		t.Errorf("Parse = %+v, %v; want %+v", got, err, golang)
	}
	for name, tt := range map[string]struct{ data, want string }{
		"empty":          {"", "slipway.lock:1"},
		"broken":         {"{\n\"schema\": \"" + Schema + "\",\n\"images\": 3\n}", "slipway.lock:3"},
		"unknown key":    {`{"schema":"` + Schema + `","imags":{}}`, "imags"},
		"other schema":   {`{"schema":"x","images":{}}`, "schema"},
		"two values":     {string(data) + "{}", "more than one"},
		"no tag":         {strings.Replace(string(data), ":1.26-bookworm", "", 1), "registry/repository:tag"},
		"a short digest": {strings.Replace(string(data), "abab", "", 1), "64 hexadecimal"},
	} {
		if _, err := Parse([]byte(tt.data)); !result.IsInput(err) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "lock function") {
			t.Errorf("%s: error = %v, want an input error about %q and the way out", name, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := golang.JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			return
		}
		again, err := l.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if l2, err := Parse(again); err != nil || !reflect.DeepEqual(l, l2) {
			t.Errorf("%+v became %+v, %v", l, l2, err)
		}
	})
}

func TestWrite(t *testing.T) {
	out := t.TempDir()
	if _, err := Write(out, []string{"docker.io/library/golang:1.26-bookworm@sha256:" + strings.Repeat("ab", 32)}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := Parse(data); err != nil || !reflect.DeepEqual(l, golang) {
		t.Errorf("%+v, %v", l, err)
	}
	for _, ref := range []string{"golang", "docker.io/library/golang:1", "docker.io/library/golang@sha256:" + strings.Repeat("ab", 32)} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Write(out, []string{ref}); !result.IsInput(err) {
			t.Errorf("%s: error = %v, want an input error", ref, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: something was written", ref)
		}
	}
}
