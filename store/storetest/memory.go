package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

// Memory is a client of a store in memory, with controls for what goes wrong
// with real ones. It does no input or output and takes its time from package
// time, so it works inside a testing/synctest bubble.
//
// NewMemory makes a store and its first client; Dial makes more. Cut, Heal
// and Refuse are about one client's link, the other controls about the store.
type Memory struct {
	server  *server
	closed  chan struct{}
	watches sync.WaitGroup

	// Guarded by server.mu.
	ended   bool
	cut     error // why the link is away; nil: it holds
	refused error // what operations return although the link holds
	feeds   map[*feed.Feed]struct{}
}

// server is what the clients share.
type server struct {
	mu          sync.Mutex // guards all of it, and the clients' fields
	data        data
	clients     map[*Memory]struct{}
	sessions    map[string]*memorySession
	lastSession int // ids are never used again, also not after a Wipe
}

// data is what a snapshot holds.
type data struct {
	rev  uint64
	keys map[string]entry
}

// An entry is never changed, only replaced.
type entry struct {
	store.KV
	session string
}

var _ store.Store = (*Memory)(nil)

// NewMemory returns a client of a new, empty store at revision 1.
func NewMemory() *Memory {
	s := &server{
		data:     data{rev: 1, keys: make(map[string]entry)},
		clients:  make(map[*Memory]struct{}),
		sessions: make(map[string]*memorySession),
	}
	return s.dial()
}

// Dial returns another client of the same store, with a link of its own.
func (m *Memory) Dial() *Memory { return m.server.dial() }

func (s *server) dial() *Memory {
	m := &Memory{server: s, closed: make(chan struct{}), feeds: make(map[*feed.Feed]struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[m] = struct{}{}
	return m
}

// usableLocked returns why an operation cannot be done.
func (m *Memory) usableLocked(ctx context.Context) error {
	switch {
	case m.ended:
		return store.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case m.cut != nil:
		return m.cut
	}
	return m.refused
}

// Get implements store.Store.
func (m *Memory) Get(ctx context.Context, key string) (store.KV, error) {
	if err := store.CheckKey(key); err != nil {
		return store.KV{}, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return store.KV{}, err
	}
	e, ok := m.server.data.keys[key]
	if !ok {
		return store.KV{}, fmt.Errorf("%w: %s", store.ErrNotFound, key)
	}
	return e.copy(), nil
}

func (e entry) copy() store.KV {
	kv := e.KV
	kv.Value = bytes.Clone(kv.Value)
	return kv
}

// List implements store.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]store.KV, uint64, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, 0, err
	}
	return m.server.data.under(feed.NewPrefixes([]string{prefix})), m.server.data.rev, nil
}

func (d data) under(p feed.Prefixes) (kvs []store.KV) {
	for _, e := range d.keys {
		if p.Match(e.Key) {
			kvs = append(kvs, e.copy())
		}
	}
	slices.SortFunc(kvs, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) })
	return kvs
}

// Watch implements store.Store.
func (m *Memory) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	f := feed.New(prefixes)
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if m.ended {
		f.Run(ctx, m.closed) // closes its channel
		return f.C()
	}
	m.feeds[f] = struct{}{}
	m.beginLocked(f)
	m.watches.Go(func() {
		f.Run(ctx, m.closed)
		m.server.mu.Lock()
		defer m.server.mu.Unlock()
		delete(m.feeds, f)
	})
	return f.C()
}

func (m *Memory) beginLocked(f *feed.Feed) {
	if m.cut != nil {
		f.Lost(m.cut)
		return
	}
	f.Reset(m.server.data.rev, m.server.data.under(f.Prefixes()))
}

// Commit implements store.Store.
func (m *Memory) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	if err := store.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return 0, err
	}
	for _, op := range ops {
		if op.Session != nil && s.sessions[op.Session.ID()] == nil {
			return 0, fmt.Errorf("%w: %s", store.ErrSession, op.Session.ID())
		}
	}
	for _, c := range conds {
		if rev := s.data.keys[c.Key].Rev; rev != c.Rev {
			return 0, fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, c.Key, rev, c.Rev)
		}
	}
	s.applyLocked(ops)
	return s.data.rev, nil
}

func (s *server) applyLocked(ops []store.Op) {
	rev := s.data.rev + 1
	var kvs []store.KV
	var gone []store.Gone
	for _, op := range slices.SortedFunc(slices.Values(ops), func(a, b store.Op) int { return strings.Compare(a.Key, b.Key) }) {
		old, exists := s.data.keys[op.Key]
		if op.Delete {
			if exists {
				delete(s.data.keys, op.Key)
				gone = append(gone, store.Gone{Key: op.Key, Rev: rev})
			}
			continue
		}
		e := entry{KV: store.KV{Key: op.Key, Value: append([]byte{}, op.Value...), Rev: rev, Created: rev}}
		if exists {
			e.Created = old.Created
		}
		if op.Session != nil {
			e.session = op.Session.ID()
		}
		s.data.keys[op.Key] = e
		kvs = append(kvs, e.KV)
	}
	s.publishLocked(rev, kvs, gone)
}

// publishLocked makes rev the store's revision, if anything happened at it,
// and tells the watches whose link holds.
func (s *server) publishLocked(rev uint64, kvs []store.KV, gone []store.Gone) {
	if len(kvs)+len(gone) == 0 {
		return
	}
	s.data.rev = rev
	for m := range s.clients {
		for f := range m.feeds {
			f.Change(rev, kvs, gone) // nothing while the link is cut: the feed is lost
		}
	}
}

// Close implements store.Store. The store itself lives as long as a client.
func (m *Memory) Close() error {
	m.server.mu.Lock()
	if !m.ended {
		m.ended = true
		close(m.closed)
		delete(m.server.clients, m)
		m.server.refreshLocked()
	}
	m.server.mu.Unlock()
	m.watches.Wait()
	return nil
}

// resetLocked makes all watches of the client doubt, then sends them what
// the store holds.
func (m *Memory) resetLocked(cause error) {
	for f := range m.feeds {
		f.Lost(cause)
		if m.cut == nil {
			f.Reset(m.server.data.rev, m.server.data.under(f.Prefixes()))
		}
	}
}
