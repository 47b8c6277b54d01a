package main

import (
	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) deleteCmd() *cobra.Command {
	var (
		reg string
		ver uint64
	)
	c := &cobra.Command{
		Use:               "delete KEY…",
		Short:             "remove values, in one transaction",
		Long:              "Remove what an operator put under the keys: all or none. Exits 3 when one is not\nthere, 4 when --if-version does not hold.",
		Example:           "  listener delete PRIMARY_DATABASE_URL\n  listener delete API_URL --region us-east --if-version 42",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			if ver != 0 && len(args) > 1 {
				return failed(exitUsage, "", "--if-version goes with one key")
			}
			return a.withValues(true, func(v values) error {
				var ops []api.ValueOp
				for _, key := range args {
					if _, err := v.Value(c.Context(), reg, key); err != nil {
						return err
					}
					ops = append(ops, api.ValueOp{Key: key, Delete: true, Version: ver})
				}
				rev, err := v.Commit(c.Context(), reg, ops)
				if err != nil {
					return conflictHint(err, putFlags{})
				}
				if a.json() {
					return a.printJSON(api.Committed{Version: rev})
				}
				for _, key := range args {
					if err := a.printf("%s: deleted\n", key); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	region(c, &reg)
	c.Flags().Uint64Var(&ver, "if-version", 0, "only if this is the present version `N`")
	return c
}
