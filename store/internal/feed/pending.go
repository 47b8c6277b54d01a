package feed

import (
	"maps"
	"slices"
	"strings"

	"github.com/listener-agent/listener/store"
)

// pending is what a receiver has not taken yet: at most a Reset with the
// changes since, or changes alone, and then a Lost.
type pending struct {
	rev    uint64
	reset  bool
	other  bool                  // of the Reset: it is of another history
	base   []store.KV            // of the Reset, sorted by key
	kvs    map[string]store.KV   // written since, the newest of each key
	gone   map[string]store.Gone // removed since, and not written again
	isLost bool
	cause  error // of the Lost
}

func (p *pending) empty() bool {
	return !p.reset && !p.isLost && len(p.kvs)+len(p.gone) == 0
}

func (p *pending) change(u store.Update) {
	if p.kvs == nil {
		p.kvs, p.gone = make(map[string]store.KV), make(map[string]store.Gone)
	}
	p.rev = u.Rev
	for _, kv := range u.KVs {
		p.kvs[kv.Key] = kv
		delete(p.gone, kv.Key)
	}
	for _, g := range u.Gone {
		p.gone[g.Key] = g
		delete(p.kvs, g.Key)
	}
}

func (p *pending) lose(err error) { p.isLost, p.cause = true, err }

// take removes the next update. What was known before a Lost goes first.
func (p *pending) take() (u store.Update, ok bool) {
	switch {
	case p.reset:
		u = store.Update{Kind: store.Reset, Rev: p.rev, OtherHistory: p.other, KVs: p.whole()}
	case len(p.kvs)+len(p.gone) > 0:
		u = store.Update{Kind: store.Change, Rev: p.rev, KVs: p.written(), Gone: slices.SortedFunc(maps.Values(p.gone), byGoneKey)}
	case p.isLost:
		u = store.Update{Kind: store.Lost, Err: p.cause}
		*p = pending{}
		return u, true
	default:
		return u, false
	}
	*p = pending{isLost: p.isLost, cause: p.cause}
	return u, true
}

func (p *pending) written() []store.KV {
	return slices.SortedFunc(maps.Values(p.kvs), byKey)
}

// whole is the Reset's state with the changes since applied.
func (p *pending) whole() []store.KV {
	if len(p.kvs)+len(p.gone) == 0 {
		return p.base
	}
	all := slices.DeleteFunc(p.base, func(kv store.KV) bool {
		_, written := p.kvs[kv.Key]
		_, removed := p.gone[kv.Key]
		return written || removed
	})
	all = append(all, p.written()...)
	slices.SortFunc(all, byKey)
	return all
}

func byKey(a, b store.KV) int       { return strings.Compare(a.Key, b.Key) }
func byGoneKey(a, b store.Gone) int { return strings.Compare(a.Key, b.Key) }
