package nats

import (
	"cmp"
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
	least := h.pos
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
	now, err := l.present(ctx, h.store.names.filters(widen(read)))
	if errors.Is(err, errTooMany) {
		return h.consumeAll(ctx, l, widen(wanted))
	}
	if err == nil && now.upTo < least {
		err = fmt.Errorf("the bucket is at revision %d, was at %d", now.upTo, least)
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
	for w, round := range fresh {
		if w.round == round {
			w.reset(now.upTo, now.upTo, entries)
		}
	}
	return nil
}

// consumeAll replaces the consumer by one for prefixes that begins with the
// state, and resets the watches by that: it is for states that are too large
// for one answer.
func (h *hub) consumeAll(ctx context.Context, l *link, prefixes feed.Prefixes) error {
	g, err := l.gather(ctx)
	if err != nil {
		return err
	}
	return h.replace(ctx, l, prefixes, lastOfEach, func(c *consumer, m *message, pending uint64, err error) {
		switch {
		case g.whole:
			h.received(c, m, err)
		case g.take(m, pending, err) && err == nil:
			h.gathered(c, g)
		default:
			h.received(c, nil, err)
		}
	})
}

// gathered resets the watches that wait for it, and tells the others what is
// news to them.
func (h *hub) gathered(c *consumer, g *gathering) {
	entries := h.store.names.decodeAll(g.messages())
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if c != h.live {
		return
	}
	h.pos, h.last = g.upTo, time.Now()
	for w := range h.watches {
		switch {
		case w.ready:
			w.change(entries)
		case h.coversLocked(w):
			w.early = nil
			w.reset(max(g.upTo, g.least), g.upTo, entries)
		}
	}
}

func (h *hub) coversLocked(w *watch) bool {
	return !slices.ContainsFunc(w.feed.Prefixes().Sorted(), func(p string) bool { return !h.filters.Match(p) })
}

// consume replaces the consumer by one for prefixes that begins after what the
// watches know.
func (h *hub) consume(ctx context.Context, l *link, prefixes feed.Prefixes) error {
	h.mu.Lock()
	next := from(h.pos + 1)
	h.mu.Unlock()
	return h.replace(ctx, l, prefixes, next, func(c *consumer, m *message, _ uint64, err error) { h.received(c, m, err) })
}

// replace starts a consumer. What the old one still sends is not looked at.
func (h *hub) replace(ctx context.Context, l *link, prefixes feed.Prefixes, begin from, receive receiver) error {
	h.mu.Lock()
	old := h.live
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
	c, err := l.consume(ctx, h.store.names.filters(prefixes), begin, beat, func(c *consumer, m *message, pending uint64, err error) {
		<-ready // until it is live
		receive(c, m, pending, err)
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
