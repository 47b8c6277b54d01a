package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

// pollEvery is how often a command that waits asks again.
const pollEvery = 100 * time.Millisecond

func (a *app) statusCmd() *cobra.Command {
	var (
		check, synced bool
		timeout       time.Duration
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "what runs, what waits and why, what is missing, what failed",
		Long: `Show on one screen: is it on, what runs, what is pending and why, which gate
holds it until when, what is missing or degraded since when, what failed with
its last lines; a drained node, checks that are down, what it provides that is not
up, its balancers. Exits 0 if the agent answers, 5 if not.

--check is for monitoring: one line, and exit 0 when the agent is on, reaches
its store, no step failed last time, no service waits and no condition is a
warning or an error; else 1.

--wait-synced waits until nothing runs, nothing is pending and every ready
service is provisioned with the present values; 75 when --timeout is over.`,
		Example: "  listener status\n  listener status --check\n  listener status --wait-synced --timeout 1m\n  listener status -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(func(cl *api.Client) error {
				st, err := cl.Status(c.Context())
				if err == nil && synced {
					st, err = waitSynced(c.Context(), cl, timeout)
				}
				if err != nil {
					return err
				}
				if check {
					return a.check(st)
				}
				return a.print(st, func(w io.Writer) error { return st.Text(w, time.Now(), a.width()) })
			})
		},
	}
	c.Flags().BoolVar(&check, "check", false, "one line, and exit 1 when an operator should look")
	c.Flags().BoolVar(&synced, "wait-synced", false, "wait until everything is provisioned")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long --wait-synced waits; 0: without limit")
	return c
}

// withAgent calls fn with the agent of this command line.
func (a *app) withAgent(fn func(*api.Client) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c)
}

func waitSynced(ctx context.Context, c *api.Client, timeout time.Duration) (status.Status, error) {
	st, err := poll(ctx, c, timeout, func(st status.Status) bool { return st.Synced })
	if timedOut(ctx, err) {
		return st, failed(exitWaiting, "see `listener explain`", "not synced after %s", timeout)
	}
	return st, err
}

// poll asks for the status until done is true.
func poll(ctx context.Context, c *api.Client, timeout time.Duration, done func(status.Status) bool) (status.Status, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		st, err := c.Status(ctx)
		if err != nil || done(st) {
			return st, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// timedOut: our own limit was reached, not the caller's.
func timedOut(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && isTimeout(err)
}

// check is one line for a monitoring system.
func (a *app) check(st status.Status) error {
	problems := problems(st)
	if a.json() {
		if err := a.printJSON(map[string]any{"ok": len(problems) == 0, "problems": problems}); err != nil {
			return err
		}
	} else if len(problems) == 0 {
		return a.printf("OK: on, %s, %s\n", st.Store.State, status.Count(len(st.Services), "service"))
	} else if err := a.printf("PROBLEM: %s\n", strings.Join(problems, "; ")); err != nil {
		return err
	}
	if len(problems) > 0 {
		return exit(exitFailed)
	}
	return nil
}

func problems(st status.Status) []string {
	out := []string{}
	if !st.On || st.Off != nil {
		out = append(out, "off")
	}
	if st.Store.State != "ok" {
		out = append(out, "the store is "+st.Store.State)
	}
	for _, f := range st.Failures {
		out = append(out, "step "+f.Step+": "+f.Text)
	}
	waiting := 0
	for _, s := range st.Services {
		if s.State != "ready" {
			waiting++
		}
	}
	if waiting > 0 {
		out = append(out, fmt.Sprintf("%d of %d services are not ready", waiting, len(st.Services)))
	}
	for _, c := range st.Conditions {
		if c.Severity != "info" {
			out = append(out, c.Name+": "+c.Text)
		}
	}
	return out
}
