package main

import (
	"context"
	"strconv"
	"time"
)

// cold measures a project's first pipeline, with Slipway's own programs compiled and the project's caches empty, against the native
// commands with empty caches.
func (b *bench) cold(ctx context.Context) error {
	toolbox := b.registry + "/slipway/toolbox:bench"
	if _, err := b.dagger("toolbox", "publish", "--address", toolbox).run(ctx); err != nil {
		return err
	}
	source, err := b.sample(ctx, "cold")
	if err != nil {
		return err
	}
	if err := edit(source, "cold"); err != nil { // nothing of it was seen before
		return err
	}
	namespace := "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	took, err := b.pipeline(source, "--toolbox", toolbox, "--cache-namespace", namespace).run(ctx)
	if err != nil {
		return err
	}
	hand, err := b.native(source, b.path("by-hand"))
	if err != nil {
		return err
	}
	t, err := hand.run(ctx)
	if err != nil {
		return err
	}
	b.say("native commands: %s", t)
	b.add(row{what: "pipeline, cold, toolbox built", took: took, baseline: "native commands, critical path", baselineTook: t.critical(), aim: 1.3})
	b.add(row{what: "pipeline, cold, toolbox built", took: took, baseline: "native commands in a row", baselineTook: t.total()})
	return nil
}
