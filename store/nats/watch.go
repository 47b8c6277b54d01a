package nats

import (
	"context"
	"slices"
	"strings"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	w := &watch{feed: feed.New(prefixes), bound: make(map[string]uint64)}
	for _, p := range prefixes {
		w.refused = w.refused || store.CheckPrefix(p) != nil
	}
	ctx, cancel := context.WithCancel(ctx)
	started := s.start(func() {
		defer cancel()
		s.hub.join(w)
		w.feed.Run(ctx, s.ctx.Done())
		s.hub.leave(w)
	})
	if !started {
		cancel()
		w.feed.Run(ctx, s.ctx.Done()) // closes its channel
	}
	return w.feed.C()
}

// watch is one Watch. The hub's lock guards it.
type watch struct {
	feed    *feed.Feed
	refused bool // a prefix is malformed: nothing is followed

	// ready: a Reset was sent and everything since. Else early holds what
	// came after the watch had joined the consumer.
	ready bool
	early []entry
	// round counts how often it had to begin anew: a state that was read for
	// an earlier round is of no use.
	round int
	// at is the sequence up to which it was told everything.
	at uint64
	// rev is the revision of the last update; it never goes back but in a
	// Reset.
	rev uint64
	// bound has the revision of each key that is bound to a session: a
	// message with the same one only refreshes it.
	bound map[string]uint64
}

// reset sends the whole state, which has all up to the sequence at, and then
// what came in the meantime.
func (w *watch) reset(rev, at uint64, all []entry) {
	clear(w.bound)
	var kvs []store.KV
	for _, e := range all {
		if e.gone || !w.feed.Prefixes().Match(e.key) {
			continue
		}
		if e.session != "" {
			w.bound[e.key] = e.rev
		}
		kv := e.kv()
		kv.Value = slices.Clone(kv.Value) // other watches have it too
		kvs = append(kvs, kv)
	}
	sortKVs(kvs)
	w.feed.Reset(rev, kvs)
	w.ready, w.at, w.rev = true, at, rev
	early := w.early
	w.early = nil
	w.change(early)
}

// lost says that nothing is sure any more.
func (w *watch) lost(err error) {
	w.again()
	w.feed.Lost(err)
}

// again makes the watch wait for a Reset.
func (w *watch) again() {
	w.ready, w.early = false, nil
	w.round++
}

// change sends entries, in the order of their sequences, as one update.
func (w *watch) change(entries []entry) {
	if !w.ready {
		w.early = append(w.early, entries...)
		return
	}
	newest := make(map[string]entry, len(entries))
	for _, e := range entries {
		if e.seq > w.at && w.feed.Prefixes().Match(e.key) {
			newest[e.key] = e
		}
	}
	var rev uint64
	var kvs []store.KV
	var gone []store.Gone
	for _, e := range newest {
		rev = max(rev, e.seq, e.rev)
		switch {
		case e.gone:
			delete(w.bound, e.key)
			gone = append(gone, store.Gone{Key: e.key, Rev: e.rev, Expired: e.expired})
			continue
		case e.session == "":
			delete(w.bound, e.key)
		case w.bound[e.key] == e.rev:
			continue
		default:
			w.bound[e.key] = e.rev
		}
		kvs = append(kvs, e.kv())
	}
	if n := len(entries); n > 0 {
		w.at = max(w.at, entries[n-1].seq)
	}
	if len(kvs)+len(gone) > 0 {
		sortKVs(kvs)
		slices.SortFunc(gone, func(a, b store.Gone) int { return strings.Compare(a.Key, b.Key) })
		w.rev = max(rev, w.rev)
		w.feed.Change(w.rev, kvs, gone)
	}
}
