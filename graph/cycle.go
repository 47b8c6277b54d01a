package graph

import (
	"slices"

	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/status"
)

// arc is one requires edge with the provides edge that answers it, both of
// this node: what services of other nodes require is not known.
type arc struct {
	from, to           string // services
	requires, provides int    // indices
}

// cycles finds one circle in each set of services that require each other,
// and marks the edges of all of them.
func (b *builder) cycles() {
	arcs := map[string][]arc{}
	own := map[string][]int{} // what this node provides, by key
	for j, p := range b.provides {
		if b.services[p.By].Node == b.in.Node {
			own[p.Key] = append(own[p.Key], j)
		}
	}
	for i, r := range b.requires {
		if b.services[r.From].Node != b.in.Node {
			continue
		}
		for _, j := range own[r.Key] {
			p := b.provides[j]
			if p.By != r.From && (r.Of == "" || b.services[p.By].ID == r.Of) {
				arcs[r.From] = append(arcs[r.From], arc{from: r.From, to: p.By, requires: i, provides: j})
			}
		}
	}
	done := map[string]bool{}
	for _, m := range b.in.Manifests {
		start := b.in.Node + "/" + m.ID
		if done[start] {
			continue
		}
		path := way(arcs, start, start)
		if path == nil {
			continue
		}
		b.mark(arcs, start, done)
		b.found = append(b.found, b.cycle(path))
	}
}

// way is a shortest way from one service to another, of one arc at least.
func way(arcs map[string][]arc, from, to string) []arc {
	came := map[string]arc{}
	queue := []string{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, a := range arcs[at] {
			if _, seen := came[a.to]; seen {
				continue
			}
			came[a.to] = a
			if a.to == to {
				path := []arc{a}
				for path[0].from != from {
					path = slices.Insert(path, 0, came[path[0].from])
				}
				return path
			}
			queue = append(queue, a.to)
		}
	}
	return nil
}

// mark marks every edge between services that are in a circle with start.
func (b *builder) mark(arcs map[string][]arc, start string, done map[string]bool) {
	in := map[string]bool{start: true}
	for name := range arcs {
		if way(arcs, start, name) != nil && way(arcs, name, start) != nil {
			in[name] = true
		}
	}
	for name := range in {
		done[name] = true
		for _, a := range arcs[name] {
			if in[a.to] {
				b.requires[a.requires].Cycle, b.provides[a.provides].Cycle = true, true
			}
		}
	}
}

// cycle describes path, and what lets it start: something that has one of its
// keys, or a placeholder that does without.
func (b *builder) cycle(path []arc) Cycle {
	var c Cycle
	members := map[string]bool{}
	for _, a := range path {
		members[a.from] = true
	}
	for _, a := range path {
		r := b.requires[a.requires]
		c.Path = append(c.Path, a.from, r.Key)
		if c.Broken != "" {
			continue
		}
		if r.Optional {
			c.Broken = a.from + " does without " + r.Key
		} else if what := b.outside(r, members); what != "" {
			c.Broken = r.Key + " has " + what
		}
	}
	c.Path = append(c.Path, path[0].from)
	return c
}

// outside is what has r's key but for the members of its cycle.
func (b *builder) outside(r Requires, members map[string]bool) string {
	rest := *b
	rest.in.Manifests = slices.Clone(b.in.Manifests)
	rest.in.Manifests = slices.DeleteFunc(rest.in.Manifests, func(m *manifest.Manifest) bool { return members[b.in.Node+"/"+m.ID] })
	rest.up = map[string][]status.Provider{r.Key: {}}
	for _, p := range b.up[r.Key] {
		if !members[p.Node+"/"+p.Service] {
			rest.up[r.Key] = append(rest.up[r.Key], p)
		}
	}
	return rest.source(r, b.in.Region, b.in.RegionOrder)
}
