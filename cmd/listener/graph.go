package main

import (
	"io"

	"github.com/listener-agent/listener/graph"
	"github.com/spf13/cobra"
)

func (a *app) graphCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "graph [FILE|DIR…]",
		Short: "who requires what from whom, also as a picture",
		Long: `Show which services require which keys, and who provides them: the manifests of this
node (of the agent, of the settings, or those given as for listener check) and what
the store has. Other nodes do not say what they require, only what they wait for.
What is missing is red, services that require each other are marked. Without a store
only manifests and attributes count.

-o dot is for Graphviz, -o mermaid for pages that draw Mermaid.`,
		Example:     "  listener graph\n  listener graph -o dot | dot -Tsvg > graph.svg\n  listener graph examples -o mermaid",
		Annotations: map[string]string{formats: "text json dot mermaid"},
		RunE: func(c *cobra.Command, args []string) error {
			in, k, noStore, err := a.fleetInput(c.Context(), args)
			if err != nil {
				return err
			}
			for _, p := range k.Problems {
				a.note("note: %s", p.line)
			}
			if noStore != nil {
				if exitCode(noStore) != exitUnreachable || a.storeFlag != "" {
					return noStore
				}
				a.note("no store: only manifests and attributes count (%v)", noStore)
			}
			g := graph.New(in)
			switch a.output {
			case "dot":
				return g.DOT(a.out)
			case "mermaid":
				return g.Mermaid(a.out)
			}
			return a.print(g, func(w io.Writer) error { return g.Text(w) })
		},
	}
}
