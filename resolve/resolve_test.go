package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/listener-agent/listener/manifest"
)

// fakePicture is a view of the test; a value or attribute is "region/key" or "key".
type fakePicture struct {
	values    map[string]Entry
	attrs     map[string]string
	providers map[string][]Provider
	unproven  map[string]bool // keys whose absence is not proven
	replica   bool
	unknown   bool
	awaited   map[string]bool
	chosen    map[string]string
	settled   map[string]bool // by ID
}

var _ Picture = fakePicture{}

func at(region, key string) string {
	if region == "" {
		return key
	}
	return region + "/" + key
}

func (p fakePicture) Value(region, key string) (Entry, bool) {
	e, ok := p.values[at(region, key)]
	return e, ok
}

func (p fakePicture) Attribute(region, key string) (string, bool) {
	s, ok := p.attrs[at(region, key)]
	return s, ok
}
func (p fakePicture) Providers(key string) []Provider  { return p.providers[key] }
func (p fakePicture) Proven(key string) bool           { return !p.replica && !p.unknown && !p.unproven[key] }
func (p fakePicture) Replica() bool                    { return p.replica || p.unknown }
func (p fakePicture) Known(string) bool                { return !p.unknown }
func (p fakePicture) Awaited(key string) bool          { return p.awaited[key] }
func (p fakePicture) Here(_ string, q Provider) string { return q.Text }
func (p fakePicture) Memo() Memo                       { return nil }
func (p fakePicture) Chosen(choice string) string      { return p.chosen[choice] }
func (p fakePicture) Settled(q Provider) bool          { return p.settled[q.ID()] }

var here = Node{Name: "n1", Host: "10.0.0.1", Region: "us", Federation: "f", RegionOrder: []string{"eu", "ap"}}

