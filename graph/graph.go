// Package graph shows who requires what from whom: this node's services, what
// other nodes provide, and what is missing, shadowed or goes round in a
// circle. It is pure.
package graph

import (
	"cmp"
	"maps"
	"slices"

	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/status"
)

// Input is what a graph is made of.
type Input struct {
	Node, Region, Federation string
	// RegionOrder are the regions that this node falls back to.
	RegionOrder []string
	// Manifests are those of this node.
	Manifests []*manifest.Manifest
	// Fleet is what the store has; nil: it was not read.
	Fleet *status.Fleet
	// Attribute reports whether this node's attributes have key; nil: none has.
	Attribute func(key string) bool
}

// Graph is the answer.
type Graph struct {
	Federation string `json:"federation"`
	Node       string `json:"node"`
	Region     string `json:"region"`
	// Store: the store was read; without, only manifests and attributes count.
	Store    bool      `json:"store"`
	Nodes    []Node    `json:"nodes"`
	Services []Service `json:"services"`
	Keys     []Key     `json:"keys"`
	// Requires are the edges from a service, or a node, to a key; Provides
	// those from a key to a service.
	Requires []Requires `json:"requires"`
	Provides []Provides `json:"provides"`
	Cycles   []Cycle    `json:"cycles"`
}

// Node is one machine.
type Node struct {
	Name   string `json:"name"`
	Region string `json:"region"`
	State  string `json:"state,omitempty"` // of its record; "" has none
}

// Service is one service of one node.
type Service struct {
	Name   string `json:"name"` // NODE/ID
	Node   string `json:"node"`
	ID     string `json:"id"`
	Region string `json:"region"`
}

// Key is one key, and where it has a value but from providers.
type Key struct {
	Key        string `json:"key"`
	Value      bool   `json:"value,omitempty"` // an operator's
	Attributes bool   `json:"attributes,omitempty"`
}

// Requires is one edge.
type Requires struct {
	// From is the name of a service, or of a node that waits for the key: what
	// the services of other nodes require is not in the store.
	From string `json:"from"`
	Key  string `json:"key"`
	// Of: only providers of this service.
	Of string `json:"of,omitempty"`
	// Optional: it is optional, or has a default.
	Optional bool `json:"optional,omitempty"`
	// Missing: nothing has it.
	Missing bool `json:"missing,omitempty"`
	// Cycle: the edge is part of a cycle.
	Cycle bool `json:"cycle,omitempty"`
}

// Provides is one edge.
type Provides struct {
	Key string `json:"key"`
	By  string `json:"by"` // the name of a service
	// State of the entry: up, down, draining, standby, left, bad; "manifest":
	// it is not in the store, this node's manifest says so.
	State string `json:"state"`
	// Cycle: the edge is part of a cycle.
	Cycle bool `json:"cycle,omitempty"`
}

// Cycle is a circle of services of this node.
type Cycle struct {
	// Path goes service, key, service, key, … and ends where it began.
	Path []string `json:"path"`
	// Broken says what lets it start all the same; "": nothing does.
	Broken string `json:"broken,omitempty"`
}

// New makes the graph.
func New(in Input) Graph {
	b := &builder{
		in: in, values: map[string]map[string]bool{}, up: map[string][]status.Provider{},
		nodes: map[string]Node{}, services: map[string]Service{}, keys: map[string]Key{},
	}
	b.node(in.Node, in.Region, "")
	b.fleet()
	b.manifests()
	b.waiting()
	b.cycles()
	return b.graph()
}

type builder struct {
	in     Input
	values map[string]map[string]bool   // key → regions that an operator's value is for
	up     map[string][]status.Provider // of other nodes' and this one's entries, by key

	nodes    map[string]Node
	services map[string]Service
	keys     map[string]Key
	requires []Requires
	provides []Provides
	found    []Cycle
}

func (b *builder) node(name, region, state string) {
	n := b.nodes[name]
	b.nodes[name] = Node{Name: name, Region: cmp.Or(region, n.Region), State: cmp.Or(state, n.State)}
}

func (b *builder) service(node, id, region string) string {
	name := node + "/" + id
	b.services[name] = Service{Name: name, Node: node, ID: id, Region: region}
	return name
}

func (b *builder) key(key string) {
	b.keys[key] = Key{Key: key, Value: b.hasValue(key, b.in.Region), Attributes: b.attribute(key)}
}

func (b *builder) attribute(key string) bool { return b.in.Attribute != nil && b.in.Attribute(key) }

// hasValue reports whether an operator put a value for region, or for all.
func (b *builder) hasValue(key, region string) bool {
	return b.values[key][""] || b.values[key][region]
}

