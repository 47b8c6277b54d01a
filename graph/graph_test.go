package graph

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/status"
)

func parse(t *testing.T, text string) *manifest.Manifest {
	t.Helper()
	id, _, _ := strings.Cut(strings.SplitN(text, `"id": "`, 2)[1], `"`)
	m, err := manifest.Parse(id+".json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func entry(key, region, node, service, state string) status.Provider {
	return status.Provider{Key: key, Region: region, Node: node, Service: service, State: state}
}

// world has one of everything that a graph can show.
func world(t *testing.T) Input {
	return Input{
		Node: "web1", Region: "eu", Federation: "shop", RegionOrder: []string{"us"},
		Manifests: []*manifest.Manifest{
			parse(t, `{"id": "www", "requires": {"A": "{API_URL}", "D": "{DB_URL}", "L": "{LEVEL:-info}", "N": "{NOWHERE}", "O": "{other/API_URL}", "F": "{FAR}"}, "provides": {"WWW_URL": "http://x"}}`),
			parse(t, `{"id": "a", "requires": {"B": "{B_URL}"}, "provides": {"A_URL": "x"}}`),
			parse(t, `{"id": "b", "requires": {"A": "{A_URL}"}, "provides": {"B_URL": "x"}}`),
			parse(t, `{"id": "c", "requires": {"A": "{E_URL?}"}, "provides": {"C_URL": "x"}}`),
			parse(t, `{"id": "e", "requires": {"C": "{C_URL}"}, "provides": {"E_URL": "x"}}`),
		},
		Attribute: func(key string) bool { return key == "DB_URL" },
		Fleet: &status.Fleet{
			Values: []status.FleetValue{{Key: "API_URL", Revision: 9}, {Key: "DOWN", Region: "asia", Revision: 3}, {Key: "CAME", Region: "us"}, {Key: "FAR", Region: "us"}},
			Providers: []status.Provider{
				entry("API_URL", "eu", "api1", "api", "up"), entry("API_URL", "us", "api2", "api", "up"),
				entry("API_URL", "eu", "api3", "other", "down"), entry("FAR", "asia", "far1", "far", "up"),
				{Key: "API_URL", Region: "eu", Error: "no provider"},
				{Key: "API_URL", Region: "eu", Node: "bad", Service: "api", Error: "no entry"},
			},
			Nodes: []status.Node{
				{Node: "web1", Region: "eu", State: "up", Waiting: []string{"NOWHERE"}},
				{Node: "api1", Region: "eu", State: "draining"},
				{Node: "us1", Region: "us", State: "up", Waiting: []string{"CAME", "DOWN", "HOST", "and 3 more"}},
			},
		},
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := New(world(t)).Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `us1 waits for CAME, which came a moment ago
us1 waits for DOWN: MISSING
web1/a requires B_URL from web1/b (manifest)
web1/b requires A_URL from web1/a (manifest)
web1/c requires E_URL (optional) from web1/e (manifest)
web1/e requires C_URL from web1/c (manifest)
web1/www requires API_URL from value, api1/api (up), api2/api (up), api3/other (down), bad/api (bad)
web1/www requires other/API_URL: MISSING; api3/other is down
web1/www requires DB_URL from attributes
web1/www requires FAR: MISSING; far1/far is up in region asia
web1/www requires LEVEL, optional, which nothing has
web1/www requires NOWHERE: MISSING
web1/www provides WWW_URL (manifest)
CYCLE web1/a → B_URL → web1/b → A_URL → web1/a: nothing lets it start
CYCLE web1/c → E_URL → web1/e → C_URL → web1/c (it starts, as web1/c does without E_URL)
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if err := New(Input{Node: "x"}).Text(&b); err != nil || b.String() != "nothing is required or provided\n" {
		t.Errorf("an empty graph is %q, %v", b.String(), err)
	}
}

func TestCheck(t *testing.T) {
	var got []string
	for _, f := range Check(world(t)) {
		if f.Federation != "shop" || f.Hint == "" {
			t.Errorf("%+v", f)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s: %s", f.Region, f.Severity, f.Kind, f.Key, f.Text))
	}
	want := []string{
		"eu error missing FAR: nothing provides it; far1/far is up in region asia; required by web1/www",
		"eu error missing NOWHERE: nothing provides it; required by web1/www",
		"eu error missing other/API_URL: nothing provides it; api3/other is down; required by web1/www",
		"eu error cycle : services require each other: web1/a → B_URL → web1/b → A_URL → web1/a",
		"eu warning shadowed API_URL: the value at revision 9 hides 1 that are up: api1/api",
		"eu warning cycle : services require each other: web1/c → E_URL → web1/e → C_URL → web1/c",
		"us error missing DOWN: nothing provides it; required by us1",
		"us warning shadowed API_URL: the value at revision 9 hides 1 that are up: api2/api",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What lets a circle start, or not.
func TestCycleBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Input)
		want   string
	}{
		"nothing":        {func(*Input) {}, ""},
		"a value":        {func(in *Input) { in.Fleet.Values = []status.FleetValue{{Key: "B_URL"}} }, "B_URL has a value"},
		"another region": {func(in *Input) { in.Fleet.Values = []status.FleetValue{{Key: "B_URL", Region: "us"}} }, ""},
		"attributes":     {func(in *Input) { in.Attribute = func(key string) bool { return key == "A_URL" } }, "A_URL has the attributes"},
		"another provider": {func(in *Input) {
			in.Fleet.Providers = []status.Provider{entry("A_URL", "eu", "n", "s", "up")}
		}, "A_URL has n/s"},
		"one of its own": {func(in *Input) {
			in.Fleet.Providers = []status.Provider{entry("A_URL", "eu", "web1", "a", "up")}
		}, ""},
	} {
		in := world(t)
		in.Fleet.Values, in.Attribute = nil, nil
		tc.change(&in)
		if got := New(in).Cycles[0].Broken; got != tc.want {
			t.Errorf("%s: broken by %q, want %q", name, got, tc.want)
		}
	}
}

// hostile are names that a picture must not be drawn by.
var hostile = []string{
	`"]; evil [label="x`, `a\`, `\N\G`, "a\nb", "<b>&amp;</b>", "]--x-->[", "`x`", "#quot;", "--", "%%{init}%%",
	"end", "\x00\xff\u202e", "日本", strings.Repeat("long", 500), "click x href \"javascript:alert(1)\"",
}

func hostileWorld(t *testing.T) Input {
	in := world(t)
	for _, name := range hostile {
		in.Fleet.Providers = append(in.Fleet.Providers, entry("API_URL", name, name, name, "up"))
		in.Fleet.Nodes = append(in.Fleet.Nodes, status.Node{Node: name, Region: name, State: name, Waiting: []string{"API_URL"}})
	}
	return in
}

// Graphviz takes what DOT writes, and finds as many nodes and edges as there are.
func TestDOT(t *testing.T) {
	dot, err := exec.LookPath("dot")
	if err != nil {
		t.Log("there is no dot (package graphviz): only this test's own reader looks at it")
	}
	for name, in := range map[string]Input{"world": world(t), "hostile": hostileWorld(t), "empty": {Node: "x"}} {
		g := New(in)
		var b strings.Builder
		if err := g.DOT(&b); err != nil {
			t.Fatal(err)
		}
		if err := readDOT(b.String()); err != nil {
			t.Errorf("%s: %v in\n%s", name, err, b.String())
		}
		edges := len(g.Requires) + len(g.Provides)
		for _, k := range g.Keys {
			edges += len(k.sources())
		}
		if dot == "" {
			continue
		}
		cmd := exec.Command(dot, "-Tplain")
		cmd.Stdin = strings.NewReader(b.String())
		out, err := cmd.CombinedOutput()
		if got := strings.Count(string(out), "\nedge "); err != nil || got != edges {
			t.Errorf("%s: %v: %d edges, want %d\n%.500s\n%s", name, err, got, edges, out, b.String())
		}
	}
}

// readDOT is a strict reader of the statements that DOT writes.
func readDOT(text string) error {
	depth := 0
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words, err := dotWords(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		switch s := strings.Join(words, " "); {
		case s == "}":
			depth--
		case s == "digraph Q {" && n == 0, s == "subgraph Q {" && depth == 1:
			depth++
		case depth == 0:
			return fmt.Errorf("line %d: %s is outside", n+1, s)
		case s == "rankdir = LR ;", s == "label = Q ;", strings.HasPrefix(s, "node [ ") && strings.HasSuffix(s, " ] ;"):
		case s == "Q -> Q ;", strings.HasPrefix(s, "Q -> Q [ ") && strings.HasSuffix(s, " ] ;"):
		case strings.HasPrefix(s, "Q [ ") && strings.HasSuffix(s, " ] ;"):
		default:
			return fmt.Errorf("line %d: %s is no statement", n+1, s)
		}
	}
	if depth != 0 {
		return errors.New("braces do not match")
	}
	return nil
}

// dotWords takes a line apart; a quoted text is Q.
func dotWords(line string) (words []string, err error) {
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		switch c := line[0]; {
		case c == '"':
			end := 1
			for ; end < len(line) && line[end] != '"'; end++ {
				if line[end] == '\\' {
					end++
				}
			}
			if end >= len(line) {
				return nil, errors.New("a quote is not closed")
			}
			words, line = append(words, "Q"), line[end+1:]
		case strings.ContainsRune("{}[];=,", rune(c)):
			words, line = append(words, line[:1]), line[1:]
		case strings.HasPrefix(line, "->"):
			words, line = append(words, "->"), line[2:]
		default:
			n := strings.IndexFunc(line, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
			if n <= 0 {
				return nil, fmt.Errorf("%q is nothing", line)
			}
			words, line = append(words, line[:n]), line[n:]
		}
	}
	return words, nil
}

// Every line of Mermaid is one of ours: names stand between quotes, and no
// quote, bracket or line of theirs does.
func TestMermaid(t *testing.T) {
	for name, in := range map[string]Input{"world": world(t), "hostile": hostileWorld(t)} {
		g := New(in)
		var b strings.Builder
		if err := g.Mermaid(&b); err != nil {
			t.Fatal(err)
		}
		edges := 0
		for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
			parts := strings.Split(line, `"`)
			if len(parts)%2 == 0 {
				t.Fatalf("%s, line %d: quotes do not match: %s", name, i+1, line)
			}
			shape := ""
			for j, p := range parts {
				if j%2 == 0 {
					shape += p
				} else if strings.ContainsAny(p, "<>&`\\\n\x00") {
					t.Errorf("%s, line %d: %q is not escaped", name, i+1, p)
				}
			}
			words := strings.Fields(shape)
			switch {
			case i == 0 && shape == "flowchart LR", shape == "  end", words[0] == "subgraph", words[0] == "style":
			case len(words) == 3 && strings.Contains(words[1], "->"):
				edges++
			case words[0] == "linkStyle":
				if words[1] != fmt.Sprint(edges-1) {
					t.Errorf("%s, line %d: it is of edge %s, after edge %d", name, i+1, words[1], edges-1)
				}
			case len(words) == 1 && strings.HasPrefix(words[0], "n"):
			default:
				t.Errorf("%s, line %d is no statement: %s", name, i+1, line)
			}
		}
		if !strings.Contains(b.String(), "stroke:red,color:red") || !strings.Contains(b.String(), "stroke:orange,stroke-width:3px") {
			t.Errorf("%s: nothing is red, or no cycle marked:\n%s", name, b.String())
		}
	}
}

// Missing edges are red and cycles orange in DOT.
func TestDOTColors(t *testing.T) {
	var b strings.Builder
	if err := New(world(t)).DOT(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"service:web1/www" -> "key:NOWHERE" [label="missing", color=red, fontcolor=red];`,
		`"node:us1" -> "key:DOWN" [label="missing", color=red, fontcolor=red];`,
		`"service:web1/a" -> "key:B_URL" [label="cycle", color=orange, penwidth=2];`,
		`"key:B_URL" -> "service:web1/b" [label="manifest", color=orange, penwidth=2, style=dashed];`,
		`"key:NOWHERE" [shape=oval, label="NOWHERE", color=red];`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("there is no %s in\n%s", want, b.String())
		}
	}
}
