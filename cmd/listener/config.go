package main

import "github.com/spf13/cobra"

func (a *app) configCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "print the effective settings, each with its origin",
		Long: `Print the effective settings as TOML that can be read back, each with where it came
from: default, FILE:LINE, environment NAME or flag.`,
		Example: "  listener config\n  listener config --set throttle.settle=0s\n  listener config -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			if a.json() {
				return cfg.PrintJSON(a.out)
			}
			return cfg.Print(a.out)
		},
	}
}
