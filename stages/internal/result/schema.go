package result

import _ "embed"

// JSONSchema is the JSON Schema of result.json.
//
//go:embed schema.json
var JSONSchema string
