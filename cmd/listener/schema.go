package main

import (
	"github.com/listener-agent/listener/manifest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) schemaCmd() *cobra.Command {
	var commands bool
	c := &cobra.Command{
		Use:   "schema",
		Short: "print the JSON Schema of manifests",
		Long: `Print the JSON Schema (2020-12) of data_bags/service/*.json, for editors and checks;
or, with --commands, this command line as JSON, from which the man pages are made.`,
		Example: "  listener schema > service.schema.json\n  listener schema --commands",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if commands {
				return a.printJSON(describe(c.Root()))
			}
			_, err := a.out.Write(manifest.Schema())
			return err
		},
	}
	c.Flags().BoolVar(&commands, "commands", false, "print the commands and their flags instead")
	return c
}

// commandDoc is one command as `listener schema --commands` prints it.
type commandDoc struct {
	Path     string       `json:"path"` // listener runs show
	Usage    string       `json:"usage"`
	Aliases  []string     `json:"aliases,omitempty"`
	Group    string       `json:"group,omitempty"` // heading in the list of commands
	Short    string       `json:"short"`
	Long     string       `json:"long,omitempty"`
	Example  string       `json:"example,omitempty"`
	Flags    []flagDoc    `json:"flags,omitempty"` // its own; those of listener are for all
	Commands []commandDoc `json:"commands,omitempty"`
}

type flagDoc struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Argument  string `json:"argument,omitempty"` // empty: it takes none
	Text      string `json:"text"`
}

func describe(c *cobra.Command) commandDoc {
	d := commandDoc{
		Path: c.CommandPath(), Usage: c.UseLine(), Aliases: c.Aliases, Group: c.GroupID,
		Short: c.Short, Long: c.Long, Example: c.Example,
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		argument, text := pflag.UnquoteUsage(f)
		d.Flags = append(d.Flags, flagDoc{f.Name, f.Shorthand, argument, text})
	})
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			d.Commands = append(d.Commands, describe(sub))
		}
	}
	return d
}
