package nats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// follower keeps what a watch said.
type follower struct {
	t       testing.TB
	updates <-chan store.Update
	state   map[string]store.KV
	rev     uint64
	lost    error
	resets  int
	others  int // Resets that are of another history
	changes int
}

func follow(t testing.TB, s store.Store, prefixes ...string) *follower {
	t.Helper()
	f := &follower{t: t, updates: s.Watch(t.Context(), prefixes...), state: make(map[string]store.KV)}
	return f
}

// until takes updates until cond holds, for at most a minute or so: ten times
// what the slowest of these things may take.
func (f *follower) until(what string, cond func() bool) {
	f.t.Helper()
	deadline := time.After(100 * time.Second)
	for !cond() {
		select {
		case u := <-f.updates:
			f.apply(u)
		case <-deadline:
			f.t.Fatalf("not in time: %s; lost: %v, state: %v", what, f.lost, f.values())
		}
	}
}

func (f *follower) apply(u store.Update) {
	switch u.Kind {
	case store.Lost:
		f.lost = u.Err
		return
	case store.Reset:
		clear(f.state)
		f.lost = nil
		f.resets++
		if u.OtherHistory {
			f.others++
		}
	case store.Change:
		f.changes++
	}
	f.rev = u.Rev
	for _, kv := range u.KVs {
		f.state[kv.Key] = kv
	}
	for _, g := range u.Gone {
		delete(f.state, g.Key)
	}
}

func (f *follower) values() map[string]string {
	v := make(map[string]string)
	for k, kv := range f.state {
		v[k] = string(kv.Value)
	}
	return v
}

func (f *follower) has(key, value string) {
	f.t.Helper()
	f.until(fmt.Sprintf("%s is %.20s", key, value), func() bool {
		kv, ok := f.state[key]
		return ok && f.lost == nil && string(kv.Value) == value
	})
}

func (f *follower) lacks(key string) {
	f.t.Helper()
	f.until(key+" is gone", func() bool {
		_, ok := f.state[key]
		return !ok && f.lost == nil && f.resets > 0
	})
}

func put(t testing.TB, s store.Store, key, value string) uint64 {
	t.Helper()
	return commit(t, s, nil, store.Put(key, []byte(value)))
}

func commit(t testing.TB, s store.Store, conds []store.Cond, ops ...store.Op) uint64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), conds, ops...)
	must(t, err)
	return rev
}

func get(t testing.TB, s store.Store, key string) store.KV {
	t.Helper()
	kv, err := s.Get(t.Context(), key)
	must(t, err)
	return kv
}
