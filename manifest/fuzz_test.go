package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// FuzzParse: no input stops Parse; what it refuses has a place and advice,
// what it accepts is accepted by the schema and stays the same when it is
// written and read again.
func FuzzParse(f *testing.F) {
	for _, c := range slices.Concat(goodCases, syntaxCases, badCases) {
		f.Add([]byte(c.in))
	}
	s := compileSchema(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Parse("app-www.json", in)
		if err != nil {
			refusedWell(t, in, err)
			return
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(in))
		if err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if err := s.Validate(doc); err != nil {
			t.Fatalf("Parse accepts what the schema refuses: %v", err)
		}
		out := encode(t, m)
		again, err := Parse("app-www.json", out)
		if err != nil {
			t.Fatalf("%s\nbecame %s\nwhich is wrong: %v", in, out, err)
		}
		same(t, m, again)
	})
}

func refusedWell(t *testing.T, in []byte, err error) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("%T %v", err, err)
	}
	lines := 1 + bytes.Count(in, []byte("\n"))
	for _, e := range errs {
		if e.Text == "" || e.File != "app-www.json" || e.Line > lines || (e.Line > 0) != (e.Column > 0) {
			t.Errorf("%d lines, %+v", lines, e)
		}
	}
}

// same compares without notes, which depend on the order of members, and with
// others' members as JSON.
func same(t *testing.T, a, b *Manifest) {
	t.Helper()
	plain := func(m *Manifest) Manifest {
		c := *m
		c.Notes, c.Extra = nil, map[string][]byte{}
		for name, raw := range m.Extra {
			var buf bytes.Buffer
			if err := json.Compact(&buf, raw); err != nil {
				t.Fatal(err)
			}
			c.Extra[name] = buf.Bytes()
		}
		return c
	}
	if diff := cmp.Diff(plain(a), plain(b)); diff != "" {
		t.Fatalf("-first +again\n%s", diff)
	}
}

// encode writes a manifest as somebody could have typed it.
func encode(t *testing.T, m *Manifest) []byte {
	t.Helper()
	doc := map[string]any{"id": m.ID, "priority": m.Priority, "weight": m.Weight, "public": m.Public, "balance": m.Balance}
	for name, raw := range m.Extra {
		doc[name] = json.RawMessage(raw)
	}
	put := func(name string, v any, there bool) {
		if there {
			doc[name] = v
		}
	}
	command := any(m.Command.Node)
	if m.Command.Own() {
		command = m.Command.Argv
	}
	put("command", command, true)
	put("run_list", m.RunList, m.RunList != nil)
	put("environment", m.Environment, m.Environment != nil)
	put("requires", texts(m.Requires), m.Requires != nil)
	put("provides", texts(m.Provides), m.Provides != nil)
	put("local_port", m.LocalPort, m.LocalPort > 0)
	put("hosts", m.Hosts, m.Hosts != nil)
	put("federation", m.Federation, m.Federation != "")
	put("exclusive", m.Exclusive, m.Exclusive != nil)
	put("binding", "relaxed", m.Relaxed)
	put("user", m.User, m.User != "")
	put("group", m.Group, m.Group != "")
	if m.Check != nil {
		put("check", check(m.Check), true)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func texts(templates map[string]Template) map[string]string {
	texts := map[string]string{}
	for name, t := range templates {
		texts[name] = t.Text
	}
	return texts
}

func check(c *Check) map[string]any {
	switch {
	case c.HTTP != nil:
		return map[string]any{"http": c.HTTP.Text}
	case c.TCP != nil:
		return map[string]any{"tcp": c.TCP.Text}
	}
	var argv []string
	for _, t := range c.Exec {
		argv = append(argv, t.Text)
	}
	return map[string]any{"exec": argv}
}

// The seeds above must reach both sides of FuzzParse.
func TestEncode(t *testing.T) {
	for _, c := range goodCases {
		m, err := Parse("app-www.json", []byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("app-www.json", encode(t, m))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		same(t, m, again)
		if strings.Contains(c.in, `"check"`) != (again.Check != nil) {
			t.Errorf("%s: check %v", c.name, again.Check)
		}
	}
}
