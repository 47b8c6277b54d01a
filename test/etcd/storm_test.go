package etcd_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A storm is a time in which watches of one client begin and end at random
// while keys are written, sessions end and, where it is rough, the server and
// the link fail. What each watch said is compared with what the server has as
// its history. STORM_SECONDS says for how long, STORM_SEED repeats what is
// random and does not depend on time.
type storm struct {
	*testing.T
	seed     uint64
	until    time.Time
	server   *server
	link     *proxy
	client   store.Store // of all watches, over the link
	other    store.Store
	history  *history
	onlooker sync.WaitGroup

	mu  sync.Mutex // guards following
	all []*onlooker
}

func TestStorm(t *testing.T) {
	for name, rough := range map[string]bool{"calm": false, "rough": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newStorm(t, newProcess(t, "--unsafe-no-fsync")).run(rough)
		})
	}
}

func newStorm(t *testing.T, s *server) *storm {
	seconds, seed := 3, rand.Uint64N(1<<31)
	if n, err := strconv.Atoi(os.Getenv("STORM_SECONDS")); err == nil {
		seconds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("STORM_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("again with STORM_SEED=%d STORM_SECONDS=%d", seed, seconds)
	p := newProxy(t, s.client)
	o := at(p.url())
	o.CheckEvery = 100 * time.Millisecond
	return &storm{
		T: t, seed: seed, until: time.Now().Add(time.Duration(seconds) * time.Second), server: s, link: p,
		client: open(t, o), other: open(t, at(s.url())), history: newHistory(t, s.bare(t)),
	}
}

func (s *storm) run(rough bool) {
	for i := range stormKept {
		s.look(s.Context(), s.rand(100+i), 0)
	}
	var actors sync.WaitGroup
	for i, act := range []func(*rand.Rand){s.write, s.write, s.join, s.join, s.join, s.compact} {
		r := s.rand(i)
		actors.Go(func() {
			for time.Now().Before(s.until) {
				act(r)
			}
		})
	}
	for r := s.rand(1000); rough && time.Now().Before(s.until); {
		s.fail(r)
	}
	actors.Wait()
	last := s.end()
	s.onlooker.Wait()
	s.history.await(s.T, last)
	s.noneLeft()
	for _, o := range s.all {
		o.verify(s.T, s.history, !rough)
	}
	s.Logf("%d watches, %d revisions", len(s.all), last)
}

func (s *storm) rand(i int) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(i))) }

const (
	stormDirs = 4
	stormKeys = 5
	stormKept = 6 // watches that go on to the end
)

func stormKey(r *rand.Rand) string {
	return fmt.Sprintf("/s/%d/%d", r.IntN(stormDirs), r.IntN(stormKeys))
}

// write writes at random for the life of one session.
func (s *storm) write(r *rand.Rand) {
	client := []store.Store{s.client, s.other}[r.IntN(2)]
	x, err := client.Session(s.Context(), store.MinTTL, "")
	if err != nil {
		s.pause(10 * time.Millisecond)
		return
	}
	for range r.IntN(40) {
		seen, ops := map[string]bool{}, []store.Op(nil)
		for range 1 + r.IntN(3) {
			key, value := stormKey(r), fmt.Append(nil, r.Uint32())
			if seen[key] {
				continue
			}
			seen[key] = true
			ops = append(ops, []store.Op{store.Delete(key), store.Put(key, value), store.PutSession(key, value, x)}[r.IntN(3)])
		}
		_, _ = client.Commit(s.Context(), nil, ops...) // what came of it the history says
		s.pause(time.Duration(r.IntN(int(2 * time.Millisecond))))
	}
	if r.IntN(2) == 0 {
		_ = x.Close(s.Context())
	}
	x.Orphan()
}

// join begins a watch that ends at random.
func (s *storm) join(r *rand.Rand) {
	s.look(s.Context(), r, 1+time.Duration(r.ExpFloat64()*float64(100*time.Millisecond)))
	s.pause(time.Duration(r.IntN(int(50 * time.Millisecond))))
}

