package main

import (
	"fmt"
	"io"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) drainCmd() *cobra.Command {
	var (
		req  api.DrainRequest
		wait bool
	)
	c := &cobra.Command{
		Use:   "drain",
		Short: "take what this node provides out of service",
		Long: `Take what this node provides out of service: its entries in the store say that they
are draining, so that nobody new comes, and after publish.drain_wait they are withdrawn.
Its services run on, and it is provisioned as before. It survives restarts and reboots,
until listener undrain. A node that is drained keeps who drained it and why.`,
		Example: "  listener drain -m \"kernel update\"\n  listener drain --wait && reboot",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			req.Who = a.who()
			return a.withAgent(func(cl *api.Client) error {
				if err := cl.Drain(c.Context(), req); err != nil {
					return err
				}
				st, err := poll(c.Context(), cl, 0, func(st status.Status) bool {
					d := drainOf(st)
					return d == nil || !wait || d.State == "drained" // nil: somebody said undrain
				})
				if err != nil {
					return err
				}
				d := drainOf(st)
				if d == nil {
					return failed(exitFailed, "", "somebody ended the drain meanwhile")
				}
				return a.print(d, func(w io.Writer) error { return drainText(w, *d) })
			})
		},
	}
	c.Flags().StringVarP(&req.Reason, "message", "m", "", "`REASON` that status shows")
	c.Flags().BoolVar(&wait, "wait", false, "wait until everything is withdrawn")
	return c
}

func drainOf(st status.Status) *status.Drain {
	if st.Publishing == nil {
		return nil
	}
	return st.Publishing.Drain
}

func drainText(w io.Writer, d status.Drain) error {
	text := d.State
	if !d.Until.IsZero() {
		text += ", withdrawn at " + d.Until.Local().Format(time.TimeOnly)
	}
	_, err := fmt.Fprintf(w, "%s; until `listener undrain`\n", text)
	return err
}

func (a *app) undrainCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "undrain",
		Short:   "put what this node provides into service again",
		Long:    "End what listener drain began: what this node provides is published again, as its\nchecks allow. A node that is not drained stays as it is.",
		Example: "  listener undrain",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(func(cl *api.Client) error {
				changed, err := cl.Undrain(c.Context())
				if err != nil {
					return err
				}
				return a.print(api.Switched{Changed: changed}, func(io.Writer) error {
					if changed {
						return a.printf("undrained\n")
					}
					return a.printf("it was not drained\n")
				})
			})
		},
	}
}
