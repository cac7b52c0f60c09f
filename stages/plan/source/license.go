package source

import (
	"os"
	"slices"

	"github.com/google/licensecheck"

	"github.com/slipwayhq/slipway/stages/plan"
)

// licenses are those that most projects have: to know all would cost each plan a second and more. The GNU ones are left out, because the
// text does not say whether later versions hold, too.
var licenses = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "EPL-2.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib", "0BSD"}

// license is the SPDX ID of the project's own licence. It is said only where the file holds one known text and next to nothing else.
func license(root *os.Root) string {
	const enough = 75 // percent of the file's words; the rest are names and headings
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"} {
		b, err := plan.NewTree(root).ReadFile(name)
		if err != nil || len(b) > 1<<20 {
			continue
		}
		known := slices.DeleteFunc(licensecheck.BuiltinLicenses(), func(l licensecheck.License) bool { return !slices.Contains(licenses, l.ID) })
		scanner, err := licensecheck.NewScanner(known)
		if err != nil {
			return ""
		}
		if found := scanner.Scan(b); len(found.Match) == 1 && found.Percent >= enough {
			return found.Match[0].ID
		}
		return ""
	}
	return ""
}
