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
	more  bool // it is too large for one answer
}

// maxAnswer is the size of an answer, in bytes, after which it ends: it has to
// come before it is asked for again, and lets nothing else come meanwhile.
const maxAnswer = 1 << 20

var (
	// errTooMany: more messages than one answer may have, or larger ones.
	errTooMany = errors.New("too many keys for one answer")
	// errNoMark: there is not even the mark, so nothing says which revision
	// "nothing there" has. The bucket was purged, or a replica is new.
	errNoMark = errors.New("the bucket is not what it was")
)

func (l *link) latest(ctx context.Context, filters []string) (state, error) {
	return asking(ctx, func(ctx context.Context) (state, error) { return l.latestOnce(ctx, filters) })
}

func (l *link) latestOnce(ctx context.Context, filters []string) (s state, err error) {
	if len(filters) != 1 || filters[0] != l.names.all() {
		filters = append(slices.Clip(filters), l.names.meta)
	}
	s, err = l.read(ctx, map[string]any{"multi_last": filters, "max_bytes": maxAnswer})
	if err == nil && s.more {
		return s, errTooMany
	}
	return s, err
}

// read asks for messages. They are as they were at one moment.
func (l *link) read(ctx context.Context, what map[string]any) (s state, err error) {
	subject := "$JS.API.DIRECT.GET." + l.names.stream
	body, err := json.Marshal(what)
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
		s.more = number(m.Header.Get(headerNumPending)) > 0
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

// behindMax is how long one replica may be behind another one; then the bucket
// was set back.
const behindMax = 2 * time.Second

// reaches looks how far the bucket is. Where the replica that leads is not
// where another one has been, as one that was stopped for a moment, it is asked
// again for a while.
func (l *link) reaches(ctx context.Context, seq uint64) (bucket, error) {
	was, end := l.known(), time.Now().Add(behindMax)
	for {
		info, err := l.info(ctx)
		if err != nil {
			return bucket{}, err
		}
		b := l.setBucket(info)
		if b.last >= seq || b.replicas == 1 || !b.created.Equal(was.created) || time.Now().After(end) {
			return b, nil
		}
		sleep(ctx, 10*time.Millisecond)
	}
}

// present is latest, at least at the sequence that the bucket had when it was
// called, and at seq unless the bucket was set back: a replica that is behind
// is asked again. errTooMany: scan helps.
func (l *link) present(ctx context.Context, filters []string, seq uint64) (state, error) {
	var least uint64
	replicated := l.known().replicas > 1
	if replicated {
		b, err := l.reaches(ctx, seq)
		if err != nil {
			return state{}, err
		}
		least = b.last
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
