package main

import (
	"github.com/listener-agent/listener/manifest"
	"github.com/spf13/cobra"
)

func (a *app) schemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "print the JSON Schema of manifests",
		Long:    "Print the JSON Schema (2020-12) of data_bags/service/*.json, for editors and checks.",
		Example: "  listener schema > service.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(manifest.Schema())
			return err
		},
	}
}
