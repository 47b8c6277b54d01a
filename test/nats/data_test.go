package nats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go/jetstream"
)

// What other tools write is there, and what is no key of ours does no harm.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	answers(t, a)
	f := follow(t, a, "/listener/")
	kv, err := jetStream(t, s).KeyValue(t.Context(), "listener")
	must(t, err)
	rev, err := kv.Put(t.Context(), "listener.v1.default.values.A", []byte("1\n"))
	must(t, err)
	f.has("/listener/v1/default/values/A", "1\n")
	if got := f.state["/listener/v1/default/values/A"]; got.Rev != rev || got.Created != rev {
		t.Errorf("revision %d, created %d, want %d", got.Rev, got.Created, rev)
	}
	for _, key := range []string{"listener.v1/default", "listener.v1.a=41", "listener.v1.=x"} {
		_, err := kv.Put(t.Context(), key, []byte("no"))
		must(t, err)
	}
	put(t, a, "/listener/v1/default/values/B", "2")
	e, err := kv.Get(t.Context(), "listener.v1.default.values.B")
	must(t, err)
	if string(e.Value()) != "2" {
		t.Errorf("the other tool reads %q", e.Value())
	}
	must(t, kv.Delete(t.Context(), "listener.v1.default.values.A"))
	f.lacks("/listener/v1/default/values/A")
	must(t, kv.Purge(t.Context(), "listener.v1.default.values.B"))
	f.lacks("/listener/v1/default/values/B")
	if len(f.state) != 0 {
		t.Errorf("left: %v", f.values())
	}
	commit(t, a, []store.Cond{{Key: "/listener/v1/default/values/A"}}, store.Put("/listener/v1/default/values/A", nil))
}

// More keys than the server puts into one answer.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	const n = 2600
	for i := 0; i < n; i += store.MaxOps {
		var ops []store.Op
		for j := i; j < min(i+store.MaxOps, n); j++ {
			ops = append(ops, store.Put(fmt.Sprintf("/t/d%d/k%05d", j%7, j), fmt.Append(nil, j)))
		}
		commit(t, a, nil, ops...)
	}
	kvs, rev, err := a.List(t.Context(), "/t/")
	must(t, err)
	if len(kvs) != n || !slices.IsSortedFunc(kvs, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) }) {
		t.Errorf("%d keys, want %d, sorted", len(kvs), n)
	}
	f := follow(t, a, "/t/")
	f.until("all of them", func() bool { return len(f.state) == n })
	if f.rev < rev {
		t.Errorf("reset to %d, the list was of %d", f.rev, rev)
	}
	commit(t, a, nil, store.Put("/t/d0/k00000", []byte("new")), store.Delete("/t/d1/k00001"))
	f.has("/t/d0/k00000", "new")
	f.lacks("/t/d1/k00001")

	// As many prefixes, most of which name nothing.
	var prefixes []string
	for i := range n {
		prefixes = append(prefixes, fmt.Sprintf("/t/d%d/k%05d", i%7, i), fmt.Sprintf("/t/e%d/k%05d/", i%7, i))
	}
	many := follow(t, a, prefixes...)
	many.until("all of them", func() bool { return len(many.state) == n-1 })
	put(t, a, "/t/d2/k00002", "new")
	put(t, a, "/t/d2/other", "no")
	put(t, a, "/t/d2/k00009", "new")
	many.has("/t/d2/k00009", "new")
	if _, ok := many.state["/t/d2/other"]; ok || many.changes != 2 {
		t.Errorf("%d changes, want 2", many.changes)
	}
}

