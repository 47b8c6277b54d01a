package main

import (
	"context"
	"errors"
	"io"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) logsCmd() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:               "logs [ID]",
		Short:             "print the output of the newest run, or of one",
		Long:              "Print what the commands of a run wrote: of the newest run, or of run ID. -f goes on\nuntil the run has ended.",
		Example:           "  listener logs\n  listener logs -f\n  listener logs 20261121-004235-3f9a",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			if follow && a.json() {
				return failed(exitUsage, "leave -f or -o json away", "-f does not go with -o json")
			}
			return a.withAgent(func(cl *api.Client) error {
				log, run, err := cl.Log(c.Context(), first(args), follow)
				if err != nil {
					return err
				}
				defer func() { _ = log.Close() }()
				err = a.copyLog(log, run)
				if errors.Is(err, context.Canceled) {
					return nil
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	return c
}

func (a *app) copyLog(log io.Reader, run string) error {
	if !a.json() {
		_, err := io.Copy(a.out, log)
		return err
	}
	data, err := io.ReadAll(log)
	if err != nil {
		return err
	}
	return a.printJSON(map[string]string{"run": run, "log": string(data)})
}
