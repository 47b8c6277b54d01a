package etcd_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// follower keeps what a watch says.
type follower struct {
	t       *testing.T
	updates <-chan store.Update

	values map[string]string
	rev    uint64
	resets int
	others int // Resets of another history
	losses int
	lost   error // nil while it is not
}

func follow(t *testing.T, s store.Store, prefixes ...string) *follower {
	t.Helper()
	return &follower{t: t, updates: s.Watch(t.Context(), prefixes...)}
}

// until takes updates until ok, and returns how long that took.
func (f *follower) until(what string, ok func() bool) time.Duration {
	f.t.Helper()
	began, deadline := time.Now(), time.After(limit)
	for !ok() {
		select {
		case u, open := <-f.updates:
			if !open {
				f.t.Fatalf("the watch ended before: %s", what)
			}
			f.apply(u)
		case <-deadline:
			f.t.Fatalf("not within %s: %s; there are %v at %d, lost: %v", limit, what, f.values, f.rev, f.lost)
		}
	}
	return time.Since(began)
}

func (f *follower) apply(u store.Update) {
	switch u.Kind {
	case store.Lost:
		f.lost = u.Err
		f.losses++
		return
	case store.Reset:
		f.values, f.lost = map[string]string{}, nil
		f.resets++
		if u.OtherHistory {
			f.others++
		}
	}
	f.rev = u.Rev
	for _, kv := range u.KVs {
		f.values[kv.Key] = string(kv.Value)
	}
	for _, g := range u.Gone {
		delete(f.values, g.Key)
	}
}

// has waits until these are all the values, as key=value key=value.
func (f *follower) has(text string) time.Duration {
	f.t.Helper()
	want := map[string]string{}
	for pair := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(pair, "=")
		want[k] = v
	}
	return f.until(fmt.Sprint(want), func() bool { return f.resets > 0 && f.lost == nil && maps.Equal(f.values, want) })
}

// isLost waits until the watch says so, with words in the reason.
func (f *follower) isLost(words ...string) time.Duration {
	f.t.Helper()
	took := f.until("Lost", func() bool { return f.lost != nil })
	for _, w := range words {
		if !strings.Contains(f.lost.Error(), w) {
			f.t.Errorf("Lost without %q: %v", w, f.lost)
		}
	}
	return took
}

func put(t *testing.T, s store.Store, key, value string) uint64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), nil, store.Put(key, []byte(value)))
	must(t, err)
	return rev
}

// eventually does it until it succeeds, as after a fault.
func eventually(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	t.Fatalf("still after %s: %v", limit, err)
}

// within fails the test when something took ten times what it is to take.
func within(t *testing.T, what string, took, figure time.Duration) {
	t.Helper()
	t.Logf("%s: %v", what, took.Round(time.Millisecond))
	if took > 10*figure {
		t.Errorf("%s took %v, is to take %v", what, took, figure)
	}
}
