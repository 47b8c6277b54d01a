package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// askAfter is how long a stream may be silent before the server is asked
	// for a sign of life, and silence how long it has to give one.
	askAfter = 5 * time.Second
	silence  = 3 * time.Second
	// askAgain: a server that just made a watch does not answer.
	askAgain = time.Second
)

// askForLife asks a stream that is silent for its progress. One that never
// gave any, as behind a proxy, is proven to be alive by reads.
func (l *link) askForLife(now time.Time) {
	s := l.cur
	if len(s.watches) == 0 && s.creating == nil {
		return
	}
	quiet := now.Sub(s.heard)
	switch {
	case s.polled && s.creating == nil:
		l.prove(now)
	case quiet < askAfter:
		s.asked = time.Time{}
		l.at(s.heard.Add(askAfter))
	case s.asked.IsZero():
		s.asked, s.askedLast, s.askedAt = now, now, s.newest
		s.ask()
		l.at(now.Add(askAgain))
	case now.Sub(s.asked) >= silence:
		l.fail(errSilent)
	case now.Sub(s.askedLast) >= askAgain:
		s.askedLast = now
		s.ask()
		if !s.answered && s.creating == nil {
			l.prove(now)
		}
		l.at(now.Add(askAgain))
	default:
		l.at(s.askedLast.Add(askAgain))
	}
}

// check looks now and then whether the store is the one that it was, and reads
// its revision. These are reads that the cluster has to agree on, not such that
// a proxy answers from its cache.
func (l *link) check(now time.Time) {
	s := l.cur
	if s.checking {
		return
	}
	if s.checkAt.IsZero() {
		s.checkAt = now.Add(l.store.opts.CheckEvery/2 + rand.N(l.store.opts.CheckEvery))
	}
	if now.Before(s.checkAt) {
		l.at(s.checkAt)
		return
	}
	s.checking = true
	r := checkResult{stream: s, floor: s.newest, mark: l.mark, next: l.nextMark, era: l.era}
	key := s.readable()
	l.spawn(func() {
		if r.mark.key != "" {
			r.state, r.at, r.other, r.err = l.store.compare(s.ctx, r.mark)
		}
		if r.state == nil && r.err == nil && !r.other {
			r.state, r.err = l.store.readRevision(s.ctx, key)
		}
		deliver(l, l.checked, r)
	})
}

func (l *link) onChecked(r checkResult) {
	if r.stream != l.cur {
		return
	}
	l.cur.checking, l.cur.checkAt = false, time.Time{}
	err := r.err
	switch {
	case err != nil:
	case r.other:
		l.otherHistory(r.era)
		err = errWentBack
	default:
		err = l.cur.plausible(r.state, r.floor)
		l.advance(r)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		l.fail(err)
	}
}
