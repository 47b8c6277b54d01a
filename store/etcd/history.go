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
}

func newMark(kv *mvccpb.KeyValue, at int64) mark {
	return mark{key: string(kv.Key), at: at, created: kv.CreateRevision, modified: kv.ModRevision, version: kv.Version}
}

// reset takes the newest key of a state, of which nothing is older: what was
// compacted cannot be asked for.
func (m *mark) reset(st *state) {
	var newest *mvccpb.KeyValue
	for _, kv := range st.kvs {
		if newest == nil || kv.ModRevision > newest.ModRevision {
			newest = kv
		}
	}
	if newest != nil {
		*m = newMark(newest, st.rev)
	}
}

// noteEvent keeps the key that was written last for the next mark. It does not
// take it at once: behind a proxy events may already be those of another store.
func (l *link) noteEvent(ev *mvccpb.Event) {
	key := string(ev.Kv.Key)
	switch {
	case ev.Type == mvccpb.Event_PUT && l.mark.key == "":
		l.mark = newMark(ev.Kv, ev.Kv.ModRevision)
	case ev.Type == mvccpb.Event_PUT:
		l.nextMark = newMark(ev.Kv, ev.Kv.ModRevision)
	case key == l.nextMark.key:
		l.nextMark = mark{}
	}
}

// advance makes the mark a newer one, after a check that did not find another
// history.
func (l *link) advance(r checkResult) {
	if r.mark != l.mark {
		return // it is newer
	}
	l.mark.at = r.at
	if r.next.key != "" {
		l.mark = r.next
	}
	if r.next == l.nextMark {
		l.nextMark = mark{}
	}
}

// compare looks whether the store has m in its past, and at which revision it
// is. other: it has not. Where that cannot be known, because history was
// compacted or the key may not be read, st is nil. at is the newest revision at
// which the key is known to be so.
func (s *Store) compare(ctx context.Context, m mark) (st *state, at int64, other bool, err error) {
	st, then, now, err := s.readKey(ctx, m.key, m.at)
	switch {
	case err == nil && !m.is(then):
		return st, 0, true, nil
	case err == nil && m.is(now):
		return st, st.rev, false, nil
	case err == nil:
		return st, m.at, false, nil
	case errors.Is(err, errFuture):
		return nil, 0, true, nil
	case errors.Is(err, store.ErrPermission):
		return nil, m.at, false, nil
	case !errors.Is(err, errCompacted):
		return nil, m.at, false, err
	}
	// A backup can be restored with a higher revision and without a history.
	// No key's own revision gets lower.
	switch st, _, now, err := s.readKey(ctx, m.key, 0); {
	case err != nil || now == nil:
		return nil, m.at, false, err
	case m.is(now):
		return st, st.rev, false, nil
	default:
		return nil, m.at, now.ModRevision <= m.modified, nil
	}
}

// is: kv, nil for none, is what the key had.
func (m mark) is(kv *mvccpb.KeyValue) bool {
	return kv != nil && kv.CreateRevision == m.created && kv.ModRevision == m.modified && kv.Version == m.version
}

// readKey reads a key as it was at a revision, 0: as it is, and as it is now. It
// is nil where there was none.
func (s *Store) readKey(ctx context.Context, key string, at int64) (st *state, then, now *mvccpb.KeyValue, err error) {
	st = new(state)
	err = s.call(ctx, doing{verb: "read", key: key, reads: true}, func(ctx context.Context, c *conn) error {
		resp, err := c.Txn(ctx).Then(
			clientv3.OpGet(key, clientv3.WithRev(at), clientv3.WithKeysOnly()),
			clientv3.OpGet(key, clientv3.WithKeysOnly()),
		).Commit()
		if err != nil {
			return known(err)
		}
		st.at(resp.Header)
		for i, kv := range []**mvccpb.KeyValue{&then, &now} {
			for _, found := range resp.Responses[i].GetResponseRange().GetKvs() {
				*kv = found
			}
		}
		return nil
	})
	return st, then, now, err
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
