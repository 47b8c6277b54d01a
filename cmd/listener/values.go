package main

import (
	"context"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

// values is where the value commands read and write: an agent, or a store.
type values interface {
	Value(ctx context.Context, region, key string) (api.Value, error)
	Values(ctx context.Context, region, prefix string) (api.ValueList, error)
	Commit(ctx context.Context, region string, ops []api.ValueOp) (version uint64, err error)
	Watch(ctx context.Context, region, prefix string, fn func(api.ValueUpdate) error) error
}

var (
	_ values = (*api.Client)(nil)
	_ values = api.Values{}
)

// withValues calls fn with the values that this command line means: those of
// --store or LISTENER_STORE, else of the agent, else of [store].
func (a *app) withValues(write bool, fn func(values) error) error {
	if a.storeFlag == "" && a.env("LISTENER_STORE") == "" {
		c, err := a.connect()
		if err == nil {
			defer c.Close()
			return fn(c)
		}
		if a.namedSocket() != "" || !noAgent(err) {
			return err
		}
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	v, s, err := direct(cfg, write)
	if err != nil {
		return err
	}
	err = fn(v)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// region adds --region to a command.
func region(c *cobra.Command, target *string) {
	c.Flags().StringVar(target, "region", "", "the value for this `REGION`, which comes before the one for every region")
}

// completeKeys offers the keys that are there.
func (a *app) completeKeys(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var keys []string
	_ = a.withValues(false, func(v values) error {
		list, err := v.Values(c.Context(), "", prefix)
		for _, one := range list.Values {
			keys = append(keys, one.Key)
		}
		return err
	})
	return keys, cobra.ShellCompDirectiveNoFileComp
}
