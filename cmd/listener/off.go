package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) offCmd() *cobra.Command {
	var (
		req  api.OffRequest
		wait bool
	)
	c := &cobra.Command{
		Use:   "off [provision|balancer]",
		Short: "switch off, for good or for a time",
		Long: `Switch off both lanes, or one. What changes is watched and shown, and nothing is
provisioned until listener on, or until --for is over. It survives reboots. A run
in progress ends by itself; --wait waits for it.`,
		Example:   "  listener off -m \"database work\"\n  listener off -m \"release\" --for 2h --wait\n  listener off balancer",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"provision", "balancer"},
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("for") && req.For <= 0 {
				return failed(exitUsage, "write a time such as 2h, or leave --for away", "--for %s is no time to come", req.For)
			}
			req.Lane, req.Who = first(args), a.who()
			return a.withAgent(func(cl *api.Client) error {
				if err := cl.Off(c.Context(), req); err != nil {
					return err
				}
				if wait {
					if _, err := poll(c.Context(), cl, 0, func(st status.Status) bool { return st.Running == nil }); err != nil {
						return err
					}
				}
				return a.print(api.Switched{Changed: true}, func(w io.Writer) error { return offText(w, req) })
			})
		},
	}
	c.Flags().StringVarP(&req.Reason, "message", "m", "", "`REASON` that status shows")
	c.Flags().DurationVar(&req.For, "for", 0, "switch on again after this `TIME`, such as 2h")
	c.Flags().BoolVar(&wait, "wait", false, "wait until a run in progress has ended")
	return c
}

func offText(w io.Writer, req api.OffRequest) error {
	until := "until `listener on`"
	if req.For > 0 {
		until = "until " + time.Now().Add(req.For).Format(time.DateTime)
	}
	lane := ""
	if req.Lane != "" {
		lane = " (" + req.Lane + ")"
	}
	_, err := fmt.Fprintf(w, "off%s %s\n", lane, until)
	return err
}

// who is the person behind sudo; "" leaves it to the agent, which knows the
// user at the other end of its socket.
func (a *app) who() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return cmp.Or(a.env("SUDO_USER"), a.env("DOAS_USER"))
}
