package plan

import (
	"strings"

	"golang.org/x/mod/semver"
)

// Version is the release's version as the source tells it: the highest semantic version among the commit's tags, else 0.0.0-<12 digits
// of the commit>, else dev. A tree that is not exactly the commit's never gets the tag's version, and says that it is dirty.
func Version(s Source) string {
	if s.Commit == "" {
		return "dev"
	}
	version := "0.0.0-" + s.Commit[:min(12, len(s.Commit))]
	if s.Dirty {
		return version + "-dirty"
	}
	best := ""
	for _, t := range s.Tags {
		v := "v" + strings.TrimPrefix(t, "v")
		// Registries refuse the + of build metadata in a tag; and v1 is a moving tag, not a version.
		if !semver.IsValid(v) || semver.Build(v) != "" || semver.Canonical(v) != v {
			continue
		}
		if best == "" || semver.Compare(v, best) > 0 {
			best, version = v, t
		}
	}
	return version
}
