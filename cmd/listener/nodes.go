package main

import (
	"io"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) nodesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "the nodes of this federation: state, last run, what they wait for",
		Long: `Show what each node of this federation says of itself in the store: region, state,
version, its last run, the revision that it applied, and the keys that its services
wait for. A node whose agent died is gone from the list after publish.ttl.`,
		Example: "  listener nodes\n  listener nodes -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withFleet(func(f fleet) error {
				ns, err := f.Nodes(c.Context())
				if err != nil {
					return err
				}
				if len(ns) == 0 && !a.json() {
					a.note("no node is in this federation")
					return nil
				}
				return a.print(ns, func(w io.Writer) error { return status.NodesText(w, ns, time.Now()) })
			})
		},
	}
}
