package main

import (
	"fmt"
	"io"

	"github.com/listener-agent/listener/graph"
	"github.com/spf13/cobra"
)

// problem is one thing wrong in one file.
type problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
	// line is all of it, as people read it.
	line string
}

// report is the answer of check.
type report struct {
	Checked  []string  `json:"checked"`
	Problems []problem `json:"problems"`
	// Notes are unknown members that are passed on.
	Notes []string `json:"notes"`
	// Fleet is what --fleet found.
	Fleet []graph.Finding `json:"fleet,omitempty"`
}

func (a *app) checkCmd() *cobra.Command {
	var fleet bool
	c := &cobra.Command{
		Use:     "check [FILE|DIR…]",
		Aliases: []string{"validate"},
		Short:   "find what is wrong in settings, manifests and attributes",
		Long: `Check the settings, and the manifests and attributes that they name; or the given
files: *.json are manifests, attributes*.toml are attributes, other *.toml are
settings. Of a directory: its *.json, or, when it has a listener.toml or
data_bags/service, those and its attributes.toml. Needs no agent. Prints every
problem as file:line:column and exits 78 if there is one.

--fleet also looks at what the store has for this node's federation: required keys
that nothing provides, in each region; values of operators that hide providers which
are up; services of this node that require each other. What other nodes wait for is
taken from what they say of themselves. Exits 75 when a key is missing, 78 when
services wait for each other for ever; a warning is no error.`,
		Example: "  listener check\n  listener check examples\n  listener check --fleet\n  listener validate data_bags/service/app-www.json -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if fleet {
				return a.checkFleet(c.Context(), args)
			}
			k := &checker{a: a, report: report{Checked: []string{}, Problems: []problem{}, Notes: []string{}}}
			if len(args) == 0 {
				k.settings(a.configOptions())
			}
			for _, path := range args {
				if err := k.path(path); err != nil {
					return err
				}
			}
			k.set()
			if err := a.print(k.report, k.text); err != nil {
				return err
			}
			if n := len(k.Problems); n > 0 {
				return failed(exitSettings, "", "%s found", problemCount(n))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&fleet, "fleet", false, "look at what the store has for the federation, too")
	return c
}

func (k *checker) text(w io.Writer) error {
	for _, p := range k.Problems {
		if _, err := fmt.Fprintln(w, p.line); err != nil {
			return err
		}
	}
	for _, n := range k.Notes {
		k.a.note("note: %s", n)
	}
	if len(k.Problems) == 0 {
		_, err := fmt.Fprintf(w, "ok: %d files checked\n", len(k.Checked))
		return err
	}
	return nil
}

func problemCount(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}
