package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// Commit implements store.Store. It reads what it depends on and writes with
// guards on just that; when something was written in between, it begins
// again. So what a condition says of the port's revisions holds, although a
// refreshed key has a new sequence each time.
func (s *Store) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (rev uint64, err error) {
	if err := store.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	sessions, err := sessionsOf(ops)
	if err != nil {
		return 0, err
	}
	ops = slices.SortedFunc(slices.Values(ops), func(a, b store.Op) int { return strings.Compare(a.Key, b.Key) })
	err = s.do(ctx, func(ctx context.Context, l *link) error {
		return untilNoRace(ctx, func() error {
			p := plan{names: s.names, conds: conds, ops: ops, sessions: sessions}
			rev, err = p.run(ctx, l)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// untilNoRace repeats what lost against another writer, or came when the
// server was busy.
func untilNoRace(ctx context.Context, do func() error) error {
	for n := 0; ; n++ {
		err := do()
		if !errors.Is(err, errRace) && !errors.Is(err, errBusy) {
			return err
		}
		if n > 2 || errors.Is(err, errBusy) {
			sleep(ctx, rand.N(time.Millisecond<<min(n, 6)))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
}

// plan is one attempt at a commit.
type plan struct {
	names    names
	conds    []store.Cond
	ops      []store.Op      // sorted by key
	sessions map[string]bool // that the ops name

	entries map[string]entry // that were read, by key
	records map[string]record
	upTo    uint64

	guards  []*nats.Msg // carry a condition each
	signs   []*nats.Msg // session records
	writes  []*nats.Msg
	written []string // their keys
}

func (p *plan) run(ctx context.Context, l *link) (uint64, error) {
	if err := p.read(ctx, l); err != nil {
		return 0, err
	}
	for _, c := range p.conds {
		if rev := p.entries[c.Key].present(); rev != c.Rev {
			return 0, fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, c.Key, rev, c.Rev)
		}
	}
	for id := range p.sessions {
		if _, ok := p.records[id]; !ok {
			return 0, sessionGone(id)
		}
	}
	for _, op := range p.ops {
		p.write(op)
	}
	if len(p.writes) == 0 {
		return p.upTo, nil // what was read is the truth at that revision
	}
	if err := p.bind(); err != nil {
		return 0, err
	}
	for _, c := range p.conds {
		if !slices.Contains(p.written, c.Key) {
			p.guard(c.Key)
		}
	}
	// The keys come last, so that a watch knows with the last of them that
	// the commit is complete, and the commit's revision is the last one's.
	all := slices.Concat(p.guards, p.signs, p.writes)
	asBatch(nuid.Next(), all, p.written)
	return l.publishAll(ctx, all)
}

// read gets the keys, sessions included, in one answer.
func (p *plan) read(ctx context.Context, l *link) error {
	p.entries, p.records = make(map[string]entry), make(map[string]record)
	subjects := make(map[string]struct{})
	for _, c := range p.conds {
		subjects[p.names.subject(c.Key)] = struct{}{}
	}
	for _, op := range p.ops {
		subjects[p.names.subject(op.Key)] = struct{}{}
	}
	for id := range p.sessions {
		subjects[p.names.session+id] = struct{}{}
	}
	filters := make([]string, 0, len(subjects))
	for s := range subjects {
		filters = append(filters, s)
	}
	now, err := l.present(ctx, filters, 0)
	if errors.Is(err, errTooMany) {
		now, err = l.scan(ctx, filters, 0)
	}
	if err != nil {
		return err
	}
	p.upTo = now.upTo
	for _, m := range now.found {
		if e, ok := p.names.decode(m); ok {
			p.entries[e.key] = e
		} else if id, ok := strings.CutPrefix(m.subject, p.names.session); ok {
			if r, ok := readRecord(m); ok {
				p.records[id] = r
			}
		}
	}
	return nil
}

// present is the revision of a key, 0 if it is not there.
func (e entry) present() uint64 {
	if e.gone {
		return 0
	}
	return e.rev
}

// write adds one op.
func (p *plan) write(op store.Op) {
	e := p.entries[op.Key]
	subject := p.names.subject(op.Key)
	if op.Delete && e.present() == 0 {
		p.guard(op.Key)
		return
	}
	var m *nats.Msg
	if op.Delete {
		m = marker(subject)
	} else {
		m = nats.NewMsg(subject)
		m.Data = op.Value
		if e.present() != 0 {
			m.Header.Set(headerCreated, strconv.FormatUint(e.created, 10))
		}
		if op.Session != nil {
			id := op.Session.ID()
			m.Header.Set(headerSession, id)
			setTTL(m, keyTTL(p.records[id].ttl))
		}
	}
	guard(m, e.seq, "")
	p.writes = append(p.writes, m)
	p.written = append(p.written, op.Key)
}

// guard adds a message whose only purpose is a condition on another key.
func (p *plan) guard(key string) {
	m := nats.NewMsg(p.names.guard)
	guard(m, p.entries[key].seq, p.names.subject(key))
	p.guards = append(p.guards, m)
}

// bind adds the sessions, each with its new keys: they live at the moment of
// the commit, and whoever holds them refreshes these keys as well.
func (p *plan) bind() error {
	for _, id := range slices.Sorted(maps.Keys(p.sessions)) {
		r := p.records[id]
		for _, op := range p.ops {
			if op.Session != nil && op.Session.ID() == id {
				r.add(op.Key)
			}
		}
		m, err := r.message(p.names.session + id)
		if err != nil {
			return err
		}
		guard(m, r.seq, "")
		p.signs = append(p.signs, m)
	}
	return nil
}
