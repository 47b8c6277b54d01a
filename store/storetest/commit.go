package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/listener-agent/listener/store"
)

var commitCases = []testCase{
	{"revisions", (*suite).testRevisions},
	{"revisions outlive the process", (*suite).testRevisionsReopened},
	{"conditions on the key itself", (*suite).testConditions},
	{"must not exist", (*suite).testMustNotExist},
	{"conditions on keys that are not written", (*suite).testFencing},
	{"all or nothing", (*suite).testAllOrNothing},
	{"a commit without ops", (*suite).testNoOps},
	{"delete of nothing", (*suite).testDeleteNothing},
	{"counters under contention", (*suite).testContention},
}

func (s *suite) testRevisions() {
	first := s.put(s.Store, "/t/a", "1")
	second := s.put(s.Store, "/t/a", "2")
	if second <= first {
		s.Errorf("revision %d after %d", second, first)
	}
	if kv := s.get(s.Store, "/t/a"); kv.Rev != second || kv.Created != first {
		s.Errorf("written at %d and %d: revision %d, created %d", first, second, kv.Rev, kv.Created)
	}
	third := s.put(s.Store, "/t/b", "1")
	if kv := s.get(s.Store, "/t/a"); kv.Rev != second {
		s.Errorf("revision %d after a write to another key, was %d", kv.Rev, second)
	}
	if _, rev := s.list(s.Store, "/t/"); rev < third {
		s.Errorf("list at %d after revision %d", rev, third)
	}
	removed := s.remove(s.Store, "/t/a")
	if removed <= third {
		s.Errorf("revision %d of a delete after %d", removed, third)
	}
	again := s.put(s.Store, "/t/a", "3")
	if kv := s.get(s.Store, "/t/a"); again <= removed || kv.Created != again {
		s.Errorf("put again at %d: created %d", again, kv.Created)
	}
}

func (s *suite) testRevisionsReopened() {
	s.need(s.Reopen != nil, "Reopen")
	s.put(s.Store, "/t/a", "1")
	s.put(s.Store, "/t/a", "2")
	last := s.put(s.Store, "/t/b", "3")
	before, _ := s.list(s.Store, "/t/")
	s.reopen()
	after, rev := s.list(s.Store, "/t/")
	if fmt.Sprint(before) != fmt.Sprint(after) || rev < last {
		s.Errorf("reopened: %v at %d, was %v at %d", after, rev, before, last)
	}
	if next := s.put(s.Store, "/t/a", "4"); next <= last {
		s.Errorf("revision %d after %d", next, last)
	}
}

func (s *suite) testConditions() {
	old := s.put(s.Store, "/t/a", "1")
	now := s.commit(s.Store, []store.Cond{{Key: "/t/a", Rev: old}}, store.Put("/t/a", []byte("2")))
	for _, wrong := range []uint64{0, old, now + 1} {
		_, err := s.Store.Commit(s.Context(), []store.Cond{{Key: "/t/a", Rev: wrong}}, store.Put("/t/a", []byte("3")))
		s.wantErr(fmt.Sprintf("condition on %d, is at %d", wrong, now), err, store.ErrConflict)
		_, err = s.Store.Commit(s.Context(), []store.Cond{{Key: "/t/a", Rev: wrong}}, store.Delete("/t/a"))
		s.wantErr("delete on that condition", err, store.ErrConflict)
	}
	if kv := s.get(s.Store, "/t/a"); string(kv.Value) != "2" || kv.Rev != now {
		s.Errorf("%q at %d", kv.Value, kv.Rev)
	}
	s.commit(s.Store, []store.Cond{{Key: "/t/a", Rev: now}}, store.Delete("/t/a"))
	s.absent(s.Store, "/t/a")
	_, err := s.Store.Commit(s.Context(), []store.Cond{{Key: "/t/a", Rev: now}}, store.Put("/t/a", nil))
	s.wantErr("condition on a revision of a key that is gone", err, store.ErrConflict)
}

func (s *suite) testMustNotExist() {
	free := []store.Cond{{Key: "/t/once"}}
	for i := range 3 {
		s.commit(s.Store, free, store.Put("/t/once", []byte("mine")))
		_, err := s.Other.Commit(s.Context(), free, store.Put("/t/once", []byte("theirs")))
		s.wantErr(fmt.Sprintf("round %d: a second one", i), err, store.ErrConflict)
		if kv := s.get(s.Store, "/t/once"); string(kv.Value) != "mine" {
			s.Errorf("round %d: %q", i, kv.Value)
		}
		s.remove(s.Store, "/t/once") // the next round is over a deleted key
	}
}