// Keys that are written while more of them are read than the server puts into
// one answer are in what is read: they are never gone.
func TestManyKeysWritten(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a, b := openStore(t, options(s.url())), openStore(t, options(s.url()))
	const n = 3000
	write := func(ctx context.Context, keys ...int) error {
		var ops []store.Op
		for _, k := range keys {
			ops = append(ops, store.Put(fmt.Sprintf("/t/k%05d", k), []byte("v")))
		}
		_, err := a.Commit(ctx, nil, ops...)
		return err
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	for keys := range slices.Chunk(all, store.MaxOps) {
		must(t, write(t.Context(), keys...))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := write(ctx, rand.IntN(n)); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 40 {
		kvs, _, err := b.List(t.Context(), "/t/")
		must(t, err)
		if len(kvs) != n {
			t.Errorf("a list has %d keys, want %d", len(kvs), n)
		}
		watched, end := context.WithCancel(t.Context())
		for u := range b.Watch(watched, "/t/") {
			if u.Kind == store.Reset && len(u.KVs) != n {
				t.Errorf("a Reset has %d keys, want %d", len(u.KVs), n)
			}
			if u.Kind != store.Lost {
				break
			}
		}
		end()
	}
	cancel()
	writers.Wait()
}

// The largest commits arrive as one update, whether their keys can be listed
// in a header or not.
func TestLargestCommit(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	answers(t, a)
	for _, length := range []int{10, 2000} {
		dir := fmt.Sprintf("/t/%d/", length)
		f := follow(t, a, dir)
		f.until("the first Reset", func() bool { return f.resets > 0 })
		for round := range 3 {
			var ops []store.Op
			for i := range store.MaxOps {
				key := fmt.Sprintf("%s%s%03d", dir, strings.Repeat("k", length), i)
				ops = append(ops, store.Put(key, fmt.Append(nil, round)))
			}
			rev := commit(t, a, nil, ops...)
			f.until("the commit", func() bool {
				one := f.state[ops[0].Key]
				for _, op := range ops {
					if string(f.state[op.Key].Value) != string(one.Value) {
						t.Fatalf("a part of a commit: %s", op.Key)
					}
				}
				return one.Rev == rev
			})
			if kv := get(t, a, ops[5].Key); kv.Rev != rev || kv.Created > rev {
				t.Errorf("revision %d, created %d of a commit at %d", kv.Rev, kv.Created, rev)
			}
		}
	}
}

// A ticket keeps its revision while it is refreshed, and conditions on it hold.
func TestTicket(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a, b := openStore(t, defaults(s.url())), openStore(t, defaults(s.url()))
	x, err := a.Session(t.Context(), time.Second, "")
	must(t, err)
	free := store.Cond{Key: "/t/lock/ticket"}
	ticket := commit(t, a, []store.Cond{free}, store.PutSession("/t/lock/ticket", []byte("me"), x))
	f := follow(t, b, "/t/lock/")
	f.has("/t/lock/ticket", "me")
	kv, err := jetStream(t, s).KeyValue(t.Context(), "listener")
	must(t, err)
	refreshed := func() uint64 {
		e, err := kv.Get(t.Context(), "t.lock.ticket")
		must(t, err)
		return e.Revision()
	}
	first := refreshed()
	for range 3 {
		now := refreshed()
		eventually(t, "a refresh", func() error {
			if refreshed() == now {
				return errors.New("none yet")
			}
			return nil
		})
		commit(t, b, []store.Cond{{Key: "/t/lock/ticket", Rev: ticket}}, store.Put("/t/data", nil))
		if _, err := b.Commit(t.Context(), []store.Cond{free}, store.Put("/t/lock/ticket", nil)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("taking a lock that is held: %v", err)
		}
	}
	if got := get(t, b, "/t/lock/ticket"); got.Rev != ticket || got.Created != ticket || refreshed() == first {
		t.Errorf("revision %d, created %d, want %d", got.Rev, got.Created, ticket)
	}
	put(t, b, "/t/lock/end", "")
	f.has("/t/lock/end", "")
	if f.changes != 1 {
		t.Errorf("%d changes, want 1: the refreshes are none", f.changes)
	}

	// Writing it again under the session makes a new revision, once.
	second := commit(t, a, nil, store.PutSession("/t/lock/ticket", []byte("me again"), x))
	if got := get(t, b, "/t/lock/ticket"); got.Rev != second || got.Created != ticket {
		t.Errorf("revision %d, created %d, want %d and %d", got.Rev, got.Created, second, ticket)
	}
}

// Two holders keep one session; it lives until the last one lets go.
func TestTwoHolders(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a, b := openStore(t, defaults(s.url())), openStore(t, defaults(s.url()))
	x, err := a.Session(t.Context(), time.Second, "")
	must(t, err)
	commit(t, a, nil, store.PutSession("/t/a", nil, x))
	y, err := b.Session(t.Context(), 5*time.Second, x.ID())
	must(t, err)
	commit(t, b, nil, store.PutSession("/t/b", nil, y))
	f := follow(t, b, "/t/")
	f.has("/t/b", "")
	x.Orphan()
	began := time.Now()
	for time.Since(began) < 4*time.Second {
		get(t, b, "/t/a")
		get(t, b, "/t/b")
		time.Sleep(50 * time.Millisecond)
	}
	y.Orphan()
	began = time.Now()
	f.lacks("/t/a")
	f.lacks("/t/b")
	within(t, "the keys of a session of one second went", began, 2*time.Second)
}

// Many commits at once are all done, each once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	answers(t, a)
	const n = 150
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := a.Commit(t.Context(), nil, store.Put(fmt.Sprintf("/t/a%d", i), nil), store.Put(fmt.Sprintf("/t/b%d", i), nil))
			errs <- err
		}()
	}
	for range n {
		must(t, <-errs)
	}
	kvs, _, err := a.List(t.Context(), "/t/")
	must(t, err)
	if len(kvs) != 2*n {
		t.Errorf("%d keys, want %d", len(kvs), 2*n)
	}
	info, err := jetStream(t, s).Stream(t.Context(), "KV_listener")
	must(t, err)
	if c := info.CachedInfo().Config; c.MaxMsgsPerSubject != 1 || c.Storage != jetstream.FileStorage {
		t.Errorf("the bucket: %+v", c)
	}
}

// The bucket is looked at while changes come: an answer that is older than
// what came since is no sign that the bucket went back.
func TestLookedAtWhileItChanges(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	operator := openStore(t, options(s.url()))
	o := options(s.url())
	o.CheckEvery = 100 * time.Microsecond
	answers(t, operator)
	f := follow(t, openStore(t, o), space.Value("", "KEY"))
	put(t, operator, space.Value("", "KEY"), "0")
	f.has(space.Value("", "KEY"), "0")
	for i := range 2000 {
		put(t, operator, space.Value("", "KEY"), strconv.Itoa(i))
	}
	f.has(space.Value("", "KEY"), "1999")
	if f.resets != 1 {
		t.Errorf("the state was read %d times", f.resets)
	}
}
