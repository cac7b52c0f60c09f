package config

import _ "embed"

// Schema is the JSON Schema of slipway.yaml, for editors.
//
//go:embed schema.json
var Schema string
