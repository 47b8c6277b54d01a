package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/listener-agent/listener/store"
	"go.uber.org/goleak"
)

var watchCases = []testCase{
	{"reset first", (*suite).testResetFirst},
	{"nothing there is told", (*suite).testResetEmpty},
	{"a watch sees exactly its prefixes", (*suite).testExactPrefix},
	{"prefixes that overlap", (*suite).testOverlap},
	{"one commit is one update", (*suite).testOneUpdate},
	{"what was deleted is told", (*suite).testGone},
	{"many watches", (*suite).testManyWatches},
}

var endCases = []testCase{
	{"watch ends with its context", (*suite).testWatchContext},
	{"watch ends with the store", (*suite).testWatchClose},
	{"a closed store", (*suite).testClosed},
	{"no goroutine is left", (*suite).testLeak},
}

func (s *suite) testResetFirst() {
	s.put(s.Store, "/t/a", "1")
	s.put(s.Store, "/t/b", "2")
	rev := s.put(s.Store, "/u", "3")
	m := s.watch(s.Store, "/t/", "/u")
	if got, want := fmt.Sprint(m.values()), "map[/t/a:1 /t/b:2 /u:3]"; got != want || m.rev < rev {
		s.Errorf("reset to %s at %d, want %s at %d", got, m.rev, want, rev)
	}
}

func (s *suite) testResetEmpty() {
	u := s.receive(s.Store.Watch(s.Context(), "/t/none/", "/t/none"))
	if u.Kind != store.Reset || len(u.KVs) != 0 {
		s.Errorf("first update: %s", describe(u))
	}
	u = s.receive(s.Store.Watch(s.Context()))
	if u.Kind != store.Reset || len(u.KVs) != 0 {
		s.Errorf("first update of a watch of nothing: %s", describe(u))
	}
}

func (s *suite) testExactPrefix() {
	exact, subtree := s.watch(s.Store, "/t/app"), s.watch(s.Store, "/t/app/")
	for _, key := range []string{"/t/app2", "/t/app2/a", "/t/app-x", "/t/ap", "/t/app=20", "/app"} {
		s.put(s.Store, key, "no") // mirror refuses a key that is not under the prefix
	}
	s.commit(s.Store, nil, store.Put("/t/app", []byte("yes")), store.Put("/t/app/a/b", []byte("yes")), store.Put("/t/app2/a", nil))
	for _, m := range []*mirror{exact, subtree} {
		if u := m.next(); u.Kind != store.Change || len(u.KVs) != 1 || len(u.Gone) != 0 {
			s.Errorf("watch of %v: %s", m.prefixes, describe(u))
		}
	}
	exact.has("/t/app", "yes")
	subtree.has("/t/app/a/b", "yes")
}

func (s *suite) testOverlap() {
	s.put(s.Store, "/t/a/b", "1")
	m := s.watch(s.Store, "/t/a/b", "/t/", "/t/a/", "/t/a/b")
	m.has("/t/a/b", "1") // mirror refuses a key that comes twice
	s.put(s.Store, "/t/a/b", "2")
	m.has("/t/a/b", "2")
}

// Three keys are always written together: no state in between may be seen.
func (s *suite) testOneUpdate() {
	const rounds = 40
	m := s.watch(s.Store, "/t/three/")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range rounds {
			n := fmt.Append(nil, i)
			ops := []store.Op{store.Put("/t/three/a", n), store.Put("/t/three/b/c", n), store.Put("/t/three/z", n)}
			if i%5 == 4 {
				ops = []store.Op{store.Delete("/t/three/a"), store.Delete("/t/three/b/c"), store.Delete("/t/three/z")}
			}
			if _, err := s.Other.Commit(s.Context(), nil, ops...); err != nil {
				s.Errorf("commit %d: %v", i, err)
				return
			}
		}
		s.commitDone("/t/three/done")
	}()
	m.until("the last of them", func() bool {
		a, b, z := m.state["/t/three/a"], m.state["/t/three/b/c"], m.state["/t/three/z"]
		if string(a.Value) != string(b.Value) || string(b.Value) != string(z.Value) {
			s.Fatalf("at revision %d: %v", m.rev, m.values())
		}
		_, ok := m.state["/t/three/done"]
		return ok
	})
	<-done
}

