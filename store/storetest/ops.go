package storetest

import (
	"errors"
	"time"

	"github.com/listener-agent/listener/store"
)

// Short forms of operations that must succeed.

func (s *suite) put(c store.Store, key, value string) uint64 {
	s.Helper()
	return s.commit(c, nil, store.Put(key, []byte(value)))
}

func (s *suite) remove(c store.Store, key string) uint64 {
	s.Helper()
	return s.commit(c, nil, store.Delete(key))
}

func (s *suite) commit(c store.Store, conds []store.Cond, ops ...store.Op) uint64 {
	s.Helper()
	rev, err := c.Commit(s.Context(), conds, ops...)
	if err != nil {
		s.Fatalf("commit: %v", err)
	}
	return rev
}

func (s *suite) get(c store.Store, key string) store.KV {
	s.Helper()
	kv, err := c.Get(s.Context(), key)
	if err != nil {
		s.Fatalf("get %s: %v", key, err)
	}
	if kv.Key != key {
		s.Fatalf("get %s returned key %s", key, kv.Key)
	}
	return kv
}

func (s *suite) list(c store.Store, prefix string) ([]store.KV, uint64) {
	s.Helper()
	kvs, rev, err := c.List(s.Context(), prefix)
	if err != nil {
		s.Fatalf("list %s: %v", prefix, err)
	}
	return kvs, rev
}

func (s *suite) absent(c store.Store, keys ...string) {
	s.Helper()
	for _, key := range keys {
		if kv, err := c.Get(s.Context(), key); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("get %s: %q, %v, want ErrNotFound", key, kv.Value, err)
		}
	}
}

func (s *suite) isGone(c store.Store, key string) bool {
	_, err := c.Get(s.Context(), key)
	return errors.Is(err, store.ErrNotFound)
}

func (s *suite) session(c store.Store, ttl time.Duration, resume string) store.Session {
	s.Helper()
	x, err := c.Session(s.Context(), ttl, resume)
	if err != nil {
		s.Fatalf("session: %v", err)
	}
	return x
}

func (s *suite) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// receive returns the next update, or fails the test.
func (s *suite) receive(ch <-chan store.Update) store.Update {
	s.Helper()
	select {
	case u, ok := <-ch:
		if !ok {
			s.Fatal("watch was closed")
		}
		return u
	case <-time.After(s.Wait):
		s.Fatalf("no update within %v", s.Wait)
		panic("unreachable")
	}
}

// wantClosed fails unless ch is closed soon; updates before that may come.
func (s *suite) wantClosed(ch <-chan store.Update) {
	s.Helper()
	deadline := time.After(s.Wait)
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-deadline:
			s.Fatalf("watch was not closed within %v", s.Wait)
		}
	}
}

// wantDone fails unless done is closed soon.
func (s *suite) wantDone(x store.Session) {
	s.Helper()
	select {
	case <-x.Done():
	case <-time.After(s.Wait):
		s.Fatalf("session %s is not done within %v", x.ID(), s.Wait)
	}
}