// A holder of a lock writes only while its ticket is what it was.
func (s *suite) testFencing() {
	ticket := s.put(s.Store, "/t/lock/ticket", "me")
	fence := []store.Cond{{Key: "/t/lock/ticket", Rev: ticket}, {Key: "/t/lock/sealed"}}
	s.commit(s.Store, fence, store.Put("/t/data", []byte("1")))
	s.commit(s.Store, fence, store.Put("/t/data", []byte("2")))
	s.put(s.Other, "/t/lock/sealed", "")
	_, err := s.Store.Commit(s.Context(), fence, store.Put("/t/data", []byte("3")))
	s.wantErr("a key that must not exist does", err, store.ErrConflict)
	s.remove(s.Other, "/t/lock/sealed")
	s.put(s.Other, "/t/lock/ticket", "them")
	_, err = s.Store.Commit(s.Context(), fence, store.Put("/t/data", []byte("4")))
	s.wantErr("the ticket is another", err, store.ErrConflict)
	if kv := s.get(s.Store, "/t/data"); string(kv.Value) != "2" {
		s.Errorf("%q was written past the fence", kv.Value)
	}
}

func (s *suite) testAllOrNothing() {
	s.put(s.Store, "/t/old", "old")
	before, _ := s.list(s.Store, "/t/")
	_, err := s.Store.Commit(s.Context(),
		[]store.Cond{{Key: "/t/none"}, {Key: "/t/old", Rev: 1 << 60}},
		store.Put("/t/a", nil), store.Put("/t/old", nil), store.Put("/t/none", nil))
	s.wantErr("one condition of two", err, store.ErrConflict)
	_, err = s.Store.Commit(s.Context(), nil, store.Put("/t/a", nil), store.Delete("/t/old"), store.Put("/t/b//", nil))
	s.wantErr("one op of three", err, store.ErrInvalid)
	after, _ := s.list(s.Store, "/t/")
	if fmt.Sprint(before) != fmt.Sprint(after) {
		s.Errorf("now %v, was %v", after, before)
	}
	s.commit(s.Store, nil, store.Put("/t/a", nil), store.Delete("/t/old"), store.Put("/t/b", nil))
	s.absent(s.Store, "/t/old")
	s.get(s.Store, "/t/a")
	s.get(s.Store, "/t/b")
}

func (s *suite) testNoOps() {
	rev := s.put(s.Store, "/t/a", "1")
	if now := s.commit(s.Store, []store.Cond{{Key: "/t/a", Rev: rev}, {Key: "/t/b"}}); now < rev {
		s.Errorf("revision %d, was %d", now, rev)
	}
	_, err := s.Store.Commit(s.Context(), []store.Cond{{Key: "/t/a"}})
	s.wantErr("condition without ops", err, store.ErrConflict)
	if now := s.commit(s.Store, nil); now < rev {
		s.Errorf("revision %d, was %d", now, rev)
	}
}

func (s *suite) testDeleteNothing() {
	m := s.watch(s.Store, "/t/")
	s.remove(s.Store, "/t/none")
	s.commit(s.Store, nil, store.Delete("/t/none"), store.Put("/t/a", []byte("1")))
	m.has("/t/a", "1")
	s.absent(s.Store, "/t/none")
}

// Goroutines raise one counter by compare-and-swap: none of their increments
// may be lost or counted twice.
func (s *suite) testContention() {
	const workers, each = 4, 20
	var all sync.WaitGroup
	for w := range workers {
		c := s.Store
		if w%2 == 1 {
			c = s.Other
		}
		all.Go(func() {
			for range each {
				if err := s.increment(c, "/t/counter"); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if kv := s.get(s.Store, "/t/counter"); string(kv.Value) != fmt.Sprint(workers*each) {
		s.Errorf("counter is %s after %d increments", kv.Value, workers*each)
	}
}

func (s *suite) increment(c store.Store, key string) error {
	for {
		kv, err := c.Get(s.Context(), key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n := 0
		if _, scanErr := fmt.Sscan(string(kv.Value), &n); err == nil && scanErr != nil {
			return scanErr
		}
		_, err = c.Commit(s.Context(), []store.Cond{{Key: key, Rev: kv.Rev}}, store.Put(key, fmt.Append(nil, n+1)))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
