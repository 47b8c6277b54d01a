package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/listener-agent/listener/store/internal/feed"
)

// feedNew makes sure that the consumer brings all that is watched, and resets
// the watches that have to be.
func (h *hub) feedNew(l *link) error {
	ctx, cancel := context.WithTimeout(h.store.ctx, opTimeout)
	defer cancel()
	h.mu.Lock()
	fresh := make(map[*watch]int) // the round that the state is for
	var wanted, read []string
	for w := range h.watches {
		sorted := w.feed.Prefixes().Sorted()
		wanted = append(wanted, sorted...)
		if !w.ready {
			fresh[w] = w.round
			read = append(read, sorted...)
		}
	}
	seen := h.seen
	covered := !slices.ContainsFunc(wanted, func(p string) bool { return !h.filters.Match(p) })
	h.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	if !covered {
		if err := h.consume(ctx, l, widen(wanted)); err != nil {
			return err
		}
	}
	filters := h.store.names.filters(widen(read))
	now, err := l.present(ctx, filters, seen)
	if errors.Is(err, errTooMany) {
		now, err = l.scan(h.store.ctx, filters, seen) // for as long as something comes
	}
	if err == nil && now.upTo < seen {
		err = fmt.Errorf("the bucket is at revision %d, was at %d", now.upTo, seen)
	}
	if err == nil {
		err = h.check(l) // what was read is of the bucket that is followed
	}
	if err != nil {
		return err
	}
	entries := h.store.names.decodeAll(now.found)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = max(h.seen, now.upTo)
	for w, round := range fresh {
		if w.round == round {
			w.reset(now.upTo, now.upTo, entries)
		}
	}
	return nil
}

// consume replaces the consumer by one for prefixes that begins after what the
// watches know. What the old one still sends is not looked at.
func (h *hub) consume(ctx context.Context, l *link, prefixes feed.Prefixes) error {
	h.mu.Lock()
	next, old := from(h.pos+1), h.live
	h.live, h.filters = nil, prefixes
	h.dropHeldLocked()
	h.mu.Unlock()
	if old != nil {
		old.close()
	}
	if len(prefixes.Sorted()) == 0 {
		return nil
	}
	ready := make(chan struct{})
	c, err := l.consume(ctx, h.store.names.filters(prefixes), next, beat, func(c *consumer, m *message, _ uint64, err error) {
		<-ready // until it is live
		h.received(c, m, err)
	})
	h.mu.Lock()
	h.live, h.last = c, time.Now()
	h.mu.Unlock()
	close(ready)
	return err
}

// received takes what the consumer brings.
func (h *hub) received(c *consumer, m *message, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c != h.live {
		return
	}
	// After a long stop of this process what comes may be old, and the marker
	// of a removal gone.
	if err == nil && time.Since(h.last) > silence {
		err = errSilent
	}
	h.last = time.Now()
	if err != nil {
		h.failLocked(err)
		return
	}
	if m == nil {
		return
	}
	if e, ok := h.store.names.decode(*m); ok {
		h.takeLocked(e)
	}
}

func (h *hub) failLocked(err error) {
	select {
	case h.failure <- err:
	default:
	}
}

// takeLocked hands an entry to the watches, when what belongs to it is there.
func (h *hub) takeLocked(e entry) {
	if e.manyKeys {
		if e.batch != h.commit {
			h.resetLocked()
			h.commit = e.batch
		}
		return
	}
	if len(e.keys) > 1 && e.batch != h.commit {
		h.commit = e.batch
		first := e.batch + 1 - uint64(len(e.keys))
		for i, k := range e.keys {
			if first+uint64(i) > h.pos && h.filters.Match(k) {
				h.missing[k] = struct{}{}
			}
		}
	}
	delete(h.missing, e.key) // also by a later write: the first one will not come then
	h.held = append(h.held, e)
	if len(h.missing) == 0 {
		h.tellLocked()
		return
	}
	if h.holding == nil {
		live := h.live
		h.holding = time.AfterFunc(holdMax, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.live == live && len(h.missing) > 0 {
				h.resetLocked()
			}
		})
	}
}

// tellLocked sends what is held.
func (h *hub) tellLocked() {
	held := h.held
	h.held = nil
	h.pos = held[len(held)-1].seq
	h.seen = max(h.seen, h.pos)
	for w := range h.watches {
		w.change(held)
	}
	h.dropHeldLocked()
}

func (h *hub) dropHeldLocked() {
	h.held, h.commit = nil, 0
	clear(h.missing)
	if h.holding != nil {
		h.holding.Stop()
		h.holding = nil
	}
}

// resetLocked makes all watches read their state anew.
func (h *hub) resetLocked() {
	if n := len(h.held); n > 0 {
		h.pos = h.held[n-1].seq
	}
	h.dropHeldLocked()
	for w := range h.watches {
		w.again()
	}
	h.wake()
}
