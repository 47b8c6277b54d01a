package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/graph"
	"github.com/listener-agent/listener/status"
)

// fleetInput is what graph and check --fleet look at: the manifests of paths,
// else of the agent, else of the settings; and what the store has. Without a
// store Fleet is nil, and the error why is returned. The checker has what is
// wrong with the files.
func (a *app) fleetInput(ctx context.Context, paths []string) (in graph.Input, k *checker, store, err error) {
	k = &checker{a: a, report: report{Checked: []string{}, Problems: []problem{}, Notes: []string{}}}
	for _, path := range paths {
		if err := k.path(path); err != nil {
			return in, k, nil, err
		}
	}
	cfg, err := a.config()
	if err != nil {
		return in, k, nil, err
	}
	if len(paths) > 0 && k.cfg != nil { // of the directory
		cfg = k.cfg
	}
	in = graph.Input{Node: cfg.Node, Region: cfg.Region, Federation: federation(cfg), RegionOrder: cfg.RegionOrder}
	store = a.withFleet(func(f fleet) (err error) {
		if cl, ok := f.(*api.Client); ok {
			err = a.fromAgent(ctx, cl, &in, k, len(paths) == 0)
		}
		if err != nil {
			return err
		}
		all, err := f.All(ctx)
		if err == nil {
			in.Fleet = &all
		}
		return err
	})
	if len(paths) == 0 && in.Attribute == nil { // no agent said what there is
		k.settings(a.configOptions())
	}
	k.set()
	a.attributesOf(k, cfg, &in)
	for _, m := range k.manifests {
		if m.Federation == "" || m.Federation == in.Federation {
			in.Manifests = append(in.Manifests, m)
		}
	}
	return in, k, store, nil
}

// attributesOf fills in those that files name; an agent's are known already.
func (a *app) attributesOf(k *checker, cfg *config.Config, in *graph.Input) {
	if in.Attribute != nil {
		return
	}
	files := cfg.Attributes
	for _, path := range k.Checked {
		if strings.HasPrefix(filepath.Base(path), "attributes") && !slices.Contains(files, path) {
			files = append(slices.Clone(files), path)
		}
	}
	attrs, _ := config.LoadAttributes(files) // what is wrong with them, k has
	in.Attribute = func(key string) bool {
		_, general := attrs.General[key]
		_, regional := attrs.Regions[in.Region][key]
		return general || regional
	}
}

// fromAgent asks the agent who it is and, with own, for its manifests and
// which keys its attributes have.
func (a *app) fromAgent(ctx context.Context, cl *api.Client, in *graph.Input, k *checker, own bool) error {
	st, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	in.Node, in.Region, in.Federation = st.Node, st.Region, st.Federation
	if !own {
		return nil
	}
	var dirs []string
	for _, s := range st.Services {
		dirs = append(dirs, filepath.Dir(s.File))
	}
	slices.Sort(dirs)
	k.dirs(slices.Compact(dirs))
	attrs := map[string]bool{}
	for _, s := range st.Services {
		vars, err := cl.Resolve(ctx, s.ID, false)
		if err != nil {
			return err
		}
		for _, v := range vars {
			noteAttributes(attrs, v.Keys)
		}
	}
	in.Attribute = func(key string) bool { return attrs[key] }
	return nil
}

func noteAttributes(attrs map[string]bool, keys []status.ResolvedKey) {
	for _, key := range keys {
		if strings.Contains(key.Origin, "attributes") {
			attrs[key.Key] = true
		}
	}
}
