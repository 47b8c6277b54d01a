package main

import (
	"github.com/spf13/cobra"
)

func (a *app) listCmd() *cobra.Command {
	var reg string
	c := &cobra.Command{
		Use:               "list [PREFIX]",
		Short:             "list the keys that have a value",
		Example:           "  listener list\n  listener list PRIMARY_\n  listener list --region us-east",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withValues(false, func(v values) error {
				list, err := v.Values(c.Context(), reg, first(args))
				if err != nil {
					return err
				}
				keys := make([]string, 0, len(list.Values))
				for _, one := range list.Values {
					keys = append(keys, one.Key)
				}
				if a.json() {
					return a.printJSON(keys)
				}
				for _, k := range keys {
					if err := a.printf("%s\n", k); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	region(c, &reg)
	return c
}

// first is the optional argument, "" when it is not there.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