// parse makes a manifest that requires V = template, and more members.
func parse(t interface{ Fatal(...any) }, template, more string) *manifest.Manifest {
	m, err := manifest.Parse("app.json", fmt.Appendf(nil, `{"id": "app", "requires": {"V": %q}%s}`, template, more))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// value is V, or in brackets the state and what is missing.
func value(r Result) string {
	v := "unset"
	for _, x := range r.Vars {
		if x.Name == "V" {
			v = x.Value
		}
	}
	switch r.State {
	case Kept:
		return fmt.Sprintf("[kept %s, %v missing]", v, r.Missing)
	case Waiting:
		return fmt.Sprintf("[waiting for %v]", r.Missing)
	}
	return v
}

func up(region, node, service, text string) Provider {
	return Provider{Region: region, Node: node, Service: service, Text: text, State: Up, Weight: 100}
}

func down(p Provider) Provider { p.State = Away; return p }

func TestRanks(t *testing.T) {
	all := func() fakePicture {
		return fakePicture{
			values: map[string]Entry{"us/K": {"1", 5}, "K": {"2", 6}, "eu/K": {"other", 7}},
			attrs:  map[string]string{"us/K": "5a", "K": "5b", "eu/K": "other"},
			providers: map[string][]Provider{"K": {
				up("ap", "n9", "s", "4b"), up("eu", "n8", "s", "4a"), up("us", "n7", "s", "3"), up("xx", "n6", "s", "other"),
			}},
		}
	}
	p := all()
	drop := []struct {
		want string
		rank Rank
		then func()
	}{
		{"1", RegionValue, func() { delete(p.values, "us/K") }},
		{"2", Value, func() { delete(p.values, "K") }},
		{"3", OwnRegion, func() { p.providers["K"][2].State = Gone }},
		{"4a", NextRegion, func() { p.providers["K"][1].State = Gone }},
		{"4b", NextRegion, func() { p.providers["K"] = nil }},
		{"5a", RegionDefault, func() { delete(p.attrs, "us/K") }},
		{"5b", General, func() { delete(p.attrs, "K") }},
		{"6", Default, func() {}},
	}
	m := parse(t, "{K:-6}", "")
	for _, d := range drop {
		r := Service(m, here, p, nil)
		if got := value(r); got != d.want || r.Uses[0].Answer.Rank != d.rank {
			t.Errorf("%s of rank %d, want %s of %d", got, r.Uses[0].Answer.Rank, d.want, d.rank)
		}
		d.then()
	}
	if got := value(Service(parse(t, "{K}", ""), here, p, nil)); got != "[waiting for [K]]" {
		t.Error(got)
	}
}

func TestPlaceholders(t *testing.T) {
	p := fakePicture{
		values: map[string]Entry{"A": {"a{B}$`'", 1}, "EMPTY": {"", 1}, "L": {"value", 1}},
		attrs:  map[string]string{"S": "attribute"},
		providers: map[string][]Provider{
			"P": {up("us", "n2", "s2", "p2"), up("us", "n1", "s1", "p1"), up("us", "n3", "s3", "p1"), down(up("us", "n4", "s4", "p4")), up("eu", "n5", "s5", "p5")},
			"S": {up("us", "n1", "s1", "other")},
			"L": {up("us", "n1", "s1", "provider")},
		},
	}
	for template, want := range map[string]string{
		"{A}":                        "a{B}$`'", // one pass: a fetched value is a literal
		"x{A}y{A}":                   "xa{B}$`'ya{B}$`'",
		"{EMPTY}":                    "", // empty is a value
		"{EMPTY:-d}":                 "",
		"{NONE?}":                    "unset",
		"x{NONE?}":                   "unset",
		"{NONE:-}":                   "",
		"{NONE:-a b}":                "a b",
		"{NONE}":                     "[waiting for [NONE]]",
		"{NONE}{A}{NONE}":            "[waiting for [NONE]]",
		"{P[]}":                      "p1,p2",
		"{P[;]}":                     "p1;p2",
		"{L[]}":                      "value", // an operator's value stands for the list
		"{s2/P}":                     "p2",
		"{s4/P}":                     "[waiting for [P]]", // it is down
		"{s1/S}":                     "other",
		"{s9/S}":                     "[waiting for [S]]", // attributes are nobody's provider
		"{s9/S:-d}":                  "d",
		"{s1/L}":                     "provider", // nor is an operator's value
		"{{A}}":                      "{A}",
		"{HOST} {NODE}":              "10.0.0.1 n1",
		"{host}:{port}":              "10.0.0.1:80",
		"{ID}.{REGION}.{FEDERATION}": "app.us.f",
	} {
		if got := value(Service(parse(t, template, `, "local_port": 80`), here, p, nil)); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
}

func TestHostIsBracketedWhereAURLNeedsIt(t *testing.T) {
	six, none := here, here
	six.Host, none.Host = "fd00::1", ""
	for template, want := range map[string]string{
		"http://{HOST}/x": "http://[fd00::1]/x", "{HOST}:80": "[fd00::1]:80", "{HOST}": "fd00::1",
		"http://u@{HOST}/": "http://u@[fd00::1]/",
	} {
		if got := value(Service(parse(t, template, ""), six, fakePicture{}, nil)); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
		if got := value(Service(parse(t, template, `, "binding": "relaxed"`), none, fakePicture{}, nil)); got != "[waiting for [HOST]]" {
			t.Errorf("%s without a host: %q", template, got)
		}
	}
}

// goodOf is what a successful step with r leaves.
func goodOf(r Result) *Good {
	g := &Good{Vars: map[string]string{}, Uses: map[string]Answer{}}
	for _, v := range r.Vars {
		g.Vars[v.Name] = v.Value
	}
	for _, u := range r.Uses {
		if u.Answer.Rank != None {
			g.Uses[u.ID] = u.Answer
		}
	}
	return g
}

func TestLastKnownGood(t *testing.T) {
	value9 := fakePicture{values: map[string]Entry{"K": {"good", 9}}}
	provider := fakePicture{providers: map[string][]Provider{"K": {up("us", "n2", "s", "good")}}}
	attribute := fakePicture{attrs: map[string]string{"K": "good"}}
	relaxed := `, "binding": "relaxed"`
	tests := []struct {
		name           string
		before, now    fakePicture
		template, more string
		want           string
		lastGood       bool
	}{
		{"deleted, proven", value9, fakePicture{}, "{K}", "", "[kept good, [K] missing]", false},
		{"deleted, proven, relaxed", value9, fakePicture{}, "{K}", relaxed, "unset", false},
		{"deleted, proven, optional", value9, fakePicture{}, "{K?}", "", "unset", false},
		{"deleted, proven, default", value9, fakePicture{}, "{K:-d}", "", "d", false},
		{"deleted, proven, attribute", value9, attribute, "{K}", "", "good", false},
		{"absent under a hold", value9, fakePicture{unproven: map[string]bool{"K": true}}, "{K:-d}", "", "good", true},
		{"absent under a hold, relaxed", value9, fakePicture{unproven: map[string]bool{"K": true}}, "{K}", relaxed, "good", true},
		{"no store, no replica", value9, fakePicture{unknown: true}, "{K:-d}", "", "good", true},
		{"no store, no replica, attribute", value9, fakePicture{unknown: true, attrs: map[string]string{"K": "attr"}}, "{K}", "", "good", true},
		{"replica is older", value9, fakePicture{replica: true, values: map[string]Entry{"K": {"old", 8}}}, "{K}", "", "good", true},
		{"replica is newer", value9, fakePicture{replica: true, values: map[string]Entry{"K": {"new", 10}}}, "{K}", "", "new", false},
		{"store is lower, accepted", value9, fakePicture{values: map[string]Entry{"K": {"old", 8}}}, "{K}", "", "old", false},
		{"provider down", provider, fakePicture{providers: map[string][]Provider{"K": {down(up("us", "n2", "s", "good"))}}}, "{K:-d}", "", "good", true},
		{"provider left", provider, fakePicture{}, "{K:-d}", "", "d", false},
		{"provider moved", provider, fakePicture{providers: map[string][]Provider{"K": {up("us", "n3", "s", "new")}}}, "{K}", "", "new", false},
		{"attribute edited", attribute, fakePicture{attrs: map[string]string{"K": "new"}}, "{K}", "", "new", false},
		{"attribute gone", attribute, fakePicture{}, "{K}", "", "[kept good, [K] missing]", false},
		{"attribute gone, no store", attribute, fakePicture{unknown: true}, "{K:-d}", "", "d", false},
		{"awaited", value9, fakePicture{awaited: map[string]bool{"K": true}}, "{K:-d}", relaxed, "[kept good, [K] missing]", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := parse(t, test.template, test.more)
			good := goodOf(Service(m, here, test.before, nil))
			r := Service(m, here, test.now, good)
			if got := value(r); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got := slices.ContainsFunc(r.Uses, func(u Use) bool { return u.Answer.LastGood }); got != test.lastGood {
				t.Errorf("last known good: %v", got)
			}
		})
	}
}

func TestFirstStep(t *testing.T) {
	for _, test := range []struct {
		name, more, want string
		pic              fakePicture
	}{
		{"strict waits", "", "[waiting for [K]]", fakePicture{}},
		{"relaxed goes ahead", `, "binding": "relaxed"`, "unset", fakePicture{}},
		{"relaxed waits for the first answer", `, "binding": "relaxed"`, "[waiting for [K]]", fakePicture{unknown: true}},
		{"relaxed waits for the answer on its way", `, "binding": "relaxed"`, "[waiting for [K]]", fakePicture{awaited: map[string]bool{"K": true}}},
		{"attributes satisfy without a store", "", "a", fakePicture{unknown: true, attrs: map[string]string{"K": "a"}}},
	} {
		if got := value(Service(parse(t, "{K}", test.more), here, test.pic, nil)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	// A newly required, never-seen key holds back only the new environment.
	old := goodOf(Service(parse(t, "{K}", ""), here, fakePicture{values: map[string]Entry{"K": {"k", 1}}}, nil))
	now := fakePicture{values: map[string]Entry{"K": {"k2", 2}}}
	if got := value(Service(parse(t, "{K}{NEW}", ""), here, now, old)); got != "[kept k, [NEW] missing]" {
		t.Error(got)
	}
}

// TestResolutionIsAFunction: the same inputs give the same result, in
// whatever order maps and providers come.
func TestResolutionIsAFunction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"A", "B", "C"}
		forms := []string{"{%s}", "{%s?}", "{%s:-d}", "{%s[]}", "{s1/%s}", "{%[1]s}-{%[1]s:-e}"}
		requires := map[string]string{}
		for i := range rapid.IntRange(1, 4).Draw(t, "variables") {
			f := rapid.SampledFrom(forms).Draw(t, "form")
			requires[fmt.Sprint("V", i)] = fmt.Sprintf(f, rapid.SampledFrom(keys).Draw(t, "key"))
		}
		var parts []string
		for name, text := range requires {
			parts = append(parts, fmt.Sprintf("%q: %q", name, text))
		}
		m, err := manifest.Parse("app.json", []byte(`{"id": "app", "requires": {`+strings.Join(parts, ",")+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		p := fakePicture{values: map[string]Entry{}, attrs: map[string]string{}, providers: map[string][]Provider{}, unproven: map[string]bool{}, chosen: map[string]string{}, settled: map[string]bool{}}
		for _, k := range keys {
			if rapid.Bool().Draw(t, "value") {
				p.values[k] = Entry{"v" + k, 1}
			}
			if rapid.Bool().Draw(t, "attribute") {
				p.attrs[k] = "a" + k
			}
			p.unproven[k] = rapid.Bool().Draw(t, "unproven")
			for i := range rapid.IntRange(0, 3).Draw(t, "providers") {
				q := up(rapid.SampledFrom([]string{"us", "eu", "xx"}).Draw(t, "region"), fmt.Sprint("n", i), fmt.Sprint("s", i%2), fmt.Sprint("p", i))
				q.State = rapid.SampledFrom([]ProviderState{Up, Held, Away, Gone}).Draw(t, "state")
				q.Priority = rapid.IntRange(0, 1).Draw(t, "priority")
				p.providers[k] = append(p.providers[k], q)
				p.settled[q.ID()] = rapid.Bool().Draw(t, "settled")
				if rapid.Bool().Draw(t, "chosen") {
					p.chosen[k], p.chosen[k+"[]"] = q.ID(), q.Region
				}
			}
		}
		first := Service(m, here, p, nil)
		for range 5 {
			for k, list := range p.providers {
				p.providers[k] = rapid.Permutation(list).Draw(t, "order")
			}
			if diff := cmp.Diff(first, Service(m, here, p, nil)); diff != "" {
				t.Fatal(diff)
			}
		}
		if first.State != Ready {
			return
		}
		// What was applied as it is now stays as it is, and whatever is lost
		// without proof changes no value that came from the store.
		good := goodOf(first)
		if again := Service(m, here, p, good); !maps.Equal(goodOf(again).Vars, good.Vars) {
			t.Fatalf("%v became %v", good.Vars, goodOf(again).Vars)
		}
		lost := fakePicture{unknown: true, attrs: p.attrs}
		if after := Service(m, here, lost, good); after.State == Waiting || !maps.Equal(goodOf(after).Vars, good.Vars) {
			t.Fatalf("an outage made %v of %v", goodOf(after).Vars, good.Vars)
		}
	})
}

func TestPickTakesTheLowestPriority(t *testing.T) {
	list := []Provider{up("us", "n1", "s", "1"), up("us", "n2", "s", "2"), up("us", "n3", "s", "3")}
	list[0].Priority, list[1].Priority, list[2].Priority = 10, -5, 3
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		var l []Provider
		for _, i := range order {
			l = append(l, list[i])
		}
		if got := pick("n", "K", l); got.Node != "n2" {
			t.Errorf("%v: %s", order, got.Node)
		}
	}
}

