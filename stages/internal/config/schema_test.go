package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/slipwayhq/slipway/stages/internal/statement"
)

type schemaNode struct {
	Type                 any                    `json:"type"`
	Description          string                 `json:"description"`
	Pattern              string                 `json:"pattern"`
	Properties           map[string]*schemaNode `json:"properties"`
	Items                *schemaNode            `json:"items"`
	AdditionalProperties json.RawMessage        `json:"additionalProperties"`
	Enum                 []string               `json:"enum"`
	Default              any                    `json:"default"`
}

// The schema is kept by hand for its descriptions; here it must have the struct's keys, types, words and defaults.
func TestSchemaAgreesWithTheStruct(t *testing.T) {
	var s schemaNode
	if err := json.Unmarshal([]byte(Schema), &s); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, "", &s, configType)

	for key, want := range map[string][]string{"lint.tools": lintTools, "test.race": raceModes, "scan.severity": scanLevels, "deploy.strategy": strategies} {
		n := at(&s, key)
		if n.Items != nil {
			n = n.Items
		}
		if !slices.Equal(n.Enum, want) {
			t.Errorf("%s: enum %v, want %v", key, n.Enum, want)
		}
	}
	names := strings.Join(statement.KindNames(), "|")
	if got, want := at(&s, "verify.require").Items.Pattern, "^("+names+"|"+statement.ReportPrefix+"[a-z][a-z0-9-]{0,62}|.*://.*)$"; got != want {
		t.Errorf("verify.require: pattern %q, want %q", got, want)
	}
	b, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var def map[string]map[string]any
	if err := json.Unmarshal(b, &def); err != nil {
		t.Fatal(err)
	}
	for section, values := range def {
		for key, v := range values {
			n := at(&s, section+"."+key)
			if n.Default == nil && reflect.ValueOf(v).IsZero() || n.Type == "object" || v == "0s" {
				continue
			}
			if !reflect.DeepEqual(n.Default, v) {
				t.Errorf("%s.%s: default %v in the schema, %v in the code", section, key, n.Default, v)
			}
		}
	}
}

func at(s *schemaNode, key string) *schemaNode {
	for _, k := range splitKey(key) {
		s = s.Properties[k]
	}
	return s
}

func splitKey(key string) []string {
	for i := range key {
		if key[i] == '.' {
			return []string{key[:i], key[i+1:]}
		}
	}
	return []string{key}
}

func compareSchema(t *testing.T, key string, s *schemaNode, typ reflect.Type) {
	t.Helper()
	if key != "" && s.Description == "" && s.Properties != nil {
		t.Errorf("%s: no description", key)
	}
	want := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Float64: "number",
		reflect.Slice: "array", reflect.Map: "object", reflect.Struct: "object"}[typ.Kind()]
	if typ == durationType || typ == dateType {
		want = "string"
	}
	if types, ok := s.Type.([]any); ok {
		if !slices.Contains(types, any(want)) {
			t.Errorf("%s: type %v, want %s among them", key, s.Type, want)
		}
	} else if s.Type != want {
		t.Errorf("%s: type %v, want %s", key, s.Type, want)
	}
	switch {
	case typ == dateType:
	case typ.Kind() == reflect.Struct:
		fields := fieldsOf(typ)
		if a, b := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(a, b) {
			t.Errorf("%s: keys\n%v in the code\n%v in the schema", key, a, b)
			return
		}
		if string(s.AdditionalProperties) != "false" {
			t.Errorf("%s: unknown keys are accepted", key)
		}
		for name, ft := range fields {
			compareSchema(t, join(key, name), s.Properties[name], ft)
		}
	case typ.Kind() == reflect.Slice:
		compareSchema(t, index(key, 0), s.Items, typ.Elem())
	case typ.Kind() == reflect.Map:
		var item schemaNode
		if err := json.Unmarshal(s.AdditionalProperties, &item); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		compareSchema(t, join(key, "*"), &item, typ.Elem())
	}
}
