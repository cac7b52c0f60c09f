package result

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type schemaNode struct {
	Type                 string                 `json:"type"`
	Const                string                 `json:"const"`
	Properties           map[string]*schemaNode `json:"properties"`
	Required             []string               `json:"required"`
	Items                *schemaNode            `json:"items"`
	AdditionalProperties *schemaNode            `json:"additionalProperties"`
	Enum                 []string               `json:"enum"`
}

func TestSchemaAgreesWithTheStruct(t *testing.T) {
	var s schemaNode
	if err := json.Unmarshal([]byte(JSONSchema), &s); err != nil {
		t.Fatal(err)
	}
	compareSchema(t, "result", &s, reflect.TypeFor[Result]())
	if s.Properties["schema"].Const != Schema {
		t.Errorf("schema is %q", s.Properties["schema"].Const)
	}
	for _, v := range s.Properties["verdict"].Enum {
		if !Verdict(v).valid() {
			t.Errorf("verdict %q is not valid", v)
		}
	}
	if n := len(s.Properties["verdict"].Enum); n != 4 {
		t.Errorf("%d verdicts", n)
	}
	var words []string
	for _, v := range severities {
		words = append(words, string(v))
	}
	if got := s.Properties["findings"].Items.Properties["severity"].Enum; !slices.Equal(got, words) {
		t.Errorf("severities %v, want %v", got, words)
	}
}

func compareSchema(t *testing.T, key string, s *schemaNode, typ reflect.Type) {
	t.Helper()
	if s == nil {
		t.Fatalf("%s: missing", key)
	}
	want := map[reflect.Kind]string{reflect.String: "string", reflect.Float64: "number", reflect.Slice: "array", reflect.Map: "object",
		reflect.Struct: "object"}[typ.Kind()]
	if s.Type != want {
		t.Errorf("%s: type %s, want %s", key, s.Type, want)
	}
	switch typ.Kind() {
	case reflect.Struct:
		var keys, required []string
		for f := range typ.Fields() {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			keys = append(keys, name)
			if option == "" {
				required = append(required, name)
			}
			compareSchema(t, key+"."+name, s.Properties[name], f.Type)
		}
		slices.Sort(keys)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, keys) {
			t.Errorf("%s: keys %v, want %v", key, got, keys)
		}
		if !slices.Equal(slices.Sorted(slices.Values(s.Required)), slices.Sorted(slices.Values(required))) {
			t.Errorf("%s: required %v, want %v", key, s.Required, required)
		}
	case reflect.Slice:
		compareSchema(t, key+"[]", s.Items, typ.Elem())
	case reflect.Map:
		compareSchema(t, key+".*", s.AdditionalProperties, typ.Elem())
	}
}
