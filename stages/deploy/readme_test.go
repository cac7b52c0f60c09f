package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/config"
)

// TestReadmeIsValid: what README.md shows of slipway.yaml is accepted.
func TestReadmeIsValid(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```")
	shown := 0
	for _, b := range blocks {
		text, ok := strings.CutPrefix(b, "yaml\n")
		if !ok {
			continue
		}
		shown++
		if _, err := config.Parse("README.md", []byte(text)); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	if shown < 3 {
		t.Errorf("README.md shows %d examples", shown)
	}
}
