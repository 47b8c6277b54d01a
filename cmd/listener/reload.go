package main

import (
	"io"
	"slices"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "reload",
		Short:   "read settings, manifests and attributes again",
		Long:    "Make the agent read its settings, manifests and attributes again. When something is\nwrong with the settings nothing changes, and the exit code is 78. What was read and is\nnot in force, such as a manifest with an error, is said on standard error.",
		Example: "  listener check && listener reload",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(func(cl *api.Client) error {
				if err := cl.Reload(c.Context()); err != nil {
					return err
				}
				if err := a.print(api.Switched{Changed: true}, func(io.Writer) error { return a.printf("reloaded\n") }); err != nil {
					return err
				}
				st, err := cl.Status(c.Context())
				if err != nil {
					return err
				}
				for _, cond := range st.Conditions {
					if slices.Contains(readConditions, cond.Name) {
						a.note("%s: %s", cond.Name, cond.Text)
					}
				}
				return nil
			})
		},
	}
}

// readConditions say that what is in files is not in force.
var readConditions = []string{"manifest refused", "manifests missing", "manifests gone", "attributes", "restart needed"}
