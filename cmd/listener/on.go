package main

import (
	"io"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) onCmd() *cobra.Command {
	return &cobra.Command{
		Use:       "on [provision|balancer]",
		Short:     "switch on, and provision every ready service",
		Long:      "Switch on what `listener off` switched off: both lanes, or one. A run follows that\ncovers every ready service. When it is on already, nothing changes.",
		Example:   "  listener on",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"provision", "balancer"},
		RunE: func(c *cobra.Command, args []string) error {
			return a.withAgent(func(cl *api.Client) error {
				changed, err := cl.On(c.Context(), first(args))
				if err != nil {
					return err
				}
				return a.print(api.Switched{Changed: changed}, func(io.Writer) error {
					if changed {
						return a.printf("on\n")
					}
					return a.printf("on; it was on already\n")
				})
			})
		},
	}
}
