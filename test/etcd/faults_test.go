package etcd_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestKilled(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	c := open(t, at(s.url()))
	put(t, c, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	for range 3 {
		s.kill()
		f.isLost("unavailable")
		s.start(t)
		within(t, "back after kill -9", f.has("/t/a=1"), 1500*time.Millisecond)
	}
	put(t, c, "/t/a", "2")
	f.has("/t/a=2")

	// What is known of the history are keys of a session, too.
	x, err := c.Session(t.Context(), time.Minute, "")
	must(t, err)
	_, err = c.Commit(t.Context(), nil, store.PutSession("/t/b", []byte("3"), x))
	must(t, err)
	f.has("/t/a=2 /t/b=3")
	for range 2 {
		s.kill()
		f.isLost("unavailable")
		s.start(t)
		f.has("/t/a=2 /t/b=3")
	}
	if f.others > 0 {
		t.Error("the same store is taken for another one")
	}
}

func TestWipedAndWrittenByAnother(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	c := open(t, at(s.url()))
	for range 20 {
		put(t, c, "/t/a", "1")
	}
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	was := f.rev
	s.kill()
	f.isLost()
	s.wipe(t)
	f.has("")
	if f.rev >= was {
		t.Errorf("at revision %d, was %d: nobody sees that it was wiped", f.rev, was)
	}
	put(t, c, "/t/a", "2")
	within(t, "a value after a wipe", f.has("/t/a=2"), time.Second)
}

// A server that is there and does nothing, as with a dead disk.
func TestStopped(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	c := open(t, at(s.url()))
	put(t, c, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	s.signal(syscall.SIGSTOP)
	within(t, "Lost after SIGSTOP", f.isLost("unavailable"), 8*time.Second)
	s.signal(syscall.SIGCONT)
	within(t, "back after SIGCONT", f.has("/t/a=1"), 1500*time.Millisecond)
	put(t, c, "/t/a", "2")
	f.has("/t/a=2")
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProxy(t, s.client)
	c, other := open(t, at(p.url())), open(t, at(s.url()))
	put(t, other, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	p.Swallow(t)
	within(t, "Lost in a black hole", f.isLost("unavailable"), 8*time.Second)
	put(t, other, "/t/a", "2")
	p.Heal(t)
	within(t, "back from a black hole", f.has("/t/a=2"), 10*time.Second)
}

// From the start nothing answers; the second endpoint does.
func TestBlackHoleAtStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProxy(t, s.client)
	p.Swallow(t)
	c := open(t, at(p.url()))
	f := follow(t, c, "/t/")
	within(t, "Lost at start", f.isLost("unavailable"), 2*time.Second)
	both := open(t, at(p.url(), s.url()))
	within(t, "the other endpoint", follow(t, both, "/t/").has(""), 5*time.Second)
	p.Heal(t)
	within(t, "back", f.has(""), 10*time.Second)
}

// Nobody is there at the start.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.stop()
	c := open(t, at(s.url()))
	f := follow(t, c, "/t/")
	within(t, "Lost at start", f.isLost("unavailable", "refused"), 2*time.Second)
	_, err := c.Get(t.Context(), "/t/a")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("get: %v", err)
	}
	s.start(t)
	within(t, "back", f.has(""), 1500*time.Millisecond)
}

// Compacted while the agent was stopped, and while it was cut off.
func TestCompactedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProxy(t, s.client)
	c, other := open(t, at(p.url())), open(t, at(s.url()))
	put(t, other, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	p.Cut(t)
	for range 50 {
		put(t, other, "/t/a", "2")
	}
	compact(t, s.bare(t))
	p.Heal(t)
	f.has("/t/a=2")
	must(t, c.Close())
	put(t, other, "/t/a", "3")
	compact(t, s.bare(t))
	follow(t, open(t, at(p.url())), "/t/").has("/t/a=3")
}

func TestFull(t *testing.T) {
	t.Parallel()
	s := newProcess(t, "--quota-backend-bytes", "4000000")
	c := open(t, at(s.url()))
	put(t, c, "/t/a", "1")
	f := follow(t, c, "/t/a")
	f.has("/t/a=1")
	big := store.Put("/t/big", make([]byte, store.MaxValue))
	var err error
	until(t, "a full store", func() bool {
		_, err = c.Commit(t.Context(), nil, big)
		return err != nil
	})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "defragment") {
		t.Errorf("commit to a full store: %v", err)
	}
	if kv, err := c.Get(t.Context(), "/t/a"); err != nil || string(kv.Value) != "1" {
		t.Errorf("a full store cannot be read: %q, %v", kv.Value, err)
	}
	operator := s.bare(t)
	compact(t, operator)
	_, err = operator.Defragment(t.Context(), s.url())
	must(t, err)
	_, err = operator.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
	must(t, err)
	put(t, c, "/t/a", "2")
	f.has("/t/a=2")
	if f.losses > 0 {
		t.Errorf("the watch was lost: %v", f.lost)
	}
}

// A list longer than one part, changed while it is read.
func TestLongList(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c, other := open(t, at(s.url())), open(t, at(s.url()))
	const n, together = 2500, store.MaxOps
	for from := 0; from < n; from += together {
		var ops []store.Op
		for i := from; i < min(n, from+together); i++ {
			ops = append(ops, store.Put("/t/"+number(i), nil))
		}
		_, err := c.Commit(t.Context(), nil, ops...)
		must(t, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			_, _ = other.Commit(t.Context(), nil, store.Delete("/t/"+number(i)), store.Put("/t/"+number(n+i), nil))
		}
	}()
	for range 20 {
		kvs, rev, err := c.List(t.Context(), "/t/")
		if err != nil || len(kvs) != n {
			t.Fatalf("%d keys at %d, %v", len(kvs), rev, err)
		}
	}
	<-done
	for _, prefixes := range [][]string{{"/t/"}, {"/s/", "/t/", "/u/"}} { // alone, and in one request with others
		f := follow(t, c, prefixes...)
		f.until("all keys", func() bool { return len(f.values) == n })
	}
}

func number(i int) string {
	return string([]byte{'0' + byte(i/1000), '0' + byte(i/100%10), '0' + byte(i/10%10), '0' + byte(i%10)})
}
