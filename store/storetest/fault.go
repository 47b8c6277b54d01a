package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/listener-agent/listener/store"
)

var faultCases = []testCase{
	{"link cut", (*suite).testCut},
	{"link cut at the start of a watch", (*suite).testCutStart},
	{"link cut while history is compacted", (*suite).testCutCompact},
	{"link cut for longer than a ttl", (*suite).testCutSession},
	{"server restarted", (*suite).testRestart},
	{"server wiped", (*suite).testWipe},
	{"server wiped and written to", (*suite).testWipeAhead},
	{"server set back", (*suite).testSetBack},
	{"server set back and written to", (*suite).testSetBackAhead},
	{"history compacted", (*suite).testCompact},
}

func (s *suite) cut() {
	s.need(s.Cut != nil && s.Heal != nil && s.Other != s.Store, "Cut and Heal, with an Other client")
	s.Cut(s.T)
}

// missed writes through Other what Store cannot see.
func (s *suite) missed() {
	s.put(s.Other, "/t/changed", "new")
	s.remove(s.Other, "/t/removed")
	s.put(s.Other, "/t/added", "new")
}

const afterMissed = "map[/t/added:new /t/changed:new /t/same:old]"

func (s *suite) beforeMissed() {
	for _, key := range []string{"/t/changed", "/t/removed", "/t/same"} {
		s.put(s.Other, key, "old")
	}
}

// caughtUp waits until m has all that missed wrote, and what is written now.
func (s *suite) caughtUp(m *mirror) {
	s.Helper()
	m.until("all that was missed", func() bool { return !m.lost && fmt.Sprint(m.values()) == afterMissed })
	s.put(s.Other, "/t/after", "1")
	m.has("/t/after", "1")
}

func (s *suite) testCut() {
	s.beforeMissed()
	m := s.watch(s.Store, "/t/")
	s.cut()
	m.until("Lost", func() bool { return m.lost })
	if !errors.Is(m.err, store.ErrUnavailable) {
		s.Errorf("Lost says %v", m.err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), s.Wait)
	defer cancel()
	if _, err := s.Store.Get(ctx, "/t/same"); !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("get over a cut link: %v", err)
	}
	s.missed()
	resets := m.resets
	s.Heal(s.T)
	s.caughtUp(m)
	if m.resets == resets {
		s.Error("no Reset after Lost")
	}
	s.sameHistory(m)
}

// sameHistory: what is the same store must not be taken for another one.
func (s *suite) sameHistory(m *mirror) {
	s.Helper()
	if m.others > 0 {
		s.Errorf("%d Resets say that they are of another history, which is not so", m.others)
	}
}

// otherHistory: a watch must say so where the store can tell.
func (s *suite) otherHistory(m *mirror) {
	s.Helper()
	if s.Histories && m.others == 0 {
		s.Errorf("no Reset of %d says that it is of another history", m.resets)
	}
}

// unseen does something while Store looks away, where that can be.
func (s *suite) unseen(do func()) {
	s.Helper()
	if s.Cut == nil {
		do()
		return
	}
	s.Cut(s.T)
	do()
	s.Heal(s.T)
}

func (s *suite) testCutStart() {
	s.beforeMissed()
	s.cut()
	m := &mirror{suite: s, updates: s.Store.Watch(s.Context(), "/t/"), prefixes: []string{"/t/"}}
	m.until("Lost", func() bool { return m.lost })
	s.missed()
	s.Heal(s.T)
	s.caughtUp(m)
}

func (s *suite) testCutCompact() {
	s.need(s.Compact != nil, "Compact")
	s.beforeMissed()
	m := s.watch(s.Store, "/t/")
	s.cut()
	s.missed()
	s.Compact(s.T)
	s.Heal(s.T)
	s.caughtUp(m)
	s.sameHistory(m)
}

func (s *suite) testCutSession() {
	s.need(s.Cut != nil && s.Heal != nil && s.Other != s.Store, "Cut and Heal, with an Other client")
	x := s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/a", nil, x))
	m := s.watch(s.Other, "/t/a")
	s.cut()
	m.lacks("/t/a")
	s.Heal(s.T)
	s.wantDone(x)
	_, err := s.Store.Commit(s.Context(), nil, store.PutSession("/t/a", nil, x))
	s.wantErr("write with a lost session", err, store.ErrSession)
}

