package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Error is one thing that is wrong in the configuration, and where.
type Error struct {
	File         string
	Line, Column int
	// Key is the dotted path of the value, such as scan.exceptions[0].expires; empty for the whole file.
	Key     string
	Message string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Key != "" {
		s += e.Key + ": "
	}
	return s + e.Message
}

// maxErrors bounds what one broken file can print.
const maxErrors = 20

type position struct{ line, column int }

// checker walks the document beside the Go types, so that every complaint has a line, a column and a way out, and all of them come at
// once.
type checker struct {
	file      string
	positions map[string]position
	errs      []error
	more      int
}

var (
	configType   = reflect.TypeFor[Config]()
	durationType = reflect.TypeFor[Duration]()
	dateType     = reflect.TypeFor[Date]()
)

func (c *checker) errorf(n *yaml.Node, key, format string, args ...any) {
	c.add(position{n.Line, n.Column}, key, fmt.Sprintf(format, args...))
}

func (c *checker) add(p position, key, message string) {
	if len(c.errs) == maxErrors {
		c.more++
		return
	}
	c.errs = append(c.errs, &Error{File: c.file, Line: p.line, Column: p.column, Key: key, Message: message})
}

func (c *checker) err() error {
	if c.more > 0 {
		return errors.Join(append(slices.Clone(c.errs), fmt.Errorf("and %d more", c.more))...)
	}
	return errors.Join(c.errs...)
}

// node checks n against t and remembers where the value of key stands.
func (c *checker) node(n *yaml.Node, t reflect.Type, key string) {
	c.positions[key] = position{n.Line, n.Column}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		c.errorf(n, key, "anchors and aliases are not supported: write the value out")
		return
	}
	switch {
	case t == durationType:
		c.text(n, key, func(s string) error { _, err := ParseDuration(s); return err })
	case t == dateType:
		c.text(n, key, func(s string) error { _, err := ParseDate(s); return err })
	case t.Kind() == reflect.Struct:
		c.object(n, t, key)
	case t.Kind() == reflect.Map:
		c.pairs(n, key, func(k, v *yaml.Node) { c.node(v, t.Elem(), join(key, k.Value)) })
	case t.Kind() == reflect.Slice:
		c.list(n, t, key)
	default:
		c.scalar(n, t, key)
	}
}

func (c *checker) object(n *yaml.Node, t reflect.Type, key string) {
	fields := fieldsOf(t)
	c.pairs(n, key, func(k, v *yaml.Node) {
		ft, ok := fields[k.Value]
		if !ok {
			c.errorf(k, join(key, k.Value), "unknown key: %s", suggest(k.Value, slices.Sorted(maps.Keys(fields))))
			return
		}
		c.node(v, ft, join(key, k.Value))
	})
}

// pairs calls f for each key and value of a mapping, after refusing merges, keys that are no text, and duplicates.
func (c *checker) pairs(n *yaml.Node, key string, f func(k, v *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		c.errorf(n, key, "must be a mapping of keys to values, not %s", kindOf(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind == yaml.AliasNode || k.Anchor != "" || k.Tag == "!!merge":
			c.errorf(k, key, "anchors, aliases and merges are not supported: write the value out")
			continue
		case k.Kind != yaml.ScalarNode || isNull(k) || k.Value == "":
			c.errorf(k, key, "a key must be text, not %s", kindOf(k))
			continue
		case seen[k.Value] > 0:
			c.errorf(k, join(key, k.Value), "duplicate key: it stands in line %d already", seen[k.Value])
			continue
		}
		seen[k.Value] = k.Line
		f(k, v)
	}
}

func (c *checker) list(n *yaml.Node, t reflect.Type, key string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf(": write [%s]", short(n.Value))
		}
		c.errorf(n, key, "must be a list, not %s%s", kindOf(n), hint)
		return
	}
	for i, e := range n.Content {
		c.node(e, t.Elem(), index(key, i))
	}
}

func (c *checker) scalar(n *yaml.Node, t reflect.Type, key string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		c.errorf(n, key, "must be %s, not %s", wanted(t), kindOf(n))
		return
	}
	ok := false
	switch t.Kind() {
	case reflect.String:
		// Numbers are fine as text (user: 65532); the YAML package keeps their spelling.
		ok = n.Tag == "!!str" || n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!timestamp"
		if n.Tag == "!!bool" {
			c.errorf(n, key, "must be text, not %s: put it in quotes if it is meant", n.Value)
			return
		}
	case reflect.Bool:
		ok = n.Tag == "!!bool"
	case reflect.Int:
		_, err := strconv.Atoi(n.Value)
		ok = n.Tag == "!!int" && err == nil
	case reflect.Float64:
		var f float64
		ok = (n.Tag == "!!int" || n.Tag == "!!float") && n.Decode(&f) == nil
	}
	if !ok {
		c.errorf(n, key, "must be %s, not %q", wanted(t), short(n.Value))
	}
}

func (c *checker) text(n *yaml.Node, key string, parse func(string) error) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		c.errorf(n, key, "must be a single value, not %s", kindOf(n))
		return
	}
	if err := parse(n.Value); err != nil {
		c.errorf(n, key, "%v", err)
	}
}

// fieldsOf maps the YAML keys of a struct to their types.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			m[name] = f.Type
		}
	}
	return m
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if isNull(n) {
		return "empty"
	}
	return strconv.Quote(short(n.Value))
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "text"
}

func short(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return s
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
