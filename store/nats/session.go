package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// A session is a record that lists its keys. Record and keys have a TTL each,
// so that the server removes them without anybody's help; holders write them
// anew before it ends. The TTLs are longer than the session's own ttl, which
// the port allows up to twice, so that a holder has several attempts.

// keyTTL is the TTL of a bound key: at most twice the session's.
func keyTTL(ttl time.Duration) time.Duration {
	return max(2*time.Second, (ttl*3/2 + time.Second - 1).Truncate(time.Second))
}

// recordTTL is that of the record, which has to go first: nobody may find a
// session alive whose keys are gone.
func recordTTL(ttl time.Duration) time.Duration { return keyTTL(ttl) - time.Second }

// record is what a session's message says.
type record struct {
	ttl  time.Duration
	keys map[string]struct{}
	seq  uint64
}

type recordJSON struct {
	TTL  string   `json:"ttl"`
	Keys []string `json:"keys"`
}

// readRecord is not ok for the marker of a session that ended.
func readRecord(m message) (record, bool) {
	if isMarker(m.header) {
		return record{}, false
	}
	var j recordJSON
	if json.Unmarshal(m.data, &j) != nil {
		return record{}, false
	}
	ttl, err := time.ParseDuration(j.TTL)
	if err != nil || store.CheckTTL(ttl) != nil {
		return record{}, false
	}
	r := record{ttl: ttl, keys: make(map[string]struct{}, len(j.Keys)), seq: m.seq}
	for _, k := range j.Keys {
		if store.CheckKey(k) == nil {
			r.add(k)
		}
	}
	return r, true
}

func (r record) add(key string) { r.keys[key] = struct{}{} }

func (r record) message(subject string) (*nats.Msg, error) {
	m := nats.NewMsg(subject)
	setTTL(m, recordTTL(r.ttl))
	var err error
	m.Data, err = json.Marshal(recordJSON{TTL: r.ttl.String(), Keys: slices.Sorted(maps.Keys(r.keys))})
	return m, err
}

func sessionGone(id string) error { return fmt.Errorf("%w: %q", store.ErrSession, id) }

// sessionsOf returns the sessions that ops name.
func sessionsOf(ops []store.Op) (map[string]bool, error) {
	var all map[string]bool
	for _, op := range ops {
		if op.Session == nil {
			continue
		}
		id := op.Session.ID()
		select {
		case <-op.Session.Done():
			return nil, sessionGone(id)
		default:
		}
		if !validID(id) {
			return nil, sessionGone(id)
		}
		if all == nil {
			all = make(map[string]bool)
		}
		all[id] = true
	}
	return all, nil
}

// validID says whether id is one that newID makes.
func validID(id string) bool {
	if node, unique, ok := strings.Cut(id, "."); ok {
		if _, err := store.Unescape(node); err != nil || node == "" {
			return false
		}
		id = unique
	}
	return len(id) == 22 && strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
}

// newID begins with the node, if it is known: the id is the end of a subject.
func newID(node string) string {
	if node == "" {
		return nuid.Next()
	}
	return store.Escape(node) + "." + nuid.Next()
}

// session is one holder's store.Session.
type session struct {
	store *Store
	id    string
	ttl   time.Duration
	done  chan struct{}
	end   func() // closes done, once

	ctx  context.Context // of the refreshing
	stop context.CancelFunc
}

var _ store.Session = (*session)(nil)

// Session implements store.Store.
func (s *Store) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	if err := store.CheckTTL(ttl); err != nil {
		return nil, err
	}
	x := &session{store: s, id: resume, ttl: ttl, done: make(chan struct{})}
	x.end = sync.OnceFunc(func() { close(x.done) })
	began := time.Now()
	err := s.do(ctx, func(ctx context.Context, l *link) error {
		if resume != "" {
			return x.resume(ctx, l)
		}
		return x.create(ctx, l)
	})
	if err != nil {
		return nil, err
	}
	x.ctx, x.stop = context.WithCancel(s.ctx)
	if !s.start(func() { x.hold(began) }) {
		x.stop()
		return nil, store.ErrClosed
	}
	return x, nil
}

func (x *session) create(ctx context.Context, l *link) error {
	x.id = newID(x.store.opts.Node)
	m, err := record{ttl: x.ttl}.message(x.subject())
	if err != nil {
		return err
	}
	guard(m, 0, "")
	_, err = l.publish(ctx, m)
	return err
}

// resume takes over the ttl that the session has.
func (x *session) resume(ctx context.Context, l *link) error {
	if !validID(x.id) {
		return sessionGone(x.id)
	}
	return x.refresh(ctx, l)
}

func (x *session) subject() string { return x.store.names.session + x.id }

func (x *session) ID() string { return x.id }

func (x *session) Done() <-chan struct{} { return x.done }

// Orphan implements store.Session.
func (x *session) Orphan() { x.stop() }

