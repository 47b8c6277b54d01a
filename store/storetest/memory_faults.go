package storetest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/listener-agent/listener/store"
)

// Causes that watches and operations report.
var (
	errCut       = fmt.Errorf("%w: link cut", store.ErrUnavailable)
	errRestarted = fmt.Errorf("%w: store restarted", store.ErrUnavailable)
	errOtherData = fmt.Errorf("%w: store holds other data", store.ErrUnavailable)
)

// Cut cuts this client's link: its watches see Lost, its operations return
// store.ErrUnavailable, its sessions are not refreshed.
func (m *Memory) Cut() { m.CutFor(errCut) }

// CutFor is Cut for another reason. A link that is cut can be cut again: the
// reason changes.
func (m *Memory) CutFor(reason error) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.cut = reason
	for f := range m.feeds {
		f.Lost(reason)
	}
	m.server.refreshLocked()
}

// Heal mends what Cut did: watches see a Reset. Sessions that outlived the
// cut go on.
func (m *Memory) Heal() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if m.cut == nil {
		return
	}
	m.cut = nil
	m.resetLocked(errCut)
	m.server.refreshLocked()
}

// Refuse makes the operations of this client, but not its watches, return
// err until Refuse(nil): store.ErrPermission, say.
func (m *Memory) Refuse(err error) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.refused = err
}

// Restart stops the store and starts it on the same data: all watches of all
// clients see a Reset, orphaned sessions get their whole ttl again.
func (m *Memory) Restart() {
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		if x.expiry != nil {
			x.expiry.Stop()
			s.startTTLLocked(x)
		}
	}
	s.resetLocked(errRestarted)
}

// Wipe removes all keys and sessions and begins again at revision 1, as a
// store does whose data directory was deleted.
func (m *Memory) Wipe() {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.server.replaceLocked(data{rev: 1, keys: make(map[string]entry)}, nil)
}

// Snapshot returns what sets the store back to its present keys, revision and
// sessions, as the restore of a backup does. It can be called more than once.
func (m *Memory) Snapshot() (setBack func()) {
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	then := data{rev: s.data.rev, keys: maps.Clone(s.data.keys)}
	sessions := maps.Clone(s.sessions)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replaceLocked(data{rev: then.rev, keys: maps.Clone(then.keys)}, sessions)
	}
}

// SetRevision makes rev the store's revision, higher or lower; all watches
// see a Reset. Keys stay; revisions of keys that would be higher become rev.
func (m *Memory) SetRevision(rev uint64) {
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data.rev = rev
	for key, e := range s.data.keys {
		e.Rev, e.Created = min(e.Rev, rev), min(e.Created, rev)
		s.data.keys[key] = e
	}
	s.resetLocked(errOtherData)
}

// ExpireSessions ends all sessions at once, as if every holder had died a
// ttl ago: their keys go, in one update.
func (m *Memory) ExpireSessions() {
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(slices.Collect(maps.Values(s.sessions))...)
}

// Revision returns the store's revision, also while the link is cut.
func (m *Memory) Revision() uint64 {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return m.server.data.rev
}

// replaceLocked puts other data in place. Sessions live on that are in both;
// one that ended since the snapshot is back without a holder, for its ttl.
func (s *server) replaceLocked(d data, sessions map[string]*memorySession) {
	for id, x := range s.sessions {
		if sessions[id] == nil {
			s.forgetLocked(x)
		}
	}
	for id, x := range sessions {
		if s.sessions[id] == nil {
			s.sessions[id] = newMemorySession(id, x.ttl)
		}
	}
	s.data = d
	for m := range s.clients {
		for f := range m.feeds {
			f.OtherHistory()
		}
	}
	s.refreshLocked()
	s.resetLocked(errOtherData)
}

func (s *server) resetLocked(cause error) {
	for m := range s.clients {
		m.resetLocked(cause)
	}
}
