package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/listener-agent/listener/store/internal/feed"
	"github.com/nats-io/nats.go"
)

const (
	// beat is how often a consumer that has nothing to send says so, silence
	// after how long one that says nothing is given up.
	beat    = 3 * time.Second
	silence = 7 * time.Second
	// holdMax is how long a part of a commit waits for the rest, which comes
	// at once unless it was removed; then the state is read anew.
	holdMax = time.Second
	// rewatchMax is the longest wait before the bucket is followed again over
	// a link that is good.
	rewatchMax = 300 * time.Millisecond
)

// hub feeds all watches of a store from one consumer.
type hub struct {
	store      *Store
	discovered []string      // servers; only run uses it
	kick       chan struct{} // capacity 1: a watch joined, or has to be reset

	mu      sync.Mutex // guards following
	watches map[*watch]struct{}
	up      bool      // there is a link
	err     error     // why not; nil before that is known
	bucket  bucket    // as it was when the hub began to follow it
	live    *consumer // nil while nothing is followed
	filters feed.Prefixes
	pos     uint64 // the consumer has brought all up to here
	seen    uint64 // the highest revision that any watch was told of
	last    time.Time
	failure chan error // capacity 1: what ended live

	// A commit of several keys is told when all of them have come that are
	// followed; held are the entries since, missing the keys to come.
	held    []entry
	missing map[string]struct{}
	commit  uint64 // the one that missing was made for
	holding *time.Timer
}

func (h *hub) init(s *Store) {
	h.store = s
	h.kick = make(chan struct{}, 1)
	h.watches = make(map[*watch]struct{})
	h.missing = make(map[string]struct{})
}

func (h *hub) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// join adds a watch: it will be reset, or hears that there is no link.
func (h *hub) join(w *watch) {
	if w.refused {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches[w] = struct{}{}
	if h.err != nil {
		w.lost(h.err)
	}
	h.wake()
}

func (h *hub) leave(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watches, w)
}

// lost tells all watches that they are out of date.
func (h *hub) lost(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil || h.store.ctx.Err() != nil {
		return
	}
	h.lostLocked(err)
}

func (h *hub) lostLocked(err error) {
	h.up, h.err = false, err
	for w := range h.watches {
		w.lost(err)
	}
}

// waits tells the watches that there is no link, if there still is none.
func (h *hub) waits(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.up && h.store.ctx.Err() == nil {
		h.lostLocked(err)
	}
}

// suspect makes the hub look at the bucket at once.
func (h *hub) suspect(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up {
		h.failLocked(err)
	}
}

// serve follows the bucket for the watches until the link breaks.
func (h *hub) serve(l *link) error {
	for {
		err := h.follow(l)
		if h.store.ctx.Err() != nil {
			return nil
		}
		select {
		case <-l.gone:
			return connectError(h.store.opts.Servers, h.reason(l, err))
		default:
		}
		h.lost(unavailable(err))
		sleep(h.store.ctx, rand.N(rewatchMax))
		if err := h.enter(l); err != nil {
			return err
		}
	}
}

// reason is why the connection ended.
func (h *hub) reason(l *link, err error) error {
	if last := l.nc.LastError(); last != nil {
		return last
	}
	if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
		return errors.New("the server closed the connection")
	}
	return err
}

// enter looks at the bucket again, over the same link.
func (h *hub) enter(l *link) error {
	ctx, cancel := context.WithTimeout(h.store.ctx, opTimeout)
	defer cancel()
	return unavailable(h.store.enter(ctx, l))
}

// follow runs consumers one after the other, each for what is watched then.
func (h *hub) follow(l *link) error {
	defer h.end()
	if err := h.begin(l); err != nil {
		return err
	}
	check := time.NewTicker(h.store.opts.CheckEvery)
	defer check.Stop()
	listen := time.NewTicker(time.Second)
	defer listen.Stop()
	for {
		var err error
		select {
		case <-h.kick:
			err = h.feedNew(l)
		case <-check.C:
			err = h.check(l)
		case <-listen.C:
			err = h.heard()
		case err = <-h.failure:
		case <-l.gone:
			err = nats.ErrConnectionClosed
		case <-h.store.ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// begin makes the hub follow nothing yet, from where the bucket is.
func (h *hub) begin(l *link) error {
	now, err := h.comeTo(l)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = make(chan error, 1)
	if h.bucket.last != 0 && !h.bucket.same(now) {
		for w := range h.watches {
			w.feed.OtherHistory()
		}
	}
	h.up, h.err, h.bucket = true, nil, now
	h.pos, h.seen, h.filters = h.bucket.last, h.bucket.last, feed.Prefixes{}
	h.wake()
	return nil
}

// comeTo waits, if the bucket is the one that was followed, until it is as far
// as it was then, or was set back.
func (h *hub) comeTo(l *link) (bucket, error) {
	h.mu.Lock()
	was, seen := h.bucket, h.seen
	h.mu.Unlock()
	now := l.known()
	if !was.same(now) || now.last >= seen {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(h.store.ctx, opTimeout)
	defer cancel()
	return l.reaches(ctx, seen)
}

// end stops following.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live != nil {
		h.live.close()
		h.live = nil
	}
	h.dropHeldLocked()
}

var errSilent = errors.New("the server has sent nothing for too long")

// heard fails when the consumer is silent.
func (h *hub) heard() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live != nil && time.Since(h.last) > silence {
		return errSilent
	}
	return nil
}

// check looks whether the bucket is what it was. A consumer would not tell:
// that of a bucket that was removed is silent, and so is one that waits for a
// sequence that is yet to come.
func (h *hub) check(l *link) error {
	ctx, cancel := context.WithTimeout(h.store.ctx, opTimeout)
	defer cancel()
	h.mu.Lock()
	was, seen := h.bucket, h.seen // before it is asked: what comes meanwhile may be newer than the answer
	h.mu.Unlock()
	b, err := l.reaches(ctx, seen)
	if err != nil {
		return err
	}
	switch {
	case !b.created.Equal(was.created):
		return errors.New("the bucket was removed and made again")
	case b.last < seen:
		return fmt.Errorf("the bucket is at revision %d, was at %d", b.last, seen)
	case b.first > was.mark:
		return errors.New("the bucket was emptied")
	}
	return nil
}
