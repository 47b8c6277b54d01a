package graph

import (
	"fmt"
	"io"
	"strings"
)

// Mermaid writes the graph as a flowchart of Mermaid: a box of services per
// node, keys as ovals, missing edges red, cycles bold and orange.
func (g Graph) Mermaid(w io.Writer) error {
	m := &mermaid{ids: map[string]string{}}
	m.line("flowchart LR")
	for i, n := range g.Nodes {
		m.line("  subgraph g%d[%s]", i, mermaidText(n.title()))
		if g.waits(n.Name) || !g.hosts(n.Name) {
			m.line("    %s(%s)", m.id("node:"+n.Name), mermaidText(n.Name))
		}
		for _, s := range g.Services {
			if s.Node == n.Name {
				m.line("    %s[%s]", m.id("service:"+s.Name), mermaidText(s.ID))
			}
		}
		m.line("  end")
	}
	for _, k := range g.Keys {
		m.line("  %s([%s])", m.id("key:"+k.Key), mermaidText(k.Key))
		for _, s := range k.sources() {
			id := m.id(s + ":" + k.Key)
			m.line("  %s>%s]", id, mermaidText(s))
			m.edge(m.id("key:"+k.Key), id, "", false, "")
		}
		if g.missing(k.Key) {
			m.line("  style %s stroke:%s", m.id("key:"+k.Key), red)
		}
	}
	for _, r := range g.Requires {
		m.edge(m.id(g.source(r.From)), m.id("key:"+r.Key), r.words(), r.Optional, style(r.Missing, r.Cycle))
	}
	for _, p := range g.Provides {
		m.edge(m.id("key:"+p.Key), m.id("service:"+p.By), p.State, p.State != "up", style(false, p.Cycle))
	}
	_, err := io.WriteString(w, m.b.String())
	return err
}

func style(missing, cycle bool) string {
	switch {
	case missing:
		return "stroke:" + red + ",color:" + red
	case cycle:
		return "stroke:" + orange + ",stroke-width:3px"
	}
	return ""
}

type mermaid struct {
	b     strings.Builder
	ids   map[string]string
	edges int // Mermaid styles edges by number
}

func (m *mermaid) line(format string, args ...any) { fmt.Fprintf(&m.b, format+"\n", args...) }

// id is a word of our own, since names of nodes can be anything.
func (m *mermaid) id(name string) string {
	if m.ids[name] == "" {
		m.ids[name] = fmt.Sprintf("n%d", len(m.ids))
	}
	return m.ids[name]
}

func (m *mermaid) edge(from, to, label string, dashed bool, style string) {
	arrow := "-->"
	if dashed {
		arrow = "-.->"
	}
	if label != "" {
		arrow += "|" + mermaidText(label) + "|"
	}
	m.line("  %s %s %s", from, arrow, to)
	if style != "" {
		m.line("  linkStyle %d %s", m.edges, style)
	}
	m.edges++
}

// mermaidText quotes a text; what is special in one is written as an entity.
func mermaidText(text string) string {
	r := strings.NewReplacer(`#`, "#35;", `"`, "#quot;", `&`, "#amp;", `<`, "#lt;", `>`, "#gt;", "`", "#96;", `\`, "#92;")
	return `"` + r.Replace(plain(text)) + `"`
}
