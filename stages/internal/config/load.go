package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"gopkg.in/yaml.v3"

	"github.com/slipwayhq/slipway/stages/internal/result"
)

// MaxSize is how large slipway.yaml may be, in bytes.
const MaxSize = 1 << 20

// Load reads the configuration at path over the defaults. A file that cannot be read keeps its cause (errors.Is with fs.ErrNotExist
// holds); what is wrong inside it is an Error, or several joined, marked as input.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, result.Input(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Config{}, result.Inputf("reading %s: %w", path, err)
	}
	return Parse(path, data)
}

// Parse decodes data over the defaults and validates the outcome. The name stands in messages for the file. Empty data is the default
// configuration.
func Parse(name string, data []byte) (Config, error) {
	if len(data) > MaxSize {
		return Config{}, result.Inputf("%s: larger than %d bytes: keep data out of the configuration", name, MaxSize)
	}
	root, err := document(name, data)
	if err != nil {
		return Config{}, result.Input(err)
	}
	cfg := Default()
	if root == nil {
		return cfg, nil
	}
	c := &checker{file: name, positions: map[string]position{}}
	c.node(root, configType, "")
	if err := c.err(); err != nil {
		return Config{}, result.Input(err)
	}
	if err := root.Decode(&cfg); err != nil {
		return Config{}, result.Inputf("%s: %w", name, err)
	}
	for i := range cfg.Scan.Exceptions {
		cfg.Scan.Exceptions[i].Line = c.positions[index("scan.exceptions", i)].line
	}
	c.validate(&cfg)
	if err := c.err(); err != nil {
		return Config{}, result.Input(err)
	}
	return cfg, nil
}

// document returns the one document's root, or nil when data holds none.
func document(name string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return nil, &Error{File: name, Line: second.Line, Column: second.Column, Message: "a second document: keep one"}
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}
