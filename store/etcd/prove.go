package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd's gRPC proxy answers no progress request. Behind it a watch is proven to
// be current by a read that the cluster has to agree on: under no prefix is
// anything newer than what the watch has told, nor is there a key more or less.

const (
	// proveEvery is the time between two proofs, for each block of prefixes
	// that one request asks for; proveMost is the longest.
	proveEvery = askAfter
	proveMost  = 30 * time.Second
	// catchUp is how long a watch may be behind a proof: its events are on
	// their way.
	catchUp = 2 * time.Second
)

var errMissed = fmt.Errorf("%w: a watch was not told of a change", store.ErrUnavailable)

// place is what a watch knows of one prefix.
type place struct {
	newest int64 // revision up to which it was told
	keys   int64 // how many there are
}

// place returns that of the prefix which key is under, nil if there is none.
func (w *watch) place(key string) *place {
	i, exact := slices.BinarySearch(w.prefixes, key)
	switch {
	case exact:
		return &w.places[i]
	case i > 0 && strings.HasSuffix(w.prefixes[i-1], "/") && strings.HasPrefix(key, w.prefixes[i-1]):
		return &w.places[i-1]
	}
	return nil
}

// arrange notes what a Reset tells.
func (w *watch) arrange(st *state) {
	w.places = make([]place, len(w.prefixes))
	for i := range w.places {
		w.places[i].newest = st.rev
	}
	for _, kv := range st.kvs {
		if p := w.place(string(kv.Key)); p != nil {
			p.keys++
		}
	}
}

// note notes what an event tells.
func (w *watch) note(ev *mvccpb.Event) {
	p := w.place(string(ev.Kv.Key))
	if p == nil || ev.Kv.ModRevision < p.newest {
		return
	}
	p.newest = ev.Kv.ModRevision
	switch {
	case ev.Type == mvccpb.Event_DELETE:
		p.keys--
	case ev.Kv.CreateRevision == ev.Kv.ModRevision:
		p.keys++
	}
}

// proof is what the cluster says of the places of watches that are live.
type proof struct {
	stream *stream
	floor  int64 // the stream's newest revision when it was asked for
	known  []knownPlace
	state  *state  // its revision only
	there  []place // as the cluster has them, in the order of known
	err    error
}

// knownPlace is what a watch knew of a prefix when the proof was asked for.
type knownPlace struct {
	watch *watch
	index int
	place
}

// prove asks for a proof when it is time to.
func (l *link) prove(now time.Time) {
	s := l.cur
	switch {
	case s.proving:
		return
	case now.Before(s.proveAt):
		l.at(s.proveAt)
		return
	}
	p := proof{stream: s, floor: s.newest, state: new(state)}
	for w := range l.watches {
		if w.phase != live {
			continue
		}
		for i := range w.places {
			p.known = append(p.known, knownPlace{w, i, w.places[i]})
		}
	}
	s.proving = true
	l.spawn(func() {
		p.err = l.store.readPlaces(s.ctx, &p)
		deliver(l, l.proven, p)
	})
}

// onProven is a sign of life if no watch is behind. One that is, and stays so
// for longer than its events can take, is dead.
func (l *link) onProven(p proof) {
	s := l.cur
	if p.stream != s {
		return
	}
	s.proving = false
	err := p.err
	if err == nil {
		err = s.plausible(p.state, p.floor)
	}
	if err != nil {
		l.fail(err)
		return
	}
	now := time.Now()
	behind := p.behind()
	if len(behind) == 0 {
		s.heard, s.asked, s.polled = now, time.Time{}, !s.answered
		s.behind, s.proveAt = nil, now.Add(pauseBetweenProofs(len(p.known)))
		return
	}
	if slices.ContainsFunc(behind, func(k knownPlace) bool { return slices.Contains(s.behind, k) }) {
		l.fail(errMissed)
		return
	}
	s.behind, s.proveAt = behind, now.Add(catchUp)
}

func pauseBetweenProofs(places int) time.Duration {
	blocks := (places + store.MaxOps - 1) / store.MaxOps
	return min(proveMost, proveEvery*time.Duration(max(1, blocks)))
}

// behind returns the places of which the watch was not told all, and nothing
// since it was asked for.
func (p proof) behind() (all []knownPlace) {
	for i, k := range p.known {
		if k.watch.phase != live || k.watch.gone || k.watch.places[k.index] != k.place {
			continue
		}
		if there := p.there[i]; there.newest > k.newest || there.keys != k.keys {
			all = append(all, k)
		}
	}
	return all
}

// readPlaces asks the cluster, in blocks: what is newer than known, and how
// many keys there are.
func (s *Store) readPlaces(ctx context.Context, p *proof) error {
	for from := 0; from < len(p.known); from += store.MaxOps {
		block := p.known[from:min(len(p.known), from+store.MaxOps)]
		ops := make([]clientv3.Op, len(block))
		for i, k := range block {
			key, end := bounds(k.watch.prefixes[k.index])
			ops[i] = clientv3.OpGet(key, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithMinModRev(k.newest+1))
		}
		doing := doing{verb: "read", key: block[0].watch.prefixes[block[0].index], more: len(block) - 1, reads: true}
		err := s.call(ctx, doing, func(ctx context.Context, c *conn) error {
			resp, err := c.Txn(ctx).Then(ops...).Commit()
			if err != nil {
				return err
			}
			p.state.at(resp.Header)
			for _, r := range resp.Responses {
				there := place{keys: r.GetResponseRange().GetCount()}
				for _, kv := range r.GetResponseRange().GetKvs() {
					there.newest = max(there.newest, kv.ModRevision)
				}
				p.there = append(p.there, there)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(p.known) == 0 {
		return s.readNothing(ctx, p.state)
	}
	return nil
}
