package etcd

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	f := feed.New(prefixes)
	run := func() {
		w := &watch{feed: f, prefixes: f.Prefixes().Sorted(), since: time.Now()}
		if slices.ContainsFunc(prefixes, func(p string) bool { return store.CheckPrefix(p) != nil }) {
			f.Run(ctx, s.ctx.Done()) // it says why, and nothing else
			return
		}
		s.link.once.Do(func() { s.work.Go(s.link.run) })
		select {
		case s.link.joins <- w:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		f.Run(ctx, s.ctx.Done())
		select {
		case s.link.leaves <- w:
		case <-s.ctx.Done():
		}
	}
	if !s.start(run) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		f.Run(ended, s.ctx.Done()) // closes its channel
	}
	return f.C()
}

// watch is one Store.Watch. The link's goroutine owns all but the feed.
type watch struct {
	feed     *feed.Feed
	prefixes []string  // none overlaps another
	since    time.Time // when it began to wait for a state

	phase phase
	again time.Time // when to read again what was refused
	tries int       // how often it was
	told  bool      // of a silence, since the last Reset
	rev   int64     // newest that the feed has
	first int64     // what rev was when the server was asked for its watches
	// leased are the keys that end with a session: a delete does not say.
	leased  map[string]struct{}
	ids     []int64 // of the server's watches, one for each prefix
	missing int     // how many of these the server has yet to make
	gone    bool    // it was left while the server made its watches
	anew    bool    // history was compacted meanwhile: it is to be read again
	batch   []*mvccpb.Event
	places  []place // one for each prefix
}

type phase uint8

const (
	waiting  phase = iota // to be read
	reading               // the state is on its way
	creating              // the state was sent; the server makes the watches
	live
)

// wait makes it wait for a state.
func (w *watch) wait() {
	if w.phase >= creating { // it had one
		w.since = time.Now()
	}
	w.phase, w.ids, w.missing, w.anew, w.batch = waiting, nil, 0, false, nil
}

// reset sends the whole state.
func (w *watch) reset(st *state) {
	w.rev, w.told, w.tries, w.leased, w.batch = st.rev, false, 0, nil, nil
	w.arrange(st)
	for _, kv := range st.kvs {
		w.lease(kv)
	}
	w.feed.Reset(uint64(st.rev), st.toKVs())
}

// lease notes whether a key that was written ends with a session.
func (w *watch) lease(kv *mvccpb.KeyValue) {
	if kv.Lease == 0 {
		delete(w.leased, string(kv.Key))
		return
	}
	if w.leased == nil {
		w.leased = make(map[string]struct{})
	}
	w.leased[string(kv.Key)] = struct{}{}
}

// flush sends what has arrived since the last flush as one update, the newest
// of each key. Events of one key arrive in their order, those of keys under
// different prefixes not always.
func (w *watch) flush() {
	var kvs []store.KV
	var gone []store.Gone
	last := make(map[string]int, len(w.batch))
	for i, ev := range w.batch {
		last[string(ev.Kv.Key)] = i
		w.rev = max(w.rev, ev.Kv.ModRevision)
	}
	for i, ev := range w.batch {
		key := string(ev.Kv.Key)
		newest := last[key] == i
		if ev.Type == mvccpb.Event_DELETE {
			_, leased := w.leased[key]
			if delete(w.leased, key); newest {
				gone = append(gone, store.Gone{Key: key, Rev: uint64(ev.Kv.ModRevision), Expired: leased})
			}
			continue
		}
		if w.lease(ev.Kv); newest {
			kvs = append(kvs, toKV(ev.Kv))
		}
	}
	w.batch = nil
	slices.SortFunc(kvs, func(a, b store.KV) int { return cmp.Compare(a.Key, b.Key) })
	slices.SortFunc(gone, func(a, b store.Gone) int { return cmp.Compare(a.Key, b.Key) })
	w.feed.Change(uint64(w.rev), kvs, gone)
}
