package main

import (
	"github.com/spf13/cobra"
)

func (a *app) listgetCmd() *cobra.Command {
	var reg string
	c := &cobra.Command{
		Use:               "listget [PREFIX]",
		Short:             "list keys with their values",
		Long:              "List KEY=value lines, all as they were at one moment. `listener put --from-file`\nreads them back.",
		Example:           "  listener listget\n  listener listget PRIMARY_ -o json\n  listener listget > values.env",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withValues(false, func(v values) error {
				list, err := v.Values(c.Context(), reg, first(args))
				if err != nil {
					return err
				}
				if a.json() {
					return a.printJSON(list)
				}
				for _, one := range list.Values {
					if err := a.printf("%s=%s\n", one.Key, one.Value); err != nil {
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