func (s *suite) testRestart() {
	s.need(s.Restart != nil, "Restart")
	s.beforeMissed()
	m := s.watch(s.Store, "/t/")
	s.Restart(s.T)
	s.retry(func() error {
		_, err := s.Other.Commit(s.Context(), nil, store.Put("/t/first", nil))
		return err
	})
	s.remove(s.Other, "/t/first")
	s.missed()
	s.caughtUp(m)
	s.sameHistory(m)
}

func (s *suite) testWipe() {
	s.need(s.Wipe != nil, "Wipe")
	x := s.session(s.Store, s.TTL, "")
	s.beforeMissed()
	s.commit(s.Store, nil, store.PutSession("/t/bound", nil, x))
	m := s.watch(s.Store, "/t/")
	resets, rev := m.resets, m.rev
	s.Wipe(s.T)
	m.until("nothing is there", func() bool { return m.resets > resets && !m.lost && len(m.state) == 0 })
	if m.rev >= rev {
		s.Errorf("wiped, at revision %d, was %d", m.rev, rev)
	}
	s.otherHistory(m)
	s.retry(func() error {
		_, err := s.Other.Commit(s.Context(), nil, store.Put("/t/new", []byte("1")))
		return err
	})
	m.has("/t/new", "1") // a watch that waits for the old revision stays silent
	s.wantDone(x)
	_, err := s.Store.Session(s.Context(), s.TTL, x.ID())
	s.wantErr("resume of a session that was wiped", err, store.ErrSession)
}

// Another store is in place that has come further than the old one: no
// revision went backwards, and yet all is different.
func (s *suite) testWipeAhead() {
	s.need(s.Wipe != nil, "Wipe")
	s.put(s.Store, "/t/old", "1")
	m := s.watch(s.Store, "/t/")
	s.unseen(func() {
		s.Wipe(s.T)
		s.ahead(m.rev)
	})
	m.lacks("/t/old")
	m.has("/t/new", "1")
	s.otherHistory(m)
}

// ahead writes until the store is past a revision.
func (s *suite) ahead(of uint64) {
	s.Helper()
	s.eventually("the new store is ahead", func() bool {
		rev, err := s.Other.Commit(s.Context(), nil, store.Put("/t/new", []byte("1")))
		return err == nil && rev > of
	})
}

// The store was set back and went another way: no revision is lower.
func (s *suite) testSetBackAhead() {
	s.need(s.Snapshot != nil, "Snapshot")
	s.put(s.Store, "/t/a", "1")
	m := s.watch(s.Store, "/t/")
	setBack := s.Snapshot(s.T)
	s.put(s.Store, "/t/added", "2")
	m.has("/t/added", "2")
	s.unseen(func() {
		setBack(s.T)
		s.ahead(m.rev)
	})
	m.lacks("/t/added")
	m.has("/t/new", "1")
	s.otherHistory(m)
}

func (s *suite) testSetBack() {
	s.need(s.Snapshot != nil, "Snapshot")
	s.put(s.Store, "/t/a", "1")
	s.put(s.Store, "/t/removed", "1")
	setBack := s.Snapshot(s.T)
	s.put(s.Store, "/t/a", "2")
	s.remove(s.Store, "/t/removed")
	rev := s.put(s.Store, "/t/added", "2")
	m := s.watch(s.Store, "/t/")
	resets := m.resets
	setBack(s.T)
	m.until("the snapshot's state", func() bool {
		return !m.lost && m.resets > resets && fmt.Sprint(m.values()) == "map[/t/a:1 /t/removed:1]"
	})
	if m.rev >= rev {
		s.Errorf("set back, at revision %d, was %d", m.rev, rev)
	}
	s.otherHistory(m)
	s.retry(func() error {
		_, err := s.Other.Commit(s.Context(), nil, store.Put("/t/a", []byte("3")))
		return err
	})
	m.has("/t/a", "3")
	if kv := s.get(s.Store, "/t/a"); string(kv.Value) != "3" {
		s.Errorf("get: %q", kv.Value)
	}
}

func (s *suite) testCompact() {
	s.need(s.Compact != nil, "Compact")
	s.beforeMissed()
	m := s.watch(s.Store, "/t/")
	s.missed()
	s.Compact(s.T)
	s.caughtUp(m)
	s.sameHistory(m)
}

// retry does what a server that just came back may refuse at first.
func (s *suite) retry(do func() error) {
	s.Helper()
	var err error
	deadline := time.Now().Add(s.Wait)
	for err = do(); err != nil && time.Now().Before(deadline); err = do() {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		s.Fatalf("still after %v: %v", s.Wait, err)
	}
}