// TestPickSpreads: each of n providers gets its share of the nodes by weight,
// weight 0 gets none while there is another, and one that leaves moves only
// the nodes that used it.
func TestPickSpreads(t *testing.T) {
	list := make([]Provider, 5)
	for i := range list {
		list[i] = up("us", fmt.Sprint("p", i), "s", "")
	}
	list[0].Weight, list[4].Weight = 200, 0
	const nodes = 20000
	count := map[string]int{}
	moved := 0
	for i := range nodes {
		node := fmt.Sprint("web", i)
		a := pick(node, "K", list)
		count[a.Node]++
		if b := pick(node, "K", list[1:]); a.Node != "p0" && a.Node != b.Node {
			moved++
		}
	}
	for p, share := range map[string]float64{"p0": 0.4, "p1": 0.2, "p2": 0.2, "p3": 0.2, "p4": 0} {
		if got := float64(count[p]) / nodes; got < share-0.02 || got > share+0.02 {
			t.Errorf("%s has %.3f of the nodes, want %.2f", p, got, share)
		}
	}
	if moved > 0 {
		t.Errorf("%d nodes moved that did not use the provider that left", moved)
	}
}

// One joining n providers takes about 1/n of the nodes, and moves no other.
func TestJoiningMovesFew(t *testing.T) {
	const nodes = 10_000
	for _, n := range []int{4, 20} {
		var ps []Provider
		for i := range n {
			ps = append(ps, up("us", fmt.Sprint("p", i), "s", fmt.Sprint(i)))
		}
		moved := 0
		for i := range nodes {
			node := fmt.Sprint("web", i)
			before, after := pick(node, "K", ps[:n-1]), pick(node, "K", ps)
			if before.ID() == after.ID() {
				continue
			}
			if moved++; after.ID() != ps[n-1].ID() {
				t.Fatalf("node %s moved from %s to %s", node, before.ID(), after.ID())
			}
		}
		if float64(moved) > 1.2*nodes/float64(n) {
			t.Errorf("%d of %d nodes moved to one of %d, more than 1.2/n", moved, nodes, n)
		}
	}
}

