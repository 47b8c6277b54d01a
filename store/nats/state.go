package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// state is the last message of each subject that filters match, all of them as
// they were at upTo: the server lets no commit come between.
type state struct {
	found []message
	upTo  uint64
}

var (
	// errTooMany: more messages than one answer may have.
	errTooMany = errors.New("too many keys for one answer")
	// errNoMark: there is not even the mark, so nothing says which revision
	// "nothing there" has. The bucket was purged, or a replica is new.
	errNoMark = errors.New("the bucket is not what it was")
)

func (l *link) latest(ctx context.Context, filters []string) (state, error) {
	return asking(ctx, func(ctx context.Context) (state, error) { return l.latestOnce(ctx, filters) })
}

func (l *link) latestOnce(ctx context.Context, filters []string) (s state, err error) {
	subject := "$JS.API.DIRECT.GET." + l.names.stream
	if len(filters) != 1 || filters[0] != l.names.all() {
		filters = append(slices.Clip(filters), l.names.meta)
	}
	body, err := json.Marshal(map[string]any{"multi_last": filters})
	if err != nil {
		return s, err
	}
	ctx, done := l.expect(ctx, subject)
	defer done()
	a := l.inbox.expect()
	defer a.close()
	if err := l.nc.PublishRequest(subject, a.reply(0), body); err != nil {
		return s, err
	}
	for {
		m, _, err := a.next(ctx)
		if err != nil {
			return s, because(ctx, err)
		}
		if end, err := s.add(m); end || err != nil {
			return s, err
		}
	}
}

// add takes one message of an answer; end says that it was the last one.
func (s *state) add(m *nats.Msg) (end bool, err error) {
	switch status := m.Header.Get(headerStatus); status {
	case "":
		s.found = append(s.found, message{
			subject: m.Header.Get(headerSubject), seq: number(m.Header.Get(headerSequence)), header: m.Header, data: m.Data,
		})
		return false, nil
	case "204":
		if number(m.Header.Get(headerNumPending)) > 0 {
			return true, errTooMany // in bytes
		}
		s.upTo = number(m.Header.Get(headerUpTo))
		return true, nil
	case "404":
		return true, errNoMark
	case "413":
		return true, errTooMany
	case "503":
		return true, nats.ErrNoResponders
	default:
		return true, fmt.Errorf("reading: %s %s", status, m.Header.Get("Description"))
	}
}

// present is latest, at least at the sequence that the bucket had when it was
// called: a replica that is behind is asked again. errTooMany: scan helps.
func (l *link) present(ctx context.Context, filters []string) (state, error) {
	var least uint64
	replicated := l.known().replicas > 1
	if replicated {
		info, err := l.info(ctx)
		if err != nil {
			return state{}, err
		}
		least = l.setBucket(info).last
	}
	for {
		s, err := l.latest(ctx, filters)
		if err == nil && s.upTo >= least || err != nil && (!replicated || !errors.Is(err, errNoMark)) {
			return s, err
		}
		sleep(ctx, 5*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return state{}, because(ctx, err)
		}
	}
}

// scan is present for any number of keys: a consumer brings them. Of several
// replicas it may be one that is some milliseconds behind.
func (l *link) scan(ctx context.Context, filters []string) (state, error) {
	g, err := l.gather(ctx)
	if err != nil {
		return state{}, err
	}
	end := make(chan error, 1)
	c, err := l.consume(ctx, filters, lastOfEach, 500*time.Millisecond, func(_ *consumer, m *message, pending uint64, err error) {
		if !g.whole && g.take(m, pending, err) {
			end <- err
		}
	})
	if err != nil {
		return state{}, err
	}
	defer c.close()
	select {
	case err = <-end:
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.gone:
		err = nats.ErrConnectionClosed
	}
	if err != nil {
		return state{}, err
	}
	return state{found: g.messages(), upTo: max(g.upTo, g.least)}, nil
}

// gathering makes a state of what a consumer brings that begins with the last
// message of each subject.
type gathering struct {
	found  map[string]message
	upTo   uint64 // what was brought
	least  uint64 // sequence of the bucket before it began
	commit uint64 // the last sequence of the commit that is being brought
	whole  bool
}

func (l *link) gather(ctx context.Context) (*gathering, error) {
	info, err := l.info(ctx)
	if err != nil {
		return nil, err
	}
	g := &gathering{found: make(map[string]message), least: l.setBucket(info).last}
	if info.Config.Replicas == 1 {
		g.upTo = g.least // the only replica has all of that
	}
	return g, nil
}

// take says that the state is whole: there is nothing more to bring, and the
// last commit is complete. With a heartbeat (m is nil) what is missing of it
// did not match the filters. An error ends it too.
func (g *gathering) take(m *message, pending uint64, err error) (whole bool) {
	if m != nil {
		g.found[m.subject] = *m
		g.upTo = max(g.upTo, m.seq)
		if i, count, ok := parseBatch(m.header.Get(headerBatch)); ok {
			g.commit = max(g.commit, m.seq+count-i)
		}
	}
	g.whole = err != nil || m == nil || pending == 0 && m.seq >= g.commit
	if g.whole {
		g.upTo = max(g.upTo, g.commit)
	}
	return g.whole
}

func (g *gathering) messages() []message {
	all := make([]message, 0, len(g.found))
	for _, m := range g.found {
		all = append(all, m)
	}
	return all
}