// commitDone marks, from another goroutine, that a writer came to its end.
func (s *suite) commitDone(key string) {
	if _, err := s.Other.Commit(s.Context(), nil, store.Put(key, nil)); err != nil {
		s.Errorf("commit: %v", err)
	}
}

func (s *suite) testGone() {
	s.put(s.Store, "/t/a", "1")
	m := s.watch(s.Store, "/t/a")
	rev := s.remove(s.Store, "/t/a")
	u := m.next()
	if len(u.Gone) != 1 || u.Gone[0] != (store.Gone{Key: "/t/a", Rev: rev}) {
		s.Errorf("deleted at %d: %s", rev, describe(u))
	}
	s.put(s.Store, "/t/a", "2")
	m.has("/t/a", "2")
}

func (s *suite) testManyWatches() {
	const n = 30
	var all []*mirror
	for i := range n {
		all = append(all, s.watch(s.Store, fmt.Sprintf("/t/k%d", i), "/t/all"))
	}
	for i := range n {
		s.put(s.Other, fmt.Sprintf("/t/k%d", i), fmt.Sprint(i))
	}
	s.put(s.Other, "/t/all", "done")
	for i, m := range all {
		m.has("/t/all", "done")
		if len(m.state) != 2 || m.values()[fmt.Sprintf("/t/k%d", i)] != fmt.Sprint(i) {
			s.Errorf("watch %d: %v", i, m.values())
		}
	}
}

func (s *suite) testWatchContext() {
	ctx, cancel := context.WithCancel(s.Context())
	waiting, unread := s.Store.Watch(ctx, "/t/"), s.Store.Watch(ctx, "/t/")
	s.receive(waiting)
	s.put(s.Store, "/t/a", "1") // nobody takes it
	cancel()
	s.wantClosed(waiting)
	s.wantClosed(unread)
	s.wantClosed(s.Store.Watch(ctx, "/t/"))
	s.put(s.Store, "/t/a", "2")
}

func (s *suite) testWatchClose() {
	waiting, unread := s.Store.Watch(s.Context(), "/t/"), s.Store.Watch(s.Context(), "/t/")
	s.receive(waiting)
	if err := s.Store.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
	s.wantClosed(waiting)
	s.wantClosed(unread)
}

func (s *suite) testClosed() {
	x := s.session(s.Store, s.TTL, "")
	if err := s.Store.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
	_, err := s.Store.Get(s.Context(), "/t/a")
	s.wantErr("get", err, store.ErrClosed)
	_, _, err = s.Store.List(s.Context(), "/t/")
	s.wantErr("list", err, store.ErrClosed)
	_, err = s.Store.Commit(s.Context(), nil, store.Put("/t/a", nil))
	s.wantErr("commit", err, store.ErrClosed)
	_, err = s.Store.Session(s.Context(), s.TTL, "")
	s.wantErr("session", err, store.ErrClosed)
	s.wantErr("close of a session", x.Close(s.Context()), store.ErrClosed)
	x.Orphan()
	s.wantClosed(s.Store.Watch(s.Context(), "/t/"))
	if err := s.Store.Close(); err != nil {
		s.Errorf("second close: %v", err)
	}
}

// In a bubble the end of any test is this test.
func (s *suite) testLeak() {
	s.need(s.Reopen != nil, "Reopen")
	before := goleak.IgnoreCurrent()
	s.reopen()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	for range 10 {
		s.receive(s.Store.Watch(ctx, "/t/"))
		s.Store.Watch(s.Context(), "/t/")
	}
	held, orphan := s.session(s.Store, s.TTL, ""), s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/a", nil, held), store.PutSession("/t/b", nil, orphan))
	orphan.Orphan()
	cancel()
	s.put(s.Store, "/t/c", "")
	if err := s.Store.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
	if !s.bubble {
		s.noneLeft(s.T, before)
	}
}

func (*suite) noneLeft(t *testing.T, before goleak.Option) {
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
