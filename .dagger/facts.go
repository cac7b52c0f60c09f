package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// planFacts is the part of plan.json that this layer reads.
type planFacts struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Source  struct {
		Commit  string   `json:"commit"`
		Epoch   int64    `json:"epoch"`
		Ignored []string `json:"ignored"`
		Links   []string `json:"links"`
	} `json:"source"`
	Images     map[string]string `json:"images"`
	Components []struct {
		Mains     []any  `json:"mains"`
		Undecided string `json:"undecided"`
	} `json:"components"`
	Config struct {
		Build struct {
			Ports []int `json:"ports"`
		} `json:"build"`
		Scan struct {
			Database       string `json:"database"`
			MaxDatabaseAge string `json:"maxDatabaseAge"`
		} `json:"scan"`
		Smoke struct {
			Port     int   `json:"port"`
			Requests []any `json:"requests"`
		} `json:"smoke"`
	} `json:"config"`
}

// facts reads a plan stage's plan.json.
func (r *Report) facts(ctx context.Context) (*planFacts, error) {
	data, err := r.Files.File("plan.json").Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	var f planFacts
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		return nil, fmt.Errorf("plan: reading plan.json: %w", err)
	}
	return &f, nil
}

// isLibrary reports whether there is nothing to put into an image.
func (f *planFacts) isLibrary() bool {
	for _, c := range f.Components {
		if len(c.Mains) > 0 || c.Undecided != "" {
			return false
		}
	}
	return true
}
