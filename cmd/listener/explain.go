package main

import (
	"io"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) explainCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "explain",
		Short:   "why a run will or will not happen now, in words",
		Long:    "Say what is due and why, and every gate that a run has to pass, in order.",
		Example: "  listener explain\n  listener explain -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(func(cl *api.Client) error {
				ex, err := cl.Explain(c.Context())
				if err != nil {
					return err
				}
				return a.print(ex, func(w io.Writer) error { return ex.Text(w, time.Now(), a.width()) })
			})
		},
	}
}
