package main

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
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
				if err == nil {
					a.noteJournal(c.Context(), cl, run)
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	return c
}

// noteJournal says where the output is, too, when the run had units: there it
// stays for as long as the journal keeps it, and all of it.
func (a *app) noteJournal(ctx context.Context, cl *api.Client, id string) {
	run, err := cl.Run(ctx, id)
	if err == nil && slices.ContainsFunc(run.Steps, func(s status.Step) bool { return s.Unit != "" }) {
		a.note("the journal has it too: journalctl LISTENER_RUN_ID=%s", id)
	}
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
