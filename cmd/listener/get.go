package main

import "github.com/spf13/cobra"

func (a *app) getCmd() *cobra.Command {
	var reg string
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "print a value",
		Long: `Print the value that an operator put under KEY, and a newline. A value that only
providers or attributes have is not here: see listener resolve. Exits 3 when
there is none.`,
		Example:           "  listener get PRIMARY_DATABASE_URL\n  listener get API_URL --region us-east\n  listener get API_URL -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withValues(false, func(v values) error {
				value, err := v.Value(c.Context(), reg, args[0])
				if err != nil {
					return err
				}
				if a.json() {
					return a.printJSON(value)
				}
				return a.printf("%s\n", value.Value)
			})
		},
	}
	region(c, &reg)
	return c
}
