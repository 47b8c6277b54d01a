package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

// offline resolves without an agent, from files and what is in the store. It
// is the resolve.Picture of a node that has never run.
type offline struct {
	node      resolve.Node
	attrs     config.Attributes
	values    map[string]map[string]resolve.Entry // region → key
	manifests []*manifest.Manifest
	providers map[string][]resolve.Provider // of other nodes, by key
	chosen    map[string]string             // see resolve.Chosen; what exec has in use
}

var _ resolve.Picture = (*offline)(nil)

func (a *app) offline(ctx context.Context, cfg *config.Config) (*offline, error) {
	o := &offline{
		node:   resolve.Node{Name: cfg.Node, Host: cfg.Host, Region: cfg.Region, Federation: federation(cfg), RegionOrder: cfg.RegionOrder},
		values: map[string]map[string]resolve.Entry{}, providers: map[string][]resolve.Provider{},
		chosen: map[string]string{},
	}
	var err error
	if o.attrs, err = config.LoadAttributes(cfg.Attributes); err != nil && !config.OnlyMissing(err) {
		return nil, err
	}
	files, dirs := manifest.ReadDirs(cfg.Manifests)
	for _, d := range dirs {
		return nil, d
	}
	for _, f := range files {
		if f.Err != nil {
			return nil, f.Err
		}
		o.manifests = append(o.manifests, f.Manifest)
	}
	v, s, err := direct(cfg, false)
	if err != nil {
		if code := exitCode(err); code != exitUnreachable || a.storeFlag != "" {
			return nil, err
		}
		a.note("no store: only attributes and defaults count (%v)", err)
		return o, nil
	}
	return o, errors.Join(o.load(ctx, v), o.loadProviders(ctx, v), s.Close())
}

// loadProviders reads the entries of each required key that are up.
func (o *offline) loadProviders(ctx context.Context, v api.Values) error {
	for _, m := range o.manifests {
		for _, key := range m.RequiredKeys() {
			if _, done := o.providers[key]; done {
				continue
			}
			kvs, _, err := v.Store.List(ctx, v.Space.Providers(key))
			if err != nil {
				return fmt.Errorf("read the providers of %s: %w", key, err)
			}
			o.providers[key] = nil
			for _, kv := range kvs {
				p, err := store.DecodeProvider(kv.Value)
				parts, ok := v.Space.Parts(kv.Key)
				if err != nil || !ok || len(parts) != 5 || p.State != store.Up || parts[3] == o.node.Name {
					continue
				}
				o.providers[key] = append(o.providers[key], resolve.Provider{
					Region: parts[2], Node: parts[3], Service: parts[4], Text: p.Value, Rev: kv.Rev,
					State: resolve.Up, Priority: p.Priority, Weight: p.Weight,
				})
			}
		}
	}
	return nil
}

func (o *offline) load(ctx context.Context, v api.Values) error {
	for _, region := range []string{"", o.node.Region} {
		list, err := v.Values(ctx, region, "")
		if err != nil {
			return err
		}
		o.values[region] = map[string]resolve.Entry{}
		for _, one := range list.Values {
			o.values[region][one.Key] = resolve.Entry{Text: one.Value, Rev: one.Version}
		}
	}
	return nil
}

// environments resolves all services, or one.
func (o *offline) environments(id string) ([]environment, error) {
	var out []environment
	for _, m := range o.manifests {
		if id != "" && m.ID != id {
			continue
		}
		res := resolve.Service(m, o.node, o, nil)
		env := environment{id: m.ID}
		if res.State == resolve.Waiting {
			env.missing = res.Missing
		}
		for _, v := range res.Vars {
			env.vars = append(env.vars, render.Var{Name: v.Name, Value: v.Value})
		}
		out = append(out, env)
	}
	return out, known(id, out)
}

// Value is the operator's.
func (o *offline) Value(region, key string) (resolve.Entry, bool) {
	e, ok := o.values[region][key]
	return e, ok
}

// Providers are those that are up in the store, and those of this node's own
// manifests as if they were.
func (o *offline) Providers(key string) []resolve.Provider {
	out := slices.Clone(o.providers[key])
	for _, m := range o.manifests {
		t, ok := m.Provides[key]
		if !ok {
			continue
		}
		text, missing := resolve.Offer(m, o.node, t)
		if missing != "" {
			continue
		}
		out = append(out, resolve.Provider{
			Region: o.node.Region, Node: o.node.Name, Service: m.ID, Text: text,
			State: resolve.Up, Priority: m.Priority, Weight: m.Weight,
		})
	}
	return out
}

// Attribute is the static fallback.
func (o *offline) Attribute(region, key string) (string, bool) {
	if region == "" {
		v, ok := o.attrs.General[key]
		return v, ok
	}
	v, ok := o.attrs.Regions[region][key]
	return v, ok
}

// Proven is true: what was read is all there is.
func (o *offline) Proven(string) bool { return true }

// Replica is false: the store was read just now.
func (o *offline) Replica() bool { return false }

// Known is true.
func (o *offline) Known(string) bool { return true }

// Awaited is false.
func (o *offline) Awaited(string) bool { return false }

// Here is the value as it is: offline nothing is known of balancers.
func (o *offline) Here(_ string, p resolve.Provider) string { return p.Text }

func (*offline) Memo() resolve.Memo { return nil }

// Chosen is what was resolved before: at first, nobody.
func (o *offline) Chosen(choice string) string { return o.chosen[choice] }

// Settled is true.
func (o *offline) Settled(resolve.Provider) bool { return true }

// list shows a few of many.
func list(names []string) string {
	names = slices.Clone(names)
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("%d more", len(names)-6))
	}
	return strings.Join(names, ", ")
}
