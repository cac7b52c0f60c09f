// Command record writes the unsigned statements of a promotion.
package main

import (
	"context"
	"flag"
	"os"
	"time"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/promote"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in promote.RecordInputs
	var now string
	return result.Stage{
		Name:  "record",
		Usage: "writes the unsigned statements of a promotion",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Verification, "verification", "", "the verify stage's `directory`")
			fs.StringVar(&in.From, "from", "", "the verified `image`, by digest")
			fs.StringVar(&in.To, "to", "", "where it goes: `registry/repository:tag`")
			fs.StringVar(&now, "now", "", "the `time` of the promotion, RFC 3339")
		},
		Run: func(_ context.Context, out string) (*result.Result, error) {
			var err error
			if in.Now, err = time.Parse(time.RFC3339, now); err != nil {
				return nil, result.Inputf("flag -now: %w", err)
			}
			in.Out = out
			return promote.Record(in)
		},
	}
}
