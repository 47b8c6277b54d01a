package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func exampleNode() NodeDoc {
	return NodeDoc{
		RunID:      "20261121-004235-3f9a",
		Datastores: map[string]string{"PRIMARY_DATABASE_URL": `postgres://"x"`, "READONLY_API_URL": "http://api/<v1>&x", "EMPTY": ""},
		Services: []NodeService{
			{ID: "lb", RunList: nil, Environment: nil},
			{ID: "app-www", RunList: []string{"nginx::default", "php::fpm", "nginx::default"}, Environment: []Var{{"PORT", "8080"}, {"ENV", "production"}}},
			{ID: "api", RunList: []string{"base", "nginx::default"}, Environment: []Var{{"GREETING", "grüße\nzwei"}}, Extra: map[string][]byte{
				"data_bag": []byte(`"service"`), "chef_type": []byte("\"data_bag_item\""), "tuning": []byte("{\n  \"workers\": 1e2,\n  \"list\": [1, null]\n}"),
			}},
		},
	}
}

func TestNodeJSONGolden(t *testing.T) {
	d := exampleNode()
	b, err := NodeJSON(d)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "node.json", b)
	slices.Reverse(d.Services)
	if again, _ := NodeJSON(d); !bytes.Equal(b, again) {
		t.Error("the order of the services changes the file")
	}
}

func TestNodeJSONReadsBack(t *testing.T) {
	type document struct {
		RunList       []string `json:"run_list"`
		Configuration struct {
			Datastores map[string]string `json:"datastores"`
		} `json:"configuration"`
		Listener struct {
			RunID    string                    `json:"run_id"`
			Services map[string]map[string]any `json:"services"`
		} `json:"listener"`
	}
	decode := func(d NodeDoc) document {
		b, err := NodeJSON(d)
		if err != nil {
			t.Fatal(err)
		}
		var doc document
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		if doc.RunList == nil || doc.Configuration.Datastores == nil || doc.Listener.Services == nil {
			t.Errorf("null where a list or an object belongs: %s", b)
		}
		return doc
	}
	decode(NodeDoc{})

	d := exampleNode()
	doc := decode(d)
	if diff := cmp.Diff([]string{"base", "nginx::default", "php::fpm"}, doc.RunList); diff != "" {
		t.Errorf("run list: %s", diff)
	}
	if diff := cmp.Diff(d.Datastores, doc.Configuration.Datastores); diff != "" {
		t.Errorf("datastores: %s", diff)
	}
	if doc.Listener.RunID != d.RunID {
		t.Errorf("run id %q", doc.Listener.RunID)
	}
	want := map[string]map[string]any{
		"lb":      {"environment": map[string]any{}},
		"app-www": {"environment": map[string]any{"PORT": "8080", "ENV": "production"}},
		"api": {
			"environment": map[string]any{"GREETING": "grüße\nzwei"}, "data_bag": "service", "chef_type": "data_bag_item",
			"tuning": map[string]any{"workers": 100.0, "list": []any{1.0, nil}},
		},
	}
	if diff := cmp.Diff(want, doc.Listener.Services); diff != "" {
		t.Errorf("services: %s", diff)
	}
}

func TestNodeJSONRefuses(t *testing.T) {
	for want, d := range map[string]NodeDoc{
		"service api is given twice":                    {Services: []NodeService{{ID: "api"}, {ID: "lb"}, {ID: "api"}}},
		"datastore A_URL: not UTF-8":                    {Datastores: map[string]string{"A_URL": "secret\xff"}},
		"service api: variable B: not UTF-8":            {Services: []NodeService{{ID: "api", Environment: []Var{{"B", "secret\xff"}}}}},
		`service api: variable "B": is given twice`:     {Services: []NodeService{{ID: "api", Environment: []Var{{"B", "x"}, {"B", "x"}}}}},
		`service api: variable "B": the value contains`: {Services: []NodeService{{ID: "api", Environment: []Var{{"B", "secret\x00"}}}}},
		`service api: member "x": not JSON`:             {Services: []NodeService{{ID: "api", Extra: map[string][]byte{"x": []byte(`{"a": secret`)}}}},
		`service lb: member "x": not JSON`:              {Services: []NodeService{{ID: "lb", Extra: map[string][]byte{"x": nil}}}},
		`service api: member "environment": the name`:   {Services: []NodeService{{ID: "api", Extra: map[string][]byte{"environment": []byte("{}")}}}},
		"run list item: not UTF-8":                      {Services: []NodeService{{ID: "api", RunList: []string{"\xff"}}}},
	} {
		b, err := NodeJSON(d)
		if err == nil || !strings.HasPrefix(err.Error(), "render node.json: "+want) || b != nil {
			t.Errorf("%v, want %s", err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the value: %v", err)
		}
	}
}

func TestNodeJSONLeavesExtraAlone(t *testing.T) {
	raw := []byte("{ \"a\" : 1 }")
	d := NodeDoc{Services: []NodeService{{ID: "api", Extra: map[string][]byte{"x": raw}}}}
	if _, err := NodeJSON(d); err != nil || string(raw) != "{ \"a\" : 1 }" {
		t.Errorf("%v, %s", err, raw)
	}
}

func BenchmarkNodeJSON1000(b *testing.B) {
	d := NodeDoc{RunID: "r", Datastores: map[string]string{}}
	for i := range 1000 {
		s := NodeService{ID: fmt.Sprintf("service-%04d", i), RunList: []string{"base", fmt.Sprintf("r%d", i)}}
		for j := range 5 {
			name := fmt.Sprintf("KEY_%d_%d", i, j)
			d.Datastores[name] = "http://10.0.0.5:8080/some-mount"
			s.Environment = append(s.Environment, Var{name, d.Datastores[name]})
		}
		s.Extra = map[string][]byte{"chef_type": []byte(`"data_bag_item"`)}
		d.Services = append(d.Services, s)
	}
	for b.Loop() {
		if _, err := NodeJSON(d); err != nil {
			b.Fatal(err)
		}
	}
}
