package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) resolveCmd() *cobra.Command {
	var reveal bool
	c := &cobra.Command{
		Use:   "resolve SERVICE",
		Short: "each variable of a service with its value and where that comes from",
		Long: `Show each variable of a service: its value, which rank it came from (an operator's
value, a provider, attributes, a default, last known good), the revision, and how
long the agent has known it. Values from keys are shown only with --reveal.`,
		Example:           "  listener resolve app-www\n  listener resolve app-www --reveal -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withAgent(func(cl *api.Client) error {
				vars, err := cl.Resolve(c.Context(), args[0], reveal)
				if err != nil {
					return err
				}
				return a.print(vars, func(w io.Writer) error { return resolvedText(w, vars, time.Now()) })
			})
		},
	}
	c.Flags().BoolVar(&reveal, "reveal", false, "show values, which may be secrets")
	return c
}

func resolvedText(w io.Writer, vars []status.Resolved, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(t, "VARIABLE\tVALUE\tFROM"); err != nil {
		return err
	}
	for _, v := range vars {
		value := v.Value
		if !v.Present {
			value = "(not set)"
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, value, origins(v.Keys, now)); err != nil {
			return err
		}
	}
	return t.Flush()
}

func origins(keys []status.ResolvedKey, now time.Time) string {
	if len(keys) == 0 {
		return "manifest"
	}
	var out []string
	for _, k := range keys {
		text := k.Key + ": " + k.Origin
		if k.Revision != 0 {
			text += fmt.Sprintf(", revision %d", k.Revision)
		}
		if !k.Seen.IsZero() {
			text += fmt.Sprintf(", seen %s ago", now.Sub(k.Seen).Round(time.Second))
		}
		if k.Why != "" {
			text += " (" + k.Why + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func (a *app) completeServices(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if len(args) == 0 {
		_ = a.withAgent(func(cl *api.Client) error {
			st, err := cl.Status(c.Context())
			for _, s := range st.Services {
				ids = append(ids, s.ID)
			}
			return err
		})
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
