package lint

import (
	"path/filepath"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/sarif"
)

// SARIFName is the findings in the format of code scanning services.
const SARIFName = "lint.sarif"

// WriteSARIF writes the findings of r.
func WriteSARIF(path string, r *result.Result) error {
	return sarif.Write(filepath.Clean(path), "slipway-lint", r.Findings)
}
