package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/config"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/plan"
)

func TestPolicy(t *testing.T) {
	p := &plan.Plan{Config: config.Config{
		Verify: config.Verify{Require: []string{"spdx"}, MaxAge: config.Duration(time.Hour)},
		Environments: map[string]config.Environment{
			"staging":    {},
			"production": {Require: []string{"scan", "test"}, MaxAge: config.Duration(time.Minute)},
		},
	}}
	for environment, want := range map[string]struct {
		require []string
		maxAge  time.Duration
	}{
		"":           {[]string{"spdx"}, time.Hour},
		"staging":    {[]string{"spdx"}, time.Hour}, // an environment without words of its own has those of verify
		"production": {[]string{"scan", "test"}, time.Minute},
	} {
		got, err := policy(p, environment)
		if err != nil || !slices.Equal(got.Require, want.require) || got.MaxAge != want.maxAge {
			t.Errorf("policy(%q) = %+v, %v; want %+v", environment, got, err, want)
		}
	}
	if _, err := policy(p, "prod"); !result.IsInput(err) || !strings.Contains(err.Error(), "production, staging") {
		t.Errorf("unknown environment: error = %v, want an input error that lists those there are", err)
	}
}
