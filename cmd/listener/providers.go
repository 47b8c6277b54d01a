package main

import (
	"context"
	"io"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

// fleet is where the commands that look at other nodes read: an agent, or a
// store.
type fleet interface {
	Keys(ctx context.Context) ([]status.KeyProviders, error)
	Providers(ctx context.Context, key string, reveal bool) ([]status.Provider, error)
	Nodes(ctx context.Context) ([]status.Node, error)
	All(ctx context.Context) (status.Fleet, error)
}

var (
	_ fleet = (*api.Client)(nil)
	_ fleet = api.Fleet{}
)

// withFleet calls fn with what this command line means, see withValues.
func (a *app) withFleet(fn func(fleet) error) error {
	return a.withValues(false, func(v values) error {
		switch v := v.(type) {
		case api.Values:
			return fn(api.Fleet(v))
		default:
			return fn(v.(*api.Client)) // withValues has no third
		}
	})
}

func (a *app) providersCmd() *cobra.Command {
	var reveal bool
	c := &cobra.Command{
		Use:   "providers [KEY]",
		Short: "who provides a key in this federation, and in which state",
		Long: `Show all entries of a key in this federation as the store has them: region, node,
service, state, address, priority, weight. Entries that are bad are shown with the
reason. Values are shown only with --reveal, since they may be secrets. Without KEY:
a line per key that somebody provides, with how many are up, down and so on.`,
		Example:           "  listener providers\n  listener providers READONLY_API_URL\n  listener providers READONLY_API_URL --reveal -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeProvided,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withFleet(func(f fleet) error {
				if len(args) == 0 {
					return a.providerKeys(c.Context(), f)
				}
				ps, err := f.Providers(c.Context(), args[0], reveal)
				if err != nil {
					return err
				}
				if len(ps) == 0 {
					return failed(exitNotFound, "`listener providers` lists the keys that somebody provides", "nobody provides %s", args[0])
				}
				return a.print(ps, func(w io.Writer) error { return status.ProvidersText(w, ps, time.Now()) })
			})
		},
	}
	c.Flags().BoolVar(&reveal, "reveal", false, "show values, which may be secrets")
	return c
}

func (a *app) providerKeys(ctx context.Context, f fleet) error {
	keys, err := f.Keys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 && !a.json() {
		a.note("nobody provides anything")
		return nil
	}
	return a.print(keys, func(w io.Writer) error { return status.KeyProvidersText(w, keys) })
}

func (a *app) completeProvided(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		_ = a.withFleet(func(f fleet) error {
			keys, err := f.Keys(c.Context())
			for _, k := range keys {
				names = append(names, k.Key)
			}
			return err
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
