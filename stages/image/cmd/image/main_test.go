package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

func TestFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"flags -bin and -plan are needed": {},
		"reading the plan":                {"-bin", t.TempDir(), "-plan", t.TempDir() + "/plan.json"},
		"unexpected argument":             {"x"},
	} {
		var stderr bytes.Buffer
		if code := result.Main(stage(), append([]string{"-out", t.TempDir()}, args...), &stderr); code != result.ExitInput ||
			!strings.Contains(stderr.String(), "image: "+want) {
			t.Errorf("%v: exit %d: %s", args, code, &stderr)
		}
	}
}
