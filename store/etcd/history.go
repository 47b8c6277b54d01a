package etcd

import (
	"context"
	"errors"

	"github.com/listener-agent/listener/store"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// mark is a key as it was at a revision: where the store has it so, its
// history is the one that was seen before. Revisions alone do not say: a store
// that was wiped comes to any revision with time, under the same cluster id.
type mark struct {
	key string // "": none is known
	at  int64
	// What the key had then. (Not its lease: with keys only, some versions of
	// etcd leave that out.)
	created, modified, version int64
	// final: the key is not followed any more, or was changed, so at stays.
	final bool
	owner *watch // that follows the key
}

func newMark(w *watch, kv *mvccpb.KeyValue, at int64) mark {
	return mark{
		key: string(kv.Key), at: at, owner: w,
		created: kv.CreateRevision, modified: kv.ModRevision, version: kv.Version,
	}
}

// reset takes the newest key of a state, of which nothing is older: what was
// compacted cannot be asked for. In an empty one the key that w followed is
// gone, nobody knows since when.
func (m *mark) reset(w *watch, st *state) {
	var newest *mvccpb.KeyValue
	for _, kv := range st.kvs {
		if newest == nil || kv.ModRevision > newest.ModRevision {
			newest = kv
		}
	}
	switch {
	case newest != nil:
		*m = newMark(w, newest, st.rev)
	case m.owner == w:
		m.final = true
	}
}

// noteEvent keeps the key that was written last for the next mark. It does not
// take it at once: behind a proxy events may already be those of another store.
func (l *link) noteEvent(w *watch, ev *mvccpb.Event) {
	key := string(ev.Kv.Key)
	switch {
	case ev.Type == mvccpb.Event_PUT && l.mark.key == "":
		l.mark = newMark(w, ev.Kv, ev.Kv.ModRevision)
	case ev.Type == mvccpb.Event_PUT:
		l.nextMark = newMark(w, ev.Kv, ev.Kv.ModRevision)
	case key == l.nextMark.key:
		l.nextMark = mark{}
	}
	if key == l.mark.key && ev.Kv.ModRevision > l.mark.modified {
		l.mark.final, l.mark.at = true, min(l.mark.at, ev.Kv.ModRevision-1)
	}
}

// upTo: the watches were told of all that happened up to a revision.
func (m *mark) upTo(rev int64) {
	if m.key != "" && !m.final && m.owner.phase == live {
		m.at = max(m.at, rev)
	}
}

// advance makes the mark a newer one, after a check that did not find another
// history.
func (l *link) advance(r checkResult) {
	if r.next.key == "" {
		return
	}
	l.mark = r.next
	if r.next == l.nextMark {
		l.nextMark = mark{}
	} else {
		l.mark.final = true // it may have been changed since
	}
}

// leave: the key of a watch that ends is not followed any more.
func (m *mark) leave(w *watch) {
	if m.owner == w {
		m.final, m.owner = true, nil
	}
}

// compare looks whether the store has m in its past, and at which revision it
// is. other: it has not. Where that cannot be known, because history was
// compacted or the key may not be read, st is nil.
func (s *Store) compare(ctx context.Context, m mark) (st *state, other bool, err error) {
	st, then, err := s.readKey(ctx, m.key, m.at)
	switch {
	case err == nil:
		return st, then == nil || !m.is(then), nil
	case errors.Is(err, errFuture):
		return nil, true, nil
	case errors.Is(err, store.ErrPermission):
		return nil, false, nil
	case !errors.Is(err, errCompacted):
		return nil, false, err
	}
	// A backup can be restored with a higher revision and without a history.
	// No key's own revision gets lower.
	switch _, now, err := s.readKey(ctx, m.key, 0); {
	case err != nil || now == nil:
		return nil, false, err
	default:
		return nil, now.ModRevision < m.modified || now.ModRevision == m.modified && !m.is(now), nil
	}
}

func (m mark) is(kv *mvccpb.KeyValue) bool {
	return kv.CreateRevision == m.created && kv.ModRevision == m.modified && kv.Version == m.version
}

// readKey reads a key as it was at a revision, 0: as it is. It is nil where
// there was none.
func (s *Store) readKey(ctx context.Context, key string, at int64) (st *state, kv *mvccpb.KeyValue, err error) {
	st = new(state)
	err = s.call(ctx, doing{verb: "read", key: key, reads: true}, func(ctx context.Context, c *conn) error {
		resp, err := c.Get(ctx, key, clientv3.WithRev(at), clientv3.WithKeysOnly())
		if err != nil {
			return known(err)
		}
		st.at(resp.Header)
		for _, found := range resp.Kvs {
			kv = found
		}
		return nil
	})
	return st, kv, err
}

// otherHistory is told to all watches with their next Reset. era is what the
// link's was when the marks were taken that the store has not: unless it is the
// same now, they were told. stale: some watch follows what is not there any more.
func (l *link) otherHistory(era int) (stale bool) {
	if era != l.era {
		return false
	}
	l.era++
	l.mark, l.nextMark = mark{}, mark{}
	for w := range l.watches {
		w.feed.OtherHistory()
		stale = stale || w.phase >= creating
	}
	return stale
}
