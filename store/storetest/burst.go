package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

var burstCases = []testCase{
	{"bursts", (*suite).testBursts},
	{"bursts with faults", (*suite).testBurstsWithFaults},
}

const (
	burstWrites = 100 // at most, at random
	slowPause   = 3 * time.Millisecond
)

func (s *suite) testBursts() {
	seed := s.seed()
	for n := range min(s.Bursts, 10) {
		s.newBurst(n, seed).run(nil)
	}
}

// testBurstsWithFaults spreads the faults over the bursts.
func (s *suite) testBurstsWithFaults() {
	seed := s.seed()
	done := 0
	for n := range s.Bursts {
		b := s.newBurst(n, seed)
		kinds := b.faults()
		s.need(len(kinds) > 0, "Cut and Heal, Swallow, Restart, Kill, Wipe, Snapshot or Compact")
		some := make([]fault, (n+1)*s.Faults/s.Bursts-n*s.Faults/s.Bursts)
		for i := range some {
			some[i] = kinds[b.rand.IntN(len(kinds))]
		}
		b.run(some)
		done += len(some)
		if (n+1)%1000 == 0 {
			s.Logf("%d bursts, %d faults", n+1, done)
		}
	}
}

// A fault happens in the middle of a burst; heal makes it good again.
type fault func() (heal func())

// burst is a number of writes to few keys.
type burst struct {
	*suite
	n    int
	dir  string
	rand *rand.Rand
	want map[string]string
}

func (s *suite) newBurst(n int, seed uint64) *burst {
	seed += uint64(n)
	return &burst{suite: s, n: n, dir: fmt.Sprintf("/t/burst%d/", n), rand: rand.New(rand.NewPCG(seed, seed)), want: make(map[string]string)}
}

// faults returns what can happen.
func (b *burst) faults() (all []fault) {
	nothing := func() {}
	for _, hook := range []func(*testing.T){b.Cut, b.Swallow} {
		if hook != nil {
			all = append(all, func() func() {
				hook(b.T)
				return func() { b.Heal(b.T) }
			})
		}
	}
	for _, hook := range []func(*testing.T){b.Restart, b.Kill, b.Compact} {
		if hook != nil {
			all = append(all, func() func() {
				hook(b.T)
				return nothing
			})
		}
	}
	if b.Wipe != nil {
		all = append(all, func() func() {
			b.Wipe(b.T)
			clear(b.want)
			return nothing
		})
	}
	if b.Snapshot != nil {
		all = append(all, func() func() {
			setBack, then := b.Snapshot(b.T), maps.Clone(b.want)
			return func() {
				setBack(b.T)
				b.want = then
			}
		})
	}
	return all
}

// run writes at random while a fast and a slow receiver look on: both must end
// at what was written last.
func (b *burst) run(faults []fault) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	fast, slow := b.watchUntil(ctx, b.Store, b.dir), b.watchUntil(ctx, b.Store, b.dir)
	slow.pause = slowPause
	var readers sync.WaitGroup
	for _, m := range []*mirror{fast, slow} {
		readers.Go(func() {
			m.until("the end of the burst", func() bool {
				_, ok := m.state[b.dir+"done"]
				return ok
			})
		})
	}

	writes := 1 + b.rand.IntN(burstWrites)
	at := make(map[int]int, len(faults)) // how many faults come before a write
	for range faults {
		at[b.rand.IntN(writes)]++
	}
	heal := func() {}
	for i := range writes {
		for range at[i] {
			heal()
			heal, faults = faults[0](), faults[1:]
		}
		b.write(b.randomOps(i)...)
	}
	heal()
	b.want[b.dir+"done"] = ""
	b.write(store.Put(b.dir+"done", nil))
	readers.Wait()
	b.compare(fast, slow)
	var ops []store.Op
	for key := range b.want {
		ops = append(ops, store.Delete(key))
	}
	b.write(ops...)
}

// write does so for as long as the store is away: to do it twice does no harm.
func (b *burst) write(ops ...store.Op) {
	b.Helper()
	b.retry(func() error {
		_, err := b.Other.Commit(b.Context(), nil, ops...)
		return err
	})
}

func (b *burst) compare(fast, slow *mirror) {
	b.Helper()
	var kvs []store.KV
	b.retry(func() (err error) {
		kvs, _, err = b.Store.List(b.Context(), b.dir)
		return err
	})
	for who, got := range map[string]map[string]string{"fast receiver": fast.values(), "slow receiver": slow.values(), "list": values(kvs)} {
		if fmt.Sprint(got) != fmt.Sprint(b.want) {
			b.Errorf("burst %d: %s has %v, want %v", b.n, who, got, b.want)
		}
	}
}

// randomOps makes the i-th commit of a burst, and in want what it leaves.
func (b *burst) randomOps(i int) (ops []store.Op) {
	const keys = 5
	for _, k := range b.rand.Perm(keys)[:1+b.rand.IntN(2)] {
		key := fmt.Sprintf("%sk%d", b.dir, k)
		if b.rand.IntN(4) == 0 {
			ops = append(ops, store.Delete(key))
			delete(b.want, key)
			continue
		}
		b.want[key] = fmt.Sprint(i)
		ops = append(ops, store.Put(key, []byte(b.want[key])))
	}
	return ops
}
