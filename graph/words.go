package graph

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// title of a node.
func (n Node) title() string {
	text := n.Name
	if n.Region != "" {
		text += ", region " + n.Region
	}
	if n.State != "" && n.State != "up" {
		text += ", " + n.State
	}
	return text
}

// sources are what has the key but for providers.
func (k Key) sources() (out []string) {
	if k.Value {
		out = append(out, "value")
	}
	if k.Attributes {
		out = append(out, "attributes")
	}
	return out
}

// words label the edge.
func (r Requires) words() string {
	var out []string
	if r.Of != "" {
		out = append(out, "of "+r.Of)
	}
	if r.Missing {
		out = append(out, "missing")
	}
	if r.Optional {
		out = append(out, "optional")
	}
	if r.Cycle {
		out = append(out, "cycle")
	}
	return strings.Join(out, ", ")
}

// source is the id of who requires: a service, or a node.
func (g Graph) source(from string) string {
	if slices.ContainsFunc(g.Services, func(s Service) bool { return s.Name == from }) {
		return "service:" + from
	}
	return "node:" + from
}

func (g Graph) waits(node string) bool {
	return slices.ContainsFunc(g.Requires, func(r Requires) bool { return r.From == node })
}

func (g Graph) hosts(node string) bool {
	return slices.ContainsFunc(g.Services, func(s Service) bool { return s.Node == node })
}

func (g Graph) missing(key string) bool {
	return slices.ContainsFunc(g.Requires, func(r Requires) bool { return r.Key == key && r.Missing })
}

// Text writes one line per edge from a service or a node, then what nobody
// known here requires, then the cycles.
func (g Graph) Text(w io.Writer) error {
	var b strings.Builder
	required := map[string]bool{}
	for _, r := range g.Requires {
		required[r.Key] = true
		verb, key := "requires", r.Key
		if g.source(r.From) == "node:"+r.From {
			verb = "waits for"
		}
		if r.Of != "" {
			key = r.Of + "/" + key
		}
		fmt.Fprintf(&b, "%s %s %s%s\n", plain(r.From), verb, plain(key), g.from(r))
	}
	for _, p := range g.Provides {
		if !required[p.Key] {
			fmt.Fprintf(&b, "%s provides %s (%s)\n", plain(p.By), plain(p.Key), p.State)
		}
	}
	for _, c := range g.Cycles {
		fmt.Fprintf(&b, "CYCLE %s%s\n", plain(strings.Join(c.Path, " → ")), c.broken())
	}
	if b.Len() == 0 {
		b.WriteString("nothing is required or provided\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// from says where r's key comes from.
func (g Graph) from(r Requires) string {
	if r.Missing {
		return ": MISSING" + g.notUp(r)
	}
	var from []string
	if i := slices.IndexFunc(g.Keys, func(k Key) bool { return k.Key == r.Key }); i >= 0 && r.Of == "" {
		from = g.Keys[i].sources()
	}
	for _, p := range g.answers(r) {
		from = append(from, plain(p.By)+" ("+p.State+")")
	}
	switch {
	case len(from) == 0 && r.Optional:
		return ", optional, which nothing has"
	case len(from) == 0:
		return ", which came a moment ago"
	case r.Optional:
		return " (optional) from " + strings.Join(from, ", ")
	}
	return " from " + strings.Join(from, ", ")
}

// answers are the entries of r's key that are of the service it asks for.
func (g Graph) answers(r Requires) []Provides {
	var out []Provides
	for _, p := range g.Provides {
		if p.Key == r.Key && p.By != r.From && (r.Of == "" || g.service(p.By).ID == r.Of) {
			out = append(out, p)
		}
	}
	return out
}

func (g Graph) service(name string) Service {
	i := slices.IndexFunc(g.Services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return Service{}
	}
	return g.Services[i]
}

// notUp names entries that are there and do not help.
func (g Graph) notUp(r Requires) string {
	var out []string
	for _, p := range g.answers(r) {
		text := plain(p.By) + " is " + p.State
		if p.State == "up" {
			text += " in region " + plain(g.service(p.By).Region)
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return ""
	}
	return "; " + few(out)
}

func (c Cycle) broken() string {
	if c.Broken == "" {
		return ": nothing lets it start"
	}
	return " (it starts, as " + c.Broken + ")"
}
