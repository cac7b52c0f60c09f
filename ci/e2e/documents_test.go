//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cycloneDXValidator is the format's own JSON schema, strictly, through the library of its makers.
const cycloneDXValidator = `
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
error = JsonStrictValidator(SchemaVersion.from_version(json.loads(text)["specVersion"])).validate_str(text)
sys.exit(str(error) if error else 0)
`

// validators are the formats' own, each a command that fails on a file that is not valid.
func validators() map[string][]string {
	interpreter := filepath.Join(shared.python, "bin", "python")
	return map[string][]string{
		"spdx": {interpreter, "-m", "spdx_tools.spdx.clitools.pyspdxtools", "--infile"},
		"cdx":  {interpreter, "-c", cycloneDXValidator},
	}
}

// validate lets the formats' own validators judge two documents; an empty name stands for none.
func validate(t *testing.T, spdx, cdx string) {
	t.Helper()
	for format, file := range map[string]string{"spdx": spdx, "cdx": cdx} {
		v := validators()[format]
		if out := command(t, 10*time.Minute, v[0], append(v[1:], file)...); out.code != 0 {
			t.Errorf("%s: not valid\n%s\n%s", file, out.stdout, out.stderr)
		}
	}
}

// TestValidators makes sure that the validators are no rubber stamps.
func TestValidators(t *testing.T) {
	for format, broken := range map[string]string{
		"spdx": `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"x","dataLicense":"MIT","documentNamespace":"https://example.com/x",
			"creationInfo":{"created":"2026-01-01T00:00:00Z","creators":["Tool: x"]}}`,
		"cdx": `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{"type":"program","name":"x"}]}`,
	} {
		t.Run(format, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "broken."+format+".json")
			if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
			v := validators()[format]
			out := command(t, time.Minute, v[0], append(v[1:], file)...)
			if out.code == 0 || strings.Contains(out.stderr, "ModuleNotFoundError") {
				t.Errorf("exit code %d for a broken document\n%s\n%s", out.code, out.stdout, out.stderr)
			}
		})
	}
}
