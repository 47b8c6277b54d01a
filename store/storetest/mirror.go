package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

// mirror follows a watch as an agent does, and checks that each update is one
// that may come.
type mirror struct {
	*suite
	updates  <-chan store.Update
	prefixes []string
	pause    time.Duration // after each update: a receiver that is slow

	state   map[string]store.KV
	expired map[string]bool // how a key that is not in state went, if a Gone said so
	rev     uint64
	resets  int
	others  int // Resets that said that they are of another history
	lost    bool
	err     error // of the last Lost
}

// watch begins a watch and takes its first Reset.
func (s *suite) watch(c store.Store, prefixes ...string) *mirror {
	s.Helper()
	return s.watchUntil(s.Context(), c, prefixes...)
}

func (s *suite) watchUntil(ctx context.Context, c store.Store, prefixes ...string) *mirror {
	s.Helper()
	m := &mirror{suite: s, updates: c.Watch(ctx, prefixes...), prefixes: prefixes}
	m.until("the first Reset", func() bool { return m.resets > 0 })
	return m
}

// until takes updates until cond holds.
func (m *mirror) until(what string, cond func() bool) {
	m.Helper()
	deadline := time.After(m.Wait)
	for !cond() {
		select {
		case u, ok := <-m.updates:
			if !ok {
				m.Fatalf("watch was closed before: %s", what)
			}
			if err := m.apply(u); err != nil {
				m.Fatalf("%v\n%s", err, describe(u))
			}
			time.Sleep(m.pause)
		case <-deadline:
			m.Fatalf("not within %v: %s; the watch says %v", m.Wait, what, m.values())
		}
	}
}

// next takes one update.
func (m *mirror) next() store.Update {
	m.Helper()
	u := m.receive(m.updates)
	if err := m.apply(u); err != nil {
		m.Fatalf("%v\n%s", err, describe(u))
	}
	return u
}

// has waits for a value.
func (m *mirror) has(key, value string) {
	m.Helper()
	m.until(key+" is "+value, func() bool {
		kv, ok := m.state[key]
		return ok && !m.lost && string(kv.Value) == value
	})
}

// lacks waits until a key is not there.
func (m *mirror) lacks(key string) {
	m.Helper()
	m.until(key+" is gone", func() bool {
		_, ok := m.state[key]
		return !ok && !m.lost
	})
}

func (m *mirror) values() map[string]string {
	return values(slices.Collect(maps.Values(m.state)))
}

func values(kvs []store.KV) map[string]string {
	v := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		v[kv.Key] = string(kv.Value)
	}
	return v
}

// apply takes one update over, or says what is wrong with it.
func (m *mirror) apply(u store.Update) error {
	if err := m.allowed(u); err != nil {
		return err
	}
	switch u.Kind {
	case store.Lost:
		m.lost, m.err = true, u.Err
		return nil
	case store.Reset:
		m.state, m.expired, m.lost = make(map[string]store.KV), make(map[string]bool), false
		m.resets++
		if u.OtherHistory {
			m.others++
		}
	}
	m.rev = u.Rev
	for _, kv := range u.KVs {
		m.state[kv.Key] = kv
		delete(m.expired, kv.Key)
	}
	for _, g := range u.Gone {
		delete(m.state, g.Key)
		m.expired[g.Key] = g.Expired
	}
	return nil
}

func (m *mirror) allowed(u store.Update) error {
	switch {
	case u.Kind == store.Lost:
		if m.lost && feed.SameKind(m.err, u.Err) || u.Err == nil || u.Rev != 0 || len(u.KVs)+len(u.Gone) > 0 {
			return fmt.Errorf("a Lost that is the second of its kind, without an error, or with a state")
		}
		return nil
	case u.Kind == store.Reset:
		if len(u.Gone) > 0 {
			return fmt.Errorf("a Reset with keys that are gone")
		}
	case u.Kind != store.Change:
		return fmt.Errorf("an update of unknown kind %d", u.Kind)
	case m.resets == 0 || m.lost:
		return fmt.Errorf("a Change before a Reset")
	// A commit under two prefixes may come as two updates of one revision.
	case u.Rev < m.rev || u.Rev == m.rev && len(m.prefixes) == 1:
		return fmt.Errorf("a Change to revision %d after %d", u.Rev, m.rev)
	case len(u.KVs)+len(u.Gone) == 0:
		return fmt.Errorf("a Change of nothing")
	}
	if u.Err != nil {
		return fmt.Errorf("an error outside Lost")
	}
	if u.OtherHistory && u.Kind != store.Reset {
		return fmt.Errorf("a Change of another history")
	}
	return m.sound(u)
}

// sound checks the keys of an update.
func (m *mirror) sound(u store.Update) error {
	seen := make(map[string]bool)
	know := func(key string, rev uint64) error {
		if seen[key] {
			return fmt.Errorf("%s twice in one update", key)
		}
		seen[key] = true
		if !slices.ContainsFunc(m.prefixes, func(p string) bool { return feed.Under(p, key) }) {
			return fmt.Errorf("%s is not under %v", key, m.prefixes)
		}
		if rev == 0 || rev > u.Rev {
			return fmt.Errorf("%s has revision %d in an update to %d", key, rev, u.Rev)
		}
		return nil
	}
	for _, kv := range u.KVs {
		if err := know(kv.Key, kv.Rev); err != nil {
			return err
		}
		if kv.Created == 0 || kv.Created > kv.Rev {
			return fmt.Errorf("%s was created at revision %d, written at %d", kv.Key, kv.Created, kv.Rev)
		}
	}
	for _, g := range u.Gone {
		if err := know(g.Key, g.Rev); err != nil {
			return err
		}
	}
	return nil
}

func describe(u store.Update) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to revision %d", map[store.Kind]string{store.Reset: "Reset", store.Change: "Change", store.Lost: "Lost"}[u.Kind], u.Rev)
	for _, kv := range u.KVs {
		fmt.Fprintf(&b, "\n\t%s = %.40q (rev %d, created %d)", kv.Key, kv.Value, kv.Rev, kv.Created)
	}
	for _, g := range u.Gone {
		fmt.Fprintf(&b, "\n\t%s gone (rev %d, expired %v)", g.Key, g.Rev, g.Expired)
	}
	return b.String()
}
