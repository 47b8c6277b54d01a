package main

import (
	"io"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) runsCmd() *cobra.Command {
	var n int
	c := &cobra.Command{
		Use:     "runs",
		Short:   "list the runs, or show one",
		Long:    "List the runs that are kept, newest first: when, how long, with which result and why.",
		Example: "  listener runs\n  listener runs -n 0 -o json\n  listener runs show latest",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if n < 0 {
				return failed(exitUsage, "0 lists all", "-n %d is no count", n)
			}
			return a.withAgent(func(cl *api.Client) error {
				runs, err := cl.Runs(c.Context(), n)
				if err != nil {
					return err
				}
				return a.print(runs, func(w io.Writer) error { return status.RunsText(w, runs, time.Now(), a.width()) })
			})
		},
	}
	c.Flags().IntVarP(&n, "count", "n", 20, "how many, 0 for all")
	c.AddCommand(a.runsShowCmd())
	return c
}

func (a *app) runsShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "show one run in full",
		Long:              "Show one run: its reasons, changed keys, services, steps and files. latest is the\nnewest one.",
		Example:           "  listener runs show latest\n  listener runs show 20261121-004235-3f9a -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withAgent(func(cl *api.Client) error {
				run, err := a.oneRun(c, cl, args[0])
				if err != nil {
					return err
				}
				return a.print(run, func(w io.Writer) error { return run.Text(w, time.Now(), a.width()) })
			})
		},
	}
}

func (a *app) oneRun(c *cobra.Command, cl *api.Client, id string) (status.Run, error) {
	if id != "latest" {
		return cl.Run(c.Context(), id)
	}
	runs, err := cl.Runs(c.Context(), 1)
	if err != nil {
		return status.Run{}, err
	}
	if len(runs) == 0 {
		return status.Run{}, failed(exitNotFound, "", "there are no runs yet")
	}
	return runs[0], nil
}

func (a *app) completeRuns(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if len(args) == 0 {
		_ = a.withAgent(func(cl *api.Client) error {
			runs, err := cl.Runs(c.Context(), 20)
			for _, r := range runs {
				ids = append(ids, r.ID)
			}
			return err
		})
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
