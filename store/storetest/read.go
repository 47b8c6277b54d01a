package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/listener-agent/listener/store"
)

var readCases = []testCase{
	{"get of what is not there", (*suite).testGetNothing},
	{"values of any bytes", (*suite).testValues},
	{"values belong to the receiver", (*suite).testOwnership},
	{"list is the exact range, sorted", (*suite).testListRange},
	{"list is of one revision", (*suite).testListConsistent},
	{"malformed arguments", (*suite).testInvalid},
	{"an ended context", (*suite).testContext},
}

func (s *suite) testGetNothing() {
	s.absent(s.Store, "/t/none")
	kvs, _ := s.list(s.Store, "/t/none/")
	if len(kvs) != 0 {
		s.Errorf("list of nothing: %v", values(kvs))
	}
}

func (s *suite) testValues() {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, value := range map[string][]byte{
		"empty":   {},
		"binary":  all,
		"largest": bytes.Repeat([]byte("0123456789abcdef"), store.MaxValue/16),
	} {
		key := "/t/values/" + name
		m := s.watch(s.Store, key)
		rev := s.commit(s.Store, nil, store.Put(key, value))
		kv := s.get(s.Store, key)
		if !bytes.Equal(kv.Value, value) || kv.Rev != rev || kv.Created != rev {
			s.Errorf("%s: got %d bytes at %d, created %d; wrote %d at %d", name, len(kv.Value), kv.Rev, kv.Created, len(value), rev)
		}
		m.until("the value is there", func() bool { return bytes.Equal(m.state[key].Value, value) && m.state[key].Rev == rev })
	}
	_, err := s.Store.Commit(s.Context(), nil, store.Put("/t/values/larger", make([]byte, store.MaxValue+1)))
	s.wantErr("a value that is too large", err, store.ErrInvalid)
	s.absent(s.Store, "/t/values/larger")
}

func (s *suite) testOwnership() {
	value := []byte("right")
	m := s.watch(s.Store, "/t/own")
	other := s.watch(s.Store, "/t/own")
	s.commit(s.Store, nil, store.Put("/t/own", value))
	spoil := func(b []byte) { copy(b, "wrong") }
	spoil(value)
	m.has("/t/own", "right")
	spoil(m.state["/t/own"].Value)
	other.has("/t/own", "right")
	spoil(s.get(s.Store, "/t/own").Value)
	kvs, _ := s.list(s.Store, "/t/own")
	spoil(kvs[0].Value)
	if got := s.get(s.Store, "/t/own").Value; string(got) != "right" {
		s.Errorf("the store's value is %q", got)
	}
}

func (s *suite) testListRange() {
	keys := []string{"/t/app", "/t/app/a", "/t/app/b/c", "/t/app/b-c", "/t/app-x", "/t/app2", "/t/app2/a", "/t/ap", "/t/app=20", "/t/app_/a", "/u"}
	for _, key := range keys {
		s.put(s.Store, key, key)
	}
	for prefix, want := range map[string][]string{
		"/t/app":   {"/t/app"},
		"/t/app/":  {"/t/app/a", "/t/app/b-c", "/t/app/b/c"},
		"/t/app2/": {"/t/app2/a"},
		"/t/ap/":   nil,
		"/t/a":     nil,
		"/u":       {"/u"},
		"/":        slices.Sorted(slices.Values(keys)),
	} {
		kvs, rev := s.list(s.Store, prefix)
		var got []string
		for _, kv := range kvs {
			got = append(got, kv.Key)
			if string(kv.Value) != kv.Key || kv.Rev > rev {
				s.Errorf("list %s at %d: %s is %q of %d", prefix, rev, kv.Key, kv.Value, kv.Rev)
			}
		}
		if !slices.Equal(got, want) {
			s.Errorf("list %s: %v, want %v", prefix, got, want)
		}
	}
}

// Two keys are always written together: no list may see them differ.
func (s *suite) testListConsistent() {
	const rounds = 30
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for i := range rounds {
			n := fmt.Append(nil, i)
			if _, err := s.Other.Commit(s.Context(), nil, store.Put("/t/pair/a", n), store.Put("/t/pair/z", n)); err != nil {
				s.Errorf("commit %d: %v", i, err)
				return
			}
		}
	})
	var last uint64
	s.eventually("the last pair is listed", func() bool {
		kvs, rev := s.list(s.Store, "/t/pair/")
		v := values(kvs)
		if v["/t/pair/a"] != v["/t/pair/z"] || len(v) == 1 {
			s.Fatalf("list at %d: %v", rev, v)
		}
		if rev < last {
			s.Fatalf("list at %d after %d", rev, last)
		}
		last = rev
		return v["/t/pair/a"] == fmt.Sprint(rounds-1)
	})
}

func (s *suite) testInvalid() {
	badKeys := []string{"", "t", "/", "//", "/t/", "t/a", "/t//a", "/t/a.b", "/t/a b", "/t/a*", "/t/>", "/t/=4", "/t/=41", "/t/=zz", "/t/ä", "/" + strings.Repeat("k", store.MaxKey)}
	for _, key := range badKeys {
		_, err := s.Store.Get(s.Context(), key)
		s.wantErr(fmt.Sprintf("get %.20q", key), err, store.ErrInvalid)
		_, err = s.Store.Commit(s.Context(), nil, store.Put(key, nil))
		s.wantErr(fmt.Sprintf("put %.20q", key), err, store.ErrInvalid)
		_, err = s.Store.Commit(s.Context(), []store.Cond{{Key: key}})
		s.wantErr(fmt.Sprintf("condition on %.20q", key), err, store.ErrInvalid)
	}
	for _, prefix := range []string{"", "t/", "//", "/t//", "/t/a b/", "/*"} {
		_, _, err := s.Store.List(s.Context(), prefix)
		s.wantErr(fmt.Sprintf("list %q", prefix), err, store.ErrInvalid)
		u := s.receive(s.Store.Watch(s.Context(), "/t/", prefix))
		s.wantErr(fmt.Sprintf("watch %q", prefix), u.Err, store.ErrInvalid)
	}
	_, err := s.Store.Commit(s.Context(), nil, store.Put("/t/twice", nil), store.Delete("/t/twice"))
	s.wantErr("two ops on one key", err, store.ErrInvalid)
	_, err = s.Store.Session(s.Context(), store.MinTTL-1, "")
	s.wantErr("a session too short", err, store.ErrInvalid)
	s.absent(s.Store, "/t/twice")
}

func (s *suite) testContext() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	calls := map[string]func() error{
		"get":     func() error { _, err := s.Store.Get(ctx, "/t/a"); return err },
		"list":    func() error { _, _, err := s.Store.List(ctx, "/t/"); return err },
		"commit":  func() error { _, err := s.Store.Commit(ctx, nil, store.Put("/t/a", nil)); return err },
		"session": func() error { _, err := s.Store.Session(ctx, s.TTL, ""); return err },
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		s.wantErr(name+" with an ended context", calls[name](), context.Canceled)
	}
	s.absent(s.Store, "/t/a")
}