// fleet takes what the store has.
func (b *builder) fleet() {
	if b.in.Fleet == nil {
		return
	}
	for _, v := range b.in.Fleet.Values {
		if b.values[v.Key] == nil {
			b.values[v.Key] = map[string]bool{}
		}
		b.values[v.Key][v.Region] = true
	}
	for _, n := range b.in.Fleet.Nodes {
		b.node(n.Node, n.Region, n.State)
	}
	for _, p := range b.in.Fleet.Providers {
		if p.Node == "" || p.Service == "" { // not the place of an entry
			continue
		}
		state := p.State
		if p.Error != "" {
			state = "bad"
		}
		b.node(p.Node, p.Region, "")
		b.key(p.Key)
		b.provides = append(b.provides, Provides{Key: p.Key, By: b.service(p.Node, p.Service, p.Region), State: state})
		if state == "up" {
			b.up[p.Key] = append(b.up[p.Key], p)
		}
	}
}

// manifests takes what this node's services say. What they provide counts,
// published or not.
func (b *builder) manifests() {
	for _, m := range b.in.Manifests {
		name := b.service(b.in.Node, m.ID, b.in.Region)
		for _, key := range slices.Sorted(maps.Keys(m.Provides)) {
			b.key(key)
			is := func(p Provides) bool { return p.Key == key && p.By == name }
			if !slices.ContainsFunc(b.provides, is) {
				b.provides = append(b.provides, Provides{Key: key, By: name, State: "manifest"})
			}
		}
	}
	for _, m := range b.in.Manifests {
		for _, r := range requires(m) {
			b.key(r.Key)
			r.From = b.in.Node + "/" + m.ID
			r.Missing = !r.Optional && b.source(r, b.in.Region, b.in.RegionOrder) == ""
			b.requires = append(b.requires, r)
		}
	}
}

// requires are the keys of m, each once per service that it is asked of; it
// is optional when every placeholder is.
func requires(m *manifest.Manifest) []Requires {
	var out []Requires
	for _, name := range slices.Sorted(maps.Keys(m.Requires)) {
		for _, p := range m.Requires[name].Parts {
			if p.Key == "" {
				continue
			}
			optional := p.Optional || p.HasDefault
			i := slices.IndexFunc(out, func(r Requires) bool { return r.Key == p.Key && r.Of == p.Service })
			if i >= 0 {
				out[i].Optional = out[i].Optional && optional
				continue
			}
			out = append(out, Requires{Key: p.Key, Of: p.Service, Optional: optional})
		}
	}
	return out
}

// source says what has r's key for a node in region, "" nothing.
func (b *builder) source(r Requires, region string, order []string) string {
	if b.hasValue(r.Key, region) && r.Of == "" {
		return "a value"
	}
	for _, m := range b.in.Manifests {
		if _, ok := m.Provides[r.Key]; ok && region == b.in.Region && b.in.Node+"/"+m.ID != r.From && (r.Of == "" || r.Of == m.ID) {
			return b.in.Node + "/" + m.ID
		}
	}
	for _, p := range b.up[r.Key] {
		if (p.Region == region || slices.Contains(order, p.Region)) && (r.Of == "" || r.Of == p.Service) {
			return p.Node + "/" + p.Service
		}
	}
	if region == b.in.Region && r.Of == "" && b.attribute(r.Key) {
		return "the attributes"
	}
	return ""
}

// waiting takes what other nodes say that they lack.
func (b *builder) waiting() {
	if b.in.Fleet == nil {
		return
	}
	for _, n := range b.in.Fleet.Nodes {
		for _, key := range n.Waiting {
			if n.Node == b.in.Node || !isKey(key) {
				continue
			}
			b.key(key)
			r := Requires{From: n.Node, Key: key}
			r.Missing = b.source(r, n.Region, nil) == "" // else it came a moment ago
			b.requires = append(b.requires, r)
		}
	}
}

// isKey tells a key from a built-in, and from the words that cut a list short.
func isKey(text string) bool {
	for i, c := range []byte(text) {
		if !(c >= 'A' && c <= 'Z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return text != "" && !slices.Contains(manifest.Builtins(), text)
}

// graph sorts everything: the same input is the same output.
func (b *builder) graph() Graph {
	g := Graph{
		Federation: b.in.Federation, Node: b.in.Node, Region: b.in.Region, Store: b.in.Fleet != nil,
		Nodes: []Node{}, Services: []Service{}, Keys: []Key{}, Requires: []Requires{}, Provides: []Provides{}, Cycles: []Cycle{},
	}
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		g.Nodes = append(g.Nodes, b.nodes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.services)) {
		g.Services = append(g.Services, b.services[name])
	}
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		g.Keys = append(g.Keys, b.keys[key])
	}
	g.Requires = append(g.Requires, b.requires...)
	slices.SortFunc(g.Requires, func(x, y Requires) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.Key, y.Key), cmp.Compare(x.Of, y.Of))
	})
	g.Provides = append(g.Provides, b.provides...)
	slices.SortFunc(g.Provides, func(x, y Provides) int { return cmp.Or(cmp.Compare(x.Key, y.Key), cmp.Compare(x.By, y.By)) })
	g.Cycles = append(g.Cycles, b.found...)
	return g
}
