package main

import (
	"context"
	"io"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) provisionCmd() *cobra.Command {
	var (
		req  api.ProvisionRequest
		wait bool
	)
	c := &cobra.Command{
		Use:   "provision",
		Short: "force a run of every ready service",
		Long: `Force a run of every ready service. Returns when it is queued; with --wait when it
has ended, with the exit code of the command that failed. While off it is refused,
unless --even-if-off.`,
		Example: "  listener provision\n  listener provision --now --wait\n  listener provision --even-if-off",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			req.Who = a.who()
			return a.withAgent(func(cl *api.Client) error {
				if wait {
					a.noteHolds(c.Context(), cl)
					run, err := cl.ProvisionWait(c.Context(), req)
					if err != nil {
						return err
					}
					return a.ended(run)
				}
				q, err := cl.Provision(c.Context(), req)
				if err != nil {
					return err
				}
				return a.print(q, func(io.Writer) error {
					if q.Held != "" {
						return a.printf("queued, but %s\n", q.Held)
					}
					return a.printf("queued; see `listener status`\n")
				})
			})
		},
	}
	c.Flags().BoolVar(&req.Now, "now", false, "skip settling, least interval, bucket and splay")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the run has ended, and exit as its command did")
	c.Flags().BoolVar(&req.EvenIfOff, "even-if-off", false, "also while the agent is off")
	return c
}

// noteHolds says why a run that is waited for may take its time.
func (a *app) noteHolds(ctx context.Context, cl *api.Client) {
	st, err := cl.Status(ctx)
	if err != nil {
		return // the request itself will say why
	}
	for _, h := range st.Holds {
		a.note("note: %s (%s, pid %d) holds runs back until it ends", h.Command, h.Who, h.PID)
	}
}

// ended prints a run and exits as its command did.
func (a *app) ended(run status.Run) error {
	if err := a.print(run, func(w io.Writer) error { return run.Text(w, time.Now(), a.width()) }); err != nil {
		return err
	}
	return exit(runExit(run))
}

// runExit is 0 for a run that succeeded, else the exit code of the first step
// that failed, and 1 when that has none.
func runExit(run status.Run) int {
	if run.Result == "ok" {
		return exitOK
	}
	for _, s := range run.Steps {
		if s.Result != "ok" && s.Result != "skipped" && s.Exit > 0 {
			return s.Exit
		}
	}
	return exitFailed
}
