package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// calls measures what a person waits for who calls the pipeline again: with nothing changed, and after a one-line edit.
func (b *bench) calls(ctx context.Context) error {
	source, err := b.sample(ctx, "calls")
	if err != nil {
		return err
	}
	empty := b.command("dagger", "call", "--silent", "-m", filepath.Join(b.root, "ci", "e2e", "bench", "empty"), "nothing")
	pipeline := b.pipeline(source)
	b.say("warming up")
	for _, c := range []*command{empty, pipeline} {
		if _, err := c.run(ctx); err != nil {
			return err
		}
	}
	baseline, err := b.median(ctx, empty.run)
	if err != nil {
		return err
	}
	b.add(row{what: "an empty module's call", took: baseline})
	took, err := b.median(ctx, pipeline.run)
	if err != nil {
		return err
	}
	b.add(row{what: "pipeline, nothing changed", took: took, baseline: "empty call", baselineTook: baseline, aim: 4})

	hand, err := b.native(source, b.path("hand"))
	if err != nil {
		return err
	}
	if _, err := hand.run(ctx); err != nil { // fills the caches
		return err
	}
	var edited, byHand, inRow []time.Duration
	for i := range b.runs {
		if err := edit(source, strconv.Itoa(i)); err != nil {
			return err
		}
		took, err := pipeline.run(ctx)
		if err != nil {
			return err
		}
		t, err := hand.run(ctx)
		if err != nil {
			return err
		}
		edited, byHand, inRow = append(edited, took), append(byHand, t.critical()), append(inRow, t.total())
	}
	b.add(row{what: "pipeline after a one-line edit", took: median(edited), baseline: "native commands, critical path", baselineTook: median(byHand)})
	b.add(row{what: "pipeline after a one-line edit", took: median(edited), baseline: "native commands in a row", baselineTook: median(inRow)})
	return nil
}

// sample is a repository of the sample service's.
func (b *bench) sample(ctx context.Context, name string) (string, error) {
	dir := b.path(name, "sample")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(b.root, "testdata", "sample"))); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"},
		{"-c", "user.name=Slipway", "-c", "user.email=bench@slipway.dev", "commit", "-q", "-m", "Sample service"}, {"tag", "v1.0.0"}} {
		if _, err := b.command("git", append([]string{"-C", dir}, args...)...).run(ctx); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// edits is the text that an edit changes. It ends up in the binary, so that everything behind it has to run again.
var edits = []byte(`"unknown time zone `)

// edit changes one line of the sample's source to something that it never was.
func edit(source, mark string) error {
	file := filepath.Join(source, "internal", "api", "api.go")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, edits) {
		return errors.New("the sample has no line to edit")
	}
	mark += "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	return os.WriteFile(file, bytes.Replace(data, edits, append(slices.Clip(edits), (mark+" ")...), 1), 0o600)
}

// pipeline is the whole street from source to a promoted release.
func (b *bench) pipeline(source string, more ...string) *command {
	args := append([]string{"--source", source, "--registry", "tcp://" + b.registry}, more...)
	return b.dagger(append(args, "pipeline", "--publish", b.registry+"/bench/staging/sample:v1", "--promote", b.registry+"/bench/production/sample:v1",
		"--move-tag", "--key", "file:"+b.path("keys", "cosign.key"), "--password", "env:COSIGN_PASSWORD", "--database", b.database())...)
}
