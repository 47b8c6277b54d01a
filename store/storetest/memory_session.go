package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
)

// memorySession is one session of the store. While a holder's link holds it
// counts as refreshed all the time; from then on its ttl runs.
type memorySession struct {
	id      string
	ttl     time.Duration
	done    chan struct{}
	holders map[*memoryHandle]struct{}
	expiry  *time.Timer // nil while refreshed
}

func newMemorySession(id string, ttl time.Duration) *memorySession {
	return &memorySession{id: id, ttl: ttl, done: make(chan struct{}), holders: make(map[*memoryHandle]struct{})}
}

type memoryHandle struct {
	client  *Memory
	session *memorySession
	orphan  sync.Once
}

var _ store.Session = (*memoryHandle)(nil)

// Session implements store.Store.
func (m *Memory) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	if err := store.CheckTTL(ttl); err != nil {
		return nil, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, err
	}
	x := s.sessions[resume]
	if resume != "" && x == nil {
		return nil, fmt.Errorf("%w: %q", store.ErrSession, resume)
	}
	if x == nil {
		s.lastSession++
		x = newMemorySession(fmt.Sprintf("session-%d", s.lastSession), ttl)
		s.sessions[x.id] = x
	}
	h := &memoryHandle{client: m, session: x}
	x.holders[h] = struct{}{}
	s.refreshLocked()
	return h, nil
}

func (h *memoryHandle) ID() string { return h.session.id }

func (h *memoryHandle) Done() <-chan struct{} { return h.session.done }

// Orphan implements store.Session.
func (h *memoryHandle) Orphan() {
	h.orphan.Do(func() {
		s := h.client.server
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(h.session.holders, h)
		s.refreshLocked()
	})
}

// Close implements store.Session.
func (h *memoryHandle) Close(ctx context.Context) error {
	s := h.client.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := h.client.usableLocked(ctx); err != nil {
		return err
	}
	s.endLocked(h.session)
	return nil
}

// refreshLocked starts and stops the ttl of each session, by whether it has a
// holder whose link holds.
func (s *server) refreshLocked() {
	for _, x := range s.sessions {
		switch held := x.heldLocked(); {
		case held && x.expiry != nil:
			x.expiry.Stop()
			x.expiry = nil
		case !held && x.expiry == nil:
			s.startTTLLocked(x)
		}
	}
}

func (x *memorySession) heldLocked() bool {
	for h := range x.holders {
		if h.client.cut == nil && !h.client.ended {
			return true
		}
	}
	return false
}

func (s *server) startTTLLocked(x *memorySession) {
	var timer *time.Timer
	timer = time.AfterFunc(x.ttl, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if x.expiry == timer { // else it was refreshed just now
			s.endLocked(x)
		}
	})
	x.expiry = timer
}

// endLocked ends sessions and removes their keys, all at one revision.
func (s *server) endLocked(dead ...*memorySession) {
	rev := s.data.rev + 1
	var gone []store.Gone
	for _, x := range dead {
		if s.sessions[x.id] != x {
			continue
		}
		s.forgetLocked(x)
		for key, e := range s.data.keys {
			if e.session == x.id {
				delete(s.data.keys, key)
				gone = append(gone, store.Gone{Key: key, Rev: rev, Expired: true})
			}
		}
	}
	slices.SortFunc(gone, func(a, b store.Gone) int { return strings.Compare(a.Key, b.Key) })
	s.publishLocked(rev, nil, gone)
}

// forgetLocked ends a session but leaves its keys.
func (s *server) forgetLocked(x *memorySession) {
	delete(s.sessions, x.id)
	close(x.done)
	if x.expiry != nil {
		x.expiry.Stop()
		x.expiry = nil
	}
}
