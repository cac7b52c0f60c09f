package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dagger/slipway/internal/dagger"
)

// sourceOnly is what a fresh clone has, without its history: what git ignores stays out, so that a laptop gives what a runner gives.
//
// It is put together from its parts, because the engine knows a file or directory taken from a tree by its content, and a filtered tree
// only by where it came from: each clone's .git is another, and everything would run again.
func (s *Slipway) sourceOnly(ctx context.Context, plan *planFacts) (*dagger.Directory, error) {
	if len(plan.Source.Links) > 0 {
		// A link taken out of its tree would lose its target.
		return s.Source.Filter(dagger.DirectoryFilterOpts{Exclude: append(literal(plan.Source.Ignored, ""), ".git")}), nil
	}
	entries, err := s.Source.Entries(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	tree := dag.Directory()
	for _, entry := range entries {
		name, isDir := strings.CutSuffix(entry, "/")
		switch {
		case name == ".git" || slices.Contains(plan.Source.Ignored, name):
		case !isDir:
			tree = tree.WithFile(name, s.Source.File(name))
		default:
			dir := s.Source.Directory(name)
			if exclude := literal(plan.Source.Ignored, name+"/"); len(exclude) > 0 {
				dir = dir.Filter(dagger.DirectoryFilterOpts{Exclude: exclude})
			}
			tree = tree.WithDirectory(name, dir)
		}
	}
	return tree, nil
}

// literal are the names below prefix, relative to it, as patterns that match nothing else.
func literal(names []string, prefix string) []string {
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `!`, `\!`)
	var patterns []string
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			patterns = append(patterns, escape.Replace(rest))
		}
	}
	return patterns
}
