package nats

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// scan is present for any number of keys and bytes: a consumer brings them. It
// brings neither the old nor the new message of a key that is written
// meanwhile, so all that is newer than what it brought is read after it, at one
// moment.
func (l *link) scan(ctx context.Context, filters []string, seq uint64) (state, error) {
	g, err := l.gather(ctx, filters)
	if err == nil {
		err = l.catchUp(ctx, g, filters, seq)
	}
	if err != nil {
		return state{}, err
	}
	all := slices.SortedFunc(maps.Values(g.found), func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	return state{found: all, upTo: g.upTo}, nil
}

// gathering is what a consumer brings that begins with the last message of
// each subject.
type gathering struct {
	found map[string]message
	upTo  uint64 // the last that was brought
}

func (g *gathering) take(m message) {
	g.found[m.subject] = m
	g.upTo = max(g.upTo, m.seq)
}

// gather ends when the consumer has no more, or has sent nothing for too long.
func (l *link) gather(ctx context.Context, filters []string) (*gathering, error) {
	g := &gathering{found: make(map[string]message)}
	whole := false // only the consumer uses it
	end, came := make(chan error, 1), make(chan struct{}, 1)
	asked, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	c, err := l.consume(asked, filters, lastOfEach, 500*time.Millisecond, func(_ *consumer, m *message, pending uint64, err error) {
		if whole {
			return
		}
		if m != nil {
			g.take(*m)
		}
		if whole = err != nil || m == nil || pending == 0; whole {
			end <- err
			return
		}
		select {
		case came <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, err
	}
	defer c.close()
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for {
		select {
		case err := <-end:
			return g, err
		case <-came:
			quiet.Reset(silence)
		case <-quiet.C:
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.gone:
			return nil, nats.ErrConnectionClosed
		}
	}
}

// catchUp adds what is newer than what was brought.
func (l *link) catchUp(ctx context.Context, g *gathering, filters []string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	now, err := l.reaches(ctx, seq)
	if err != nil {
		return err
	}
	for {
		var least uint64
		if now.replicas > 1 { // the one that answers may be behind
			// The last message that there is: now.last may be one that expired.
			last, _, err := l.oneOfLeader(ctx, l.names.all())
			if err != nil {
				return err
			}
			least = last.seq
		}
		page, err := l.after(ctx, g.upTo)
		if err != nil {
			return err
		}
		for _, m := range page.found {
			g.upTo = m.seq
			if slices.ContainsFunc(filters, func(f string) bool { return matches(f, m.subject) }) {
				g.take(m)
			}
		}
		switch {
		case page.more:
		case g.upTo >= least:
			g.upTo = max(g.upTo, now.last)
			return nil
		default:
			sleep(ctx, 5*time.Millisecond)
		}
		if err := ctx.Err(); err != nil {
			return because(ctx, err)
		}
	}
}

// after returns the messages after a sequence, in their order, and whether
// there are more than these.
func (l *link) after(ctx context.Context, seq uint64) (state, error) {
	const batch = 1000
	return asking(ctx, func(ctx context.Context) (state, error) {
		s, err := l.read(ctx, map[string]any{"seq": seq + 1, "batch": batch, "max_bytes": maxAnswer})
		if errors.Is(err, errNoMark) { // nothing is there
			return state{}, nil
		}
		return s, err
	})
}

// matches says whether a filter, as names makes them, matches a subject.
func matches(filter, subject string) bool {
	if prefix, ok := strings.CutSuffix(filter, ">"); ok {
		return strings.HasPrefix(subject, prefix)
	}
	return filter == subject
}
