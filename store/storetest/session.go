package storetest

import (
	"time"

	"github.com/listener-agent/listener/store"
)

var sessionCases = []testCase{
	{"session keeps its keys", (*suite).testSessionHeld},
	{"session orphaned", (*suite).testOrphan},
	{"session closed", (*suite).testSessionClose},
	{"session resumed", (*suite).testResume},
	{"session of a closed store", (*suite).testSessionStoreClosed},
	{"session outlives the process", (*suite).testSessionReopened},
	{"session that is gone", (*suite).testSessionGone},
	{"session key that is written again", (*suite).testSessionRebound},
}

// keep is how long keys must be seen to stay: past every ttl.
func (s *suite) keep() time.Duration { return 2*s.TTL + s.TTL/2 }

func (s *suite) testSessionHeld() {
	x := s.session(s.Store, s.TTL, "")
	rev := s.commit(s.Store, nil, store.PutSession("/t/held", []byte("1"), x))
	m := s.watch(s.Other, "/t/held")
	time.Sleep(s.keep())
	if kv := s.get(s.Other, "/t/held"); kv.Created != rev || kv.Rev != rev {
		s.Errorf("put at %d: revision %d, created %d", rev, kv.Rev, kv.Created)
	}
	select {
	case u := <-m.updates:
		s.Errorf("refreshing woke a watch: %s", describe(u))
	case <-x.Done():
		s.Error("done while it is held")
	default:
	}
}

func (s *suite) testOrphan() {
	x := s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/a", nil, x), store.PutSession("/t/b/c", nil, x), store.Put("/t/stays", nil))
	m := s.watch(s.Other, "/t/")
	x.Orphan()
	x.Orphan()
	orphaned := time.Now()
	select {
	case <-x.Done():
		s.Error("orphan closed done")
	default:
	}
	m.lacks("/t/a")
	m.lacks("/t/b/c")
	if took := time.Since(orphaned); took > 2*s.TTL+s.TTL/2 {
		s.Errorf("keys of a session of %v vanished after %v", s.TTL, took)
	}
	for _, key := range []string{"/t/a", "/t/b/c"} {
		if !m.expired[key] {
			s.Errorf("%s is not told as expired", key)
		}
	}
	s.absent(s.Other, "/t/a", "/t/b/c")
	s.get(s.Other, "/t/stays")
}

func (s *suite) testSessionClose() {
	x := s.session(s.Store, 60*s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/a", nil, x), store.PutSession("/t/b", nil, x))
	m := s.watch(s.Other, "/t/")
	if err := x.Close(s.Context()); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.absent(s.Store, "/t/a", "/t/b")
	s.absent(s.Other, "/t/a", "/t/b")
	s.wantDone(x)
	m.lacks("/t/a")
	m.lacks("/t/b")
	if err := x.Close(s.Context()); err != nil {
		s.Errorf("second close: %v", err)
	}
	x.Orphan()
}

func (s *suite) testResume() {
	x := s.session(s.Store, s.TTL, "")
	rev := s.commit(s.Store, nil, store.PutSession("/t/a", []byte("1"), x))
	x.Orphan()
	next := s.session(s.Other, s.TTL, x.ID())
	if next.ID() != x.ID() {
		s.Errorf("resumed %s as %s", x.ID(), next.ID())
	}
	s.commit(s.Other, nil, store.PutSession("/t/b", []byte("2"), next))
	time.Sleep(s.keep())
	if kv := s.get(s.Store, "/t/a"); kv.Rev != rev {
		s.Errorf("put at %d: revision %d", rev, kv.Rev)
	}
	s.get(s.Store, "/t/b")
	if err := next.Close(s.Context()); err != nil {
		s.Errorf("close: %v", err)
	}
	s.absent(s.Other, "/t/a", "/t/b")
}

func (s *suite) testSessionStoreClosed() {
	s.need(s.Other != s.Store, "Other, a second client")
	x := s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/a", nil, x))
	m := s.watch(s.Other, "/t/a")
	if err := s.Store.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
	s.get(s.Other, "/t/a") // orphaned, not closed
	m.lacks("/t/a")
}

func (s *suite) testSessionReopened() {
	s.need(s.Reopen != nil, "Reopen")
	held, left := s.session(s.Store, s.TTL, ""), s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/held", nil, held), store.PutSession("/t/left", nil, left))
	s.reopen()
	x := s.session(s.Store, s.TTL, held.ID())
	m := s.watch(s.Store, "/t/")
	m.lacks("/t/left")
	if !m.expired["/t/left"] && m.resets == 1 {
		s.Error("/t/left is not told as expired")
	}
	time.Sleep(s.keep())
	s.get(s.Store, "/t/held")
	if err := x.Close(s.Context()); err != nil {
		s.Errorf("close: %v", err)
	}
	s.absent(s.Store, "/t/held")
}

func (s *suite) testSessionGone() {
	closed := s.session(s.Store, s.TTL, "")
	if err := closed.Close(s.Context()); err != nil {
		s.Fatalf("close: %v", err)
	}
	expired := s.session(s.Store, s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/sign", nil, expired))
	expired.Orphan()
	s.eventually("the session expires", func() bool { return s.isGone(s.Store, "/t/sign") })

	for name, x := range map[string]store.Session{"closed": closed, "expired": expired} {
		_, err := s.Store.Session(s.Context(), s.TTL, x.ID())
		s.wantErr("resume of a session "+name, err, store.ErrSession)
		_, err = s.Store.Commit(s.Context(), nil, store.Put("/t/first", nil), store.PutSession("/t/second", nil, x))
		s.wantErr("write with a session "+name, err, store.ErrSession)
	}
	for _, id := range []string{"no such session", "0", "-1", "zz"} {
		_, err := s.Store.Session(s.Context(), s.TTL, id)
		s.wantErr("resume of "+id, err, store.ErrSession)
	}
	s.absent(s.Store, "/t/first", "/t/second")
}

// The last write says whether, and by which session, a key lives.
func (s *suite) testSessionRebound() {
	x, y := s.session(s.Store, 60*s.TTL, ""), s.session(s.Store, 60*s.TTL, "")
	s.commit(s.Store, nil, store.PutSession("/t/free", nil, x), store.PutSession("/t/moved", nil, x), store.PutSession("/t/kept", nil, x), store.PutSession("/t/removed", nil, x))
	s.commit(s.Store, nil, store.Put("/t/free", nil), store.PutSession("/t/moved", nil, y), store.PutSession("/t/kept", nil, x), store.Delete("/t/removed"))
	s.put(s.Store, "/t/removed", "back")
	if err := x.Close(s.Context()); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.absent(s.Store, "/t/kept")
	for _, key := range []string{"/t/free", "/t/moved", "/t/removed"} {
		s.get(s.Store, key)
	}
	if err := y.Close(s.Context()); err != nil {
		s.Fatalf("close: %v", err)
	}
	s.absent(s.Store, "/t/moved")
	s.get(s.Store, "/t/free")
}