func TestWeightsShare(t *testing.T) {
	heavy, light, none := up("us", "a", "s", "a"), up("us", "b", "s", "b"), up("us", "c", "s", "c")
	heavy.Weight, light.Weight, none.Weight = 90, 10, 0
	got := map[string]int{}
	for i := range 10_000 {
		got[pick(fmt.Sprint("web", i), "K", []Provider{heavy, light, none}).Text]++
	}
	if got["a"] < 8800 || got["a"] > 9200 || got["c"] != 0 {
		t.Errorf("shares %v, want about 90:10:0", got)
	}
}

func TestOneOfSeveral(t *testing.T) {
	a, b, eu := up("us", "a", "s", "a"), up("us", "b", "s", "b"), up("eu", "e", "s", "e")
	held := func(p Provider) Provider { p.State = Held; return p }
	gone := func(p Provider) Provider { p.State = Gone; return p }
	lower := func(p Provider) Provider { p.Priority = -1; return p }
	other := up("us", "o", "other", "o")
	all := map[string]bool{a.ID(): true, b.ID(): true, eu.ID(): true}
	last := &Good{Uses: map[string]Answer{"K": {Rank: OwnRegion, Text: "last"}, "K[,]": {Rank: OwnRegion, Text: "last"}}, Vars: map[string]string{"V": "last"}}
	for _, tc := range []struct {
		name, template string
		providers      []Provider
		chosen         string
		settled        map[string]bool
		good           *Good
		want           string
		better         bool
	}{
		{"in use", "{K}", []Provider{a, b}, b.ID(), nil, nil, "b", false},
		{"in use, down", "{K}", []Provider{a, down(b)}, b.ID(), nil, nil, "a", false},
		{"in use, held", "{K}", []Provider{a, held(b)}, b.ID(), nil, last, "a", false},
		{"all held", "{K}", []Provider{held(a), held(b)}, b.ID(), nil, last, "last", false},
		{"better priority, too new", "{K}", []Provider{a, lower(b)}, a.ID(), nil, nil, "a", true},
		{"better priority", "{K}", []Provider{a, lower(b)}, a.ID(), all, nil, "b", false},
		{"better priority, nothing in use", "{K}", []Provider{a, lower(b)}, "", nil, nil, "b", false},
		{"better region, too new", "{K}", []Provider{a, eu}, eu.ID(), nil, nil, "e", true},
		{"better region", "{K}", []Provider{a, eu}, eu.ID(), all, nil, "a", false},
		{"better region, worse priority", "{K}", []Provider{a, lower(eu)}, eu.ID(), all, nil, "a", false},
		{"equal one settled", "{K}", []Provider{a, b}, a.ID(), all, nil, "a", false},
		{"of a service", "{other/K}", []Provider{a, b, other}, "", nil, nil, "o", false},
		{"of a service that is gone", "{other/K:-none}", []Provider{a, b}, "", nil, nil, "none", false},
		{"list", "{K[]}", []Provider{b, a, eu, down(up("us", "d", "s", "d"))}, "", nil, nil, "a,b", false},
		{"list with held", "{K[]}", []Provider{b, held(a)}, "", nil, nil, "a,b", false},
		{"list of another region", "{K[]}", []Provider{down(a), eu}, "", nil, nil, "e", false},
		{"list, region back too new", "{K[]}", []Provider{a, b, eu}, "eu", nil, nil, "e", true},
		{"list, region back", "{K[]}", []Provider{a, b, eu}, "eu", map[string]bool{b.ID(): true}, nil, "a,b", false},
		{"list, all away", "{K[]}", []Provider{down(a)}, "us", nil, last, "last", false},
		{"all withdrawn", "{K:-none}", []Provider{gone(a), gone(b)}, a.ID(), nil, last, "none", false},
		{"withdrawn, one down", "{K:-none}", []Provider{gone(a), down(b)}, a.ID(), nil, last, "last", false},
		{"one down elsewhere", "{K:-none}", []Provider{gone(a), down(up("xx", "x", "s", "x"))}, a.ID(), nil, last, "none", false},
	} {
		p := fakePicture{
			providers: map[string][]Provider{"K": tc.providers}, settled: tc.settled,
			chosen: map[string]string{"K": tc.chosen, "K[]": tc.chosen},
		}
		r := Service(parse(t, tc.template, ""), here, p, tc.good)
		if got := value(r); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		} else if u := r.Uses[0]; u.Better != tc.better {
			t.Errorf("%s: better is %v (%s)", tc.name, u.Better, u.Why)
		}
	}
}
