package scan

import (
	"bytes"
	"context"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// isKubernetes reports whether data holds a document with a kind and an apiVersion. JSON is YAML, too.
func isKubernetes(data []byte) bool {
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var m struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string `yaml:"kind"`
		}
		if err := dec.Decode(&m); err != nil {
			return false
		}
		if m.APIVersion != "" && m.Kind != "" {
			return true
		}
	}
}

// manifest is a Kubernetes object as Trivy's checks want it: with its lines.
type manifest struct{ value any }

// ToRego implements what Trivy's generic scanner asks of a parsed file.
func (m manifest) ToRego() any { return m.value }

// parseKubernetes stands in for Trivy's own parser, which builds only with an experimental encoding/json. Line numbers go under the same
// key, so that findings have them.
func parseKubernetes(_ context.Context, r io.Reader, path string) ([]manifest, error) {
	var out []manifest
	for dec := yaml.NewDecoder(r); ; {
		var n yaml.Node
		if err := dec.Decode(&n); isEOF(err) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || n.Content[0].Kind != yaml.MappingNode {
			continue
		}
		v, _, err := convert(n.Content[0], path, n.Content[0].Line, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, manifest{v})
	}
}

// maxDepth bounds the nesting of a manifest, aliases included.
const maxDepth = 100

// convert returns a node as plain values, and the last line that it covers.
func convert(n *yaml.Node, path string, start, depth int) (value any, end int, err error) {
	if depth > maxDepth {
		return nil, 0, &yaml.TypeError{Errors: []string{"nested too deeply"}}
	}
	end = n.Line
	switch n.Kind {
	case yaml.AliasNode:
		return convert(n.Alias, path, start, depth+1)
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, child := n.Content[i], n.Content[i+1]
			if child.Tag == "!!null" {
				continue
			}
			from := child.Line
			if child.Kind == yaml.MappingNode {
				from = key.Line
			}
			v, last, err := convert(child, path, from, depth+1)
			if err != nil {
				return nil, 0, err
			}
			m[key.Value], end = v, max(end, last)
		}
		m["__defsec_metadata"] = map[string]any{"startline": start, "endline": end, "filepath": path, "offset": 0}
		return m, end, nil
	case yaml.SequenceNode:
		var list []any
		for _, child := range n.Content {
			if child.Tag == "!!null" {
				continue
			}
			v, last, err := convert(child, path, child.Line, depth+1)
			if err != nil {
				return nil, 0, err
			}
			list, end = append(list, v), max(end, last)
		}
		return list, end, nil
	case yaml.DocumentNode, yaml.ScalarNode:
	}
	if n.Tag == "!!timestamp" || n.Tag == "!!binary" {
		return n.Value, end, nil
	}
	err = n.Decode(&value)
	return value, end + strings.Count(n.Value, "\n"), err
}
