package main

import (
	"io"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) acceptCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "accept [KEY]",
		Short: "take what is held back",
		Long: `Believe the store, or the manifests, where the agent does not: removals that are
held because too much vanished at once, a store that was set back, manifests that
all went away, a last known good value. Of one KEY, or of everything.`,
		Example: "  listener accept PRIMARY_DATABASE_URL\n  listener accept",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withAgent(func(cl *api.Client) error {
				acc, err := cl.Accept(c.Context(), first(args))
				if err != nil {
					return err
				}
				return a.print(acc, func(io.Writer) error {
					if len(acc.Changed) == 0 {
						return a.printf("nothing was held\n")
					}
					for _, what := range acc.Changed {
						if err := a.printf("accepted %s\n", what); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
}