// hold refreshes until the session is orphaned or lost. It is lost when the
// server says so, and when nobody can have refreshed it from here for so long
// that its record must be gone.
func (x *session) hold(refreshed time.Time) {
	life := recordTTL(x.ttl)
	wait := life / 3
	for {
		sleep(x.ctx, wait-rand.N(wait/8+1))
		if x.ctx.Err() != nil {
			return
		}
		began := time.Now()
		err := x.tryRefresh(refreshed.Add(life))
		switch {
		case err == nil:
			refreshed, wait = began, life/3
		case x.ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrSession) || time.Since(refreshed) >= life:
			x.end()
			return
		default:
			wait = min(wait, life/10, 2*time.Second)
		}
	}
}

func (x *session) tryRefresh(deadline time.Time) error {
	ctx, cancel := context.WithDeadline(x.ctx, deadline)
	defer cancel()
	return x.store.do(ctx, x.refresh)
}

// refresh writes record and keys anew. A key that was removed, or is not
// bound to this session any more, is let go.
func (x *session) refresh(ctx context.Context, l *link) error {
	return untilNoRace(ctx, func() error {
		r, bound, err := x.read(ctx, l)
		if err != nil {
			return err
		}
		x.ttl = r.ttl
		sign, err := r.message(x.subject())
		if err != nil {
			return err
		}
		guard(sign, r.seq, "")
		if _, err := l.publish(ctx, sign); err != nil {
			return err
		}
		again := make([]*nats.Msg, 0, len(bound))
		for _, m := range bound {
			again = append(again, x.again(m))
		}
		errs, err := l.publishEach(ctx, again)
		return errors.Join(append(errs, err)...)
	})
}

// again is m once more: same value, same revision, all of the ttl before it.
func (x *session) again(m message) *nats.Msg {
	var e entry
	e.read(m)
	fresh := nats.NewMsg(m.subject)
	fresh.Data = m.data
	fresh.Header.Set(headerSession, x.id)
	fresh.Header.Set(headerRev, strconv.FormatUint(e.rev, 10))
	fresh.Header.Set(headerCreated, strconv.FormatUint(e.created, 10))
	setTTL(fresh, keyTTL(x.ttl))
	guard(fresh, m.seq, "")
	return fresh
}

// read returns the session's record and the keys that are bound to it; the
// record then lists just these.
func (x *session) read(ctx context.Context, l *link) (r record, bound []message, err error) {
	now, err := l.present(ctx, []string{x.subject()}, 0)
	if err != nil {
		return r, nil, err
	}
	alive := false
	for _, m := range now.found {
		if m.subject == x.subject() {
			r, alive = readRecord(m)
		}
	}
	if !alive {
		return r, nil, sessionGone(x.id)
	}
	if len(r.keys) == 0 {
		return r, nil, nil
	}
	filters := x.store.names.filters(widen(slices.Collect(maps.Keys(r.keys))))
	now, err = l.present(ctx, filters, 0)
	if errors.Is(err, errTooMany) {
		now, err = l.scan(ctx, filters, 0)
	}
	if err != nil {
		return r, nil, err
	}
	clear(r.keys)
	for _, m := range now.found {
		if e, ok := x.store.names.decode(m); ok && !e.gone && e.session == x.id {
			bound = append(bound, m)
			r.add(e.key)
		}
	}
	return r, bound, nil
}

// maxBatch is how many messages one batch may have, with room for the record.
const maxBatch = 900

// Close implements store.Session.
func (x *session) Close(ctx context.Context) error {
	x.stop()
	err := x.store.do(ctx, func(ctx context.Context, l *link) error {
		return untilNoRace(ctx, func() error { return x.remove(ctx, l) })
	})
	if err == nil || errors.Is(err, store.ErrSession) {
		x.end()
		return nil
	}
	return err
}

// remove removes the keys and, with the last of them, the record.
func (x *session) remove(ctx context.Context, l *link) error {
	r, bound, err := x.read(ctx, l)
	if err != nil {
		return err
	}
	slices.SortFunc(bound, func(a, b message) int { return strings.Compare(a.subject, b.subject) })
	for {
		some := bound[:min(len(bound), maxBatch)]
		bound = bound[len(some):]
		var all []*nats.Msg
		var keys []string
		if len(bound) == 0 {
			m := marker(x.subject())
			guard(m, r.seq, "")
			all = append(all, m)
		}
		for _, b := range some {
			m := marker(b.subject)
			m.Header.Set(headerGone, "session")
			guard(m, b.seq, "")
			all = append(all, m)
			key, _ := x.store.names.key(b.subject)
			keys = append(keys, key)
		}
		asBatch(nuid.Next(), all, keys)
		if _, err := l.publishAll(ctx, all); err != nil {
			return err
		}
		if len(bound) == 0 {
			return nil
		}
	}
}