// look begins a watch, which ends after a while or, with 0, when all is done.
func (s *storm) look(ctx context.Context, r *rand.Rand, while time.Duration) {
	o := &onlooker{}
	for range 1 + r.IntN(3) {
		p := fmt.Sprintf("/s/%d/", r.IntN(stormDirs))
		if r.IntN(3) == 0 {
			p = stormKey(r)
		}
		o.prefixes = append(o.prefixes, p)
	}
	if r.IntN(4) == 0 {
		o.pause = time.Duration(r.IntN(int(20 * time.Millisecond)))
	}
	s.mu.Lock()
	s.all = append(s.all, o)
	s.mu.Unlock()
	cancel := func() {}
	if while > 0 {
		ctx, cancel = context.WithTimeout(ctx, while)
	}
	ch := s.client.Watch(ctx, o.prefixes...)
	s.onlooker.Go(func() {
		defer cancel()
		o.follow(s.T, ch, while == 0, time.After(time.Until(s.until)+limit))
	})
}

func (s *storm) compact(r *rand.Rand) {
	s.pause(time.Duration(r.IntN(int(50 * time.Millisecond))))
	// Not more than what the history has.
	_, _ = s.history.client.Compact(s.Context(), s.history.newest())
}

func (s *storm) fail(r *rand.Rand) {
	s.pause(time.Duration(r.IntN(int(600 * time.Millisecond))))
	short := time.Duration(r.IntN(int(200 * time.Millisecond)))
	switch r.IntN(8) {
	case 0:
		s.server.restart(s.T)
	case 1, 2:
		s.server.kill()
		s.pause(short)
		s.server.start(s.T)
	case 3:
		s.link.Swallow(s.T)
		s.pause(10 * short)
		s.link.Heal(s.T)
	case 4, 5: // connections break, and can be made again at once
		s.link.close()
	default:
		s.link.Cut(s.T)
		s.pause(short)
		s.link.Heal(s.T)
	}
}

// noneLeft waits until the server has no watches but those that go on, for each
// of their prefixes one, and the history.
func (s *storm) noneLeft() {
	want := 1
	for _, o := range s.all[:stormKept] {
		want += o.parts()
	}
	var metrics string
	until(s.T, fmt.Sprint(want, " watches on 2 streams"), func() bool {
		resp, err := http.Get(s.server.url() + "/metrics")
		must(s.T, err)
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		must(s.T, err)
		metrics = string(all)
		return strings.Contains(metrics, fmt.Sprintf("\netcd_debugging_mvcc_watcher_total %d\n", want)) &&
			strings.Contains(metrics, "\netcd_debugging_mvcc_watch_stream_total 2\n")
	})
}

// pause is a part of the storm, not a wait for something.
func (s *storm) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.Context().Done():
	}
}

const stormDone = "done"

// end writes all keys for the last time.
func (s *storm) end() (last uint64) {
	var ops []store.Op
	for dir := range stormDirs {
		for key := range stormKeys {
			ops = append(ops, store.Put(fmt.Sprintf("/s/%d/%d", dir, key), []byte(stormDone)))
		}
	}
	eventually(s.T, func() (err error) {
		last, err = s.other.Commit(s.Context(), nil, ops...)
		return err
	})
	return last
}

// history is what etcd's own client sees of all that happened.
type history struct {
	client *clientv3.Client

	mu     sync.Mutex // guards following
	rev    int64
	events map[string][]*clientv3.Event // by key, in order
}

func newHistory(t *testing.T, c *clientv3.Client) *history {
	h := &history{client: c, events: make(map[string][]*clientv3.Event)}
	ch := c.Watch(t.Context(), "/s/", clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		for resp := range ch {
			h.mu.Lock()
			for _, ev := range resp.Events {
				h.rev = ev.Kv.ModRevision
				h.events[string(ev.Kv.Key)] = append(h.events[string(ev.Kv.Key)], ev)
			}
			h.mu.Unlock()
		}
	}()
	return h
}

func (h *history) newest() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rev
}

func (h *history) await(t *testing.T, rev uint64) {
	t.Helper()
	until(t, "the history", func() bool { return uint64(h.newest()) >= rev })
}

// at is what was known of a key at a revision, nil if it never was there.
func (h *history) at(key string, rev uint64) (ev *clientv3.Event) {
	for _, e := range h.events[key] {
		if uint64(e.Kv.ModRevision) <= rev {
			ev = e
		}
	}
	return ev
}

// state is what was there under prefixes at a revision.
func (h *history) state(rev uint64, under func(key string) bool) map[string]uint64 {
	st := make(map[string]uint64)
	for key := range h.events {
		if ev := h.at(key, rev); under(key) && ev != nil && ev.Type == clientv3.EventTypePut {
			st[key] = uint64(ev.Kv.ModRevision)
		}
	}
	return st
}
