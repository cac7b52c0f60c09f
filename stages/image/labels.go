package image

import (
	"maps"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/stages/plan"
)

// Labels are the OCI annotations of a component's image, with the configuration's on top. Only what the commit itself determines goes in:
// a remote's URL, say, differs between a clone and its mirror, and the digest must not.
func Labels(p *plan.Plan, c *plan.Component, version string) map[string]string {
	m := map[string]string{
		"org.opencontainers.image.title":   c.Name,
		"org.opencontainers.image.version": version,
		"org.opencontainers.image.created": time.Unix(p.Source.Epoch, 0).UTC().Format(time.RFC3339),
	}
	if p.Source.Commit != "" {
		m["org.opencontainers.image.revision"] = p.Source.Commit
	}
	if s := sourceOf(c.Module); s != "" {
		m["org.opencontainers.image.source"] = s
	}
	if p.Source.License != "" {
		m["org.opencontainers.image.licenses"] = p.Source.License
	}
	maps.Copy(m, p.Config.Build.Labels)
	return m
}

// sourceOf is the repository of a module path on the hosts where the path says it.
func sourceOf(module string) string {
	parts := strings.Split(module, "/")
	if len(parts) < 3 {
		return ""
	}
	switch parts[0] {
	case "github.com", "bitbucket.org", "codeberg.org":
		return "https://" + strings.Join(parts[:3], "/")
	}
	return ""
}
