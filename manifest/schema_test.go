package manifest

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaAgreesWithParse(t *testing.T) {
	s := compileSchema(t)
	for _, c := range slices.Concat(goodCases, badCases) {
		t.Run(c.name, func(t *testing.T) {
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(c.in))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Validate(doc)
			if want := c.want == "" || c.beyond; (err == nil) != want {
				t.Errorf("schema accepts: %v, want %v: %v", err == nil, want, err)
			}
		})
	}
}

type schemaDoc struct {
	Title      string
	Properties map[string]schemaDoc
	Defs       struct {
		Variable struct{ Not struct{ Enum []string } }
	} `json:"$defs"`
}

func TestSchemaHasTheSameMembers(t *testing.T) {
	var doc schemaDoc
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, level := range []struct {
		fields     []field
		properties map[string]schemaDoc
	}{{fields, doc.Properties}, {checkFields, doc.Properties["check"].Properties}} {
		var names []string
		for _, f := range level.fields {
			names = append(names, f.name)
		}
		slices.Sort(names)
		if diff := cmp.Diff(names, slices.Sorted(maps.Keys(level.properties))); diff != "" {
			t.Errorf("-parser +schema\n%s", diff)
		}
		for name, p := range level.properties {
			if p.Title == "" {
				t.Errorf("%s has no title for editors", name)
			}
		}
	}
	if diff := cmp.Diff(stepVariables, doc.Defs.Variable.Not.Enum); diff != "" {
		t.Errorf("variables of a step: -parser +schema\n%s", diff)
	}
}

func TestSchemaIsACopy(t *testing.T) {
	Schema()[0] = 'x'
	if Schema()[0] != '{' {
		t.Error("a caller changed the schema")
	}
}
