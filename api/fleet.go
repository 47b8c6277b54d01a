package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// redacted stands for a value unless it was asked for.
const redacted = "(redacted)"

// Fleet reads what a federation has in the store: the server's half of
// /v1/providers and the like, and what the command line uses without an agent.
// Client has the same methods. Entries that are bad are in every answer, with
// the reason.
type Fleet struct {
	Store store.Store
	Space store.Space
}

// Keys counts the entries of each key that has any, sorted.
func (f Fleet) Keys(ctx context.Context) ([]status.KeyProviders, error) {
	kvs, _, err := f.Store.List(ctx, f.Space.Key("provides")+"/")
	if err != nil {
		return nil, fmt.Errorf("list providers: %w", err)
	}
	return CountProviders(f.providers(kvs, false)), nil
}

// CountProviders counts entries by key, sorted.
func CountProviders(ps []status.Provider) []status.KeyProviders {
	out := []status.KeyProviders{}
	at := map[string]int{}
	for _, p := range ps {
		i, ok := at[p.Key]
		if !ok {
			i = len(out)
			at[p.Key] = i
			out = append(out, status.KeyProviders{Key: p.Key, Regions: []string{}})
		}
		k := &out[i]
		switch n := (map[string]*int{"up": &k.Up, "down": &k.Down, "draining": &k.Draining, "standby": &k.Standby, "left": &k.Left})[p.State]; {
		case n == nil || p.Error != "":
			k.Bad++
		default:
			*n++
		}
		if p.Region != "" && !slices.Contains(k.Regions, p.Region) {
			k.Regions = append(k.Regions, p.Region)
		}
	}
	for i := range out {
		slices.Sort(out[i].Regions)
	}
	slices.SortFunc(out, func(a, b status.KeyProviders) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// Providers are the entries of key, sorted; their values only with reveal.
func (f Fleet) Providers(ctx context.Context, key string, reveal bool) ([]status.Provider, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	kvs, _, err := f.Store.List(ctx, f.Space.Providers(key))
	if err != nil {
		return nil, fmt.Errorf("list providers of %s: %w", key, err)
	}
	return f.providers(kvs, reveal), nil
}

// Nodes are the records of all nodes, sorted by name.
func (f Fleet) Nodes(ctx context.Context) ([]status.Node, error) {
	kvs, _, err := f.Store.List(ctx, f.Space.Key("nodes")+"/")
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return f.nodes(kvs), nil
}

// All is everything at one revision, without values.
func (f Fleet) All(ctx context.Context) (status.Fleet, error) {
	all := f.Space.Key() + "/"
	kvs, rev, err := f.Store.List(ctx, all)
	if err != nil {
		return status.Fleet{}, fmt.Errorf("list the federation %s: %w", f.Space.Federation, err)
	}
	return status.Fleet{
		Federation: f.Space.Federation, Revision: rev,
		Values: f.values(kvs), Providers: f.providers(kvs, false), Nodes: f.nodes(kvs),
	}, nil
}

// under are the entries of kvs below one part, such as nodes.
func (f Fleet) under(kvs []store.KV, part string) []store.KV {
	prefix := f.Space.Key(part) + "/"
	return slices.DeleteFunc(slices.Clone(kvs), func(kv store.KV) bool { return !strings.HasPrefix(kv.Key, prefix) })
}

func (f Fleet) providers(kvs []store.KV, reveal bool) []status.Provider {
	out := []status.Provider{}
	for _, kv := range f.under(kvs, "provides") {
		parts, ok := f.Space.Parts(kv.Key)
		p := status.Provider{Revision: kv.Rev}
		for i, field := range []*string{&p.Key, &p.Region, &p.Node, &p.Service} {
			if i+1 < len(parts) {
				*field = parts[i+1]
			}
		}
		if !ok || len(parts) != 5 || CheckKey(p.Key) != nil {
			p.Error = "no provider is at " + kv.Key + ", this is not its place"
			out = append(out, p)
			continue
		}
		e, err := store.DecodeProvider(kv.Value)
		if err != nil {
			p.Error = err.Error()
			out = append(out, p)
			continue
		}
		p.State, p.Value, p.Host, p.Port, p.LocalPort = string(e.State), e.Value, e.Host, e.Port, e.LocalPort
		p.Public, p.Hosts, p.Priority, p.Weight, p.Balance = e.Public, e.Hosts, e.Priority, e.Weight, e.Balance
		p.Incarnation, p.Claim = e.Incarnation, e.Claim
		if !reveal {
			p.Value = redacted
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b status.Provider) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Service, b.Service))
	})
	return out
}

func (f Fleet) nodes(kvs []store.KV) []status.Node {
	out := []status.Node{}
	for _, kv := range f.under(kvs, "nodes") {
		n := status.Node{Revision: kv.Rev}
		parts, ok := f.Space.Parts(kv.Key)
		if !ok || len(parts) != 2 {
			n.Node, n.Error = strings.TrimPrefix(kv.Key, f.Space.Key("nodes")+"/"), "no node has such a key"
			out = append(out, n)
			continue
		}
		n.Node = parts[1]
		r, err := store.DecodeNodeRecord(kv.Value)
		if err == nil && r.Ended != "" {
			n.Ended, err = time.Parse(time.RFC3339, r.Ended)
		}
		if err != nil {
			n.Error = err.Error()
			out = append(out, n)
			continue
		}
		n.Region, n.State, n.Version, n.Host = r.Region, r.AgentState, r.Version, r.Host
		n.Run, n.Result, n.Applied, n.Waiting = r.Run, r.Result, r.Revision, r.WaitingOn
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b status.Node) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// values are those that an operator put, of all regions.
func (f Fleet) values(kvs []store.KV) []status.FleetValue {
	out := []status.FleetValue{}
	for _, kv := range append(f.under(kvs, "values"), f.under(kvs, "regions")...) {
		parts, _ := f.Space.Parts(kv.Key)
		v := status.FleetValue{Revision: kv.Rev}
		switch {
		case len(parts) == 2:
			v.Key = parts[1]
		case len(parts) == 4 && parts[2] == "values":
			v.Region, v.Key = parts[1], parts[3]
		}
		if CheckKey(v.Key) == nil {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b status.FleetValue) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Region, b.Region))
	})
	return out
}
