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
		Long: `Believe the store, or the manifests, where the agent does not. Without KEY take all
that is held: values of a store that was set back, manifests that all went away, the
federation that they name. With KEY take that key, and only so is a last known good
value given up: during an outage many keys look absent.`,
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
