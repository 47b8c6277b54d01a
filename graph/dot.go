package graph

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Colors of what an operator should look at.
const (
	red    = "red"
	orange = "orange"
)

// DOT writes the graph in the language of Graphviz: a box of services per
// node, keys as ovals, missing edges red, cycles bold and orange.
func (g Graph) DOT(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", dotID(g.Federation))
	for i, n := range g.Nodes {
		fmt.Fprintf(&b, "  subgraph \"cluster_%d\" {\n    label=%s;\n", i, dotLabel(n.title()))
		if g.waits(n.Name) || !g.hosts(n.Name) { // an empty cluster is not drawn
			fmt.Fprintf(&b, "    %s [shape=plaintext, label=%s];\n", dotID("node:"+n.Name), dotLabel(n.Name))
		}
		for _, s := range g.Services {
			if s.Node == n.Name {
				fmt.Fprintf(&b, "    %s [shape=box, label=%s];\n", dotID("service:"+s.Name), dotLabel(s.ID))
			}
		}
		b.WriteString("  }\n")
	}
	for _, k := range g.Keys {
		color := ""
		if g.missing(k.Key) {
			color = ", color=" + red
		}
		fmt.Fprintf(&b, "  %s [shape=oval, label=%s%s];\n", dotID("key:"+k.Key), dotLabel(k.Key), color)
		for _, s := range k.sources() {
			id := dotID(s + ":" + k.Key)
			fmt.Fprintf(&b, "  %s [shape=note, label=%s];\n  %s -> %s;\n", id, dotLabel(s), dotID("key:"+k.Key), id)
		}
	}
	for _, r := range g.Requires {
		fmt.Fprintf(&b, "  %s -> %s%s;\n", dotID(g.source(r.From)), dotID("key:"+r.Key), dotAttrs(r.words(), r.Missing, r.Cycle, r.Optional))
	}
	for _, p := range g.Provides {
		fmt.Fprintf(&b, "  %s -> %s%s;\n", dotID("key:"+p.Key), dotID("service:"+p.By), dotAttrs(p.State, false, p.Cycle, p.State != "up"))
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func dotAttrs(label string, missing, cycle, dashed bool) string {
	var attrs []string
	if label != "" {
		attrs = append(attrs, "label="+dotLabel(label))
	}
	switch {
	case missing:
		attrs = append(attrs, "color="+red, "fontcolor="+red)
	case cycle:
		attrs = append(attrs, "color="+orange, "penwidth=2")
	}
	if dashed && !missing {
		attrs = append(attrs, "style=dashed")
	}
	if len(attrs) == 0 {
		return ""
	}
	return " [" + strings.Join(attrs, ", ") + "]"
}

// dotID quotes an identifier; in it, only a quote is special.
func dotID(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain(text)) + `"`
}

// dotLabel quotes a text that is shown, in which backslashes and entities of
// HTML are special as well.
func dotLabel(text string) string { return dotID(strings.ReplaceAll(text, "&", "&amp;")) }

// plain is text of one line without control characters: it was written by
// other nodes.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
