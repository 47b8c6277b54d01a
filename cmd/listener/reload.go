package main

import (
	"io"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "reload",
		Short:   "read settings, manifests and attributes again",
		Long:    "Make the agent read its settings, manifests and attributes again. When something is\nwrong with the settings nothing changes, and the exit code is 78.",
		Example: "  listener check && listener reload",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(func(cl *api.Client) error {
				if err := cl.Reload(c.Context()); err != nil {
					return err
				}
				return a.print(api.Switched{Changed: true}, func(io.Writer) error { return a.printf("reloaded\n") })
			})
		},
	}
}
