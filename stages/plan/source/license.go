package source

import (
	"os"

	"github.com/google/licensecheck"

	"github.com/slipwayhq/slipway/stages/plan"
)

// license is the SPDX ID of the project's own licence. It is said only where the file holds one known text and next to nothing else.
func license(root *os.Root) string {
	const enough = 75 // percent of the file's words; the rest are names and headings
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"} {
		b, err := plan.NewTree(root).ReadFile(name)
		if err != nil || len(b) > 1<<20 {
			continue
		}
		found := licensecheck.Scan(b)
		if len(found.Match) == 1 && found.Percent >= enough {
			return found.Match[0].ID
		}
		return ""
	}
	return ""
}
