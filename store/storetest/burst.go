package storetest

import (
	"fmt"
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
	burstWrites = 300
	slowPause   = 3 * time.Millisecond
)

func (s *suite) testBursts() {
	for n := range s.Bursts {
		s.burst(n, s.random(n), func() {})
	}
}

func (s *suite) testBurstsWithFaults() {
	faults := s.faults()
	s.need(len(faults) > 0, "Cut and Heal, Restart or Compact")
	for n := range s.Bursts {
		r := s.random(n)
		healed := func() {}
		s.burst(n, r, func() {
			if r.IntN(burstWrites/6) != 0 {
				return
			}
			healed()
			healed = faults[r.IntN(len(faults))]()
		})
		healed()
	}
}

// faults returns what can happen in the middle of a burst; each returns what
// makes it good again.
func (s *suite) faults() (all []func() (heal func())) {
	if s.Cut != nil {
		all = append(all, func() func() {
			s.Cut(s.T)
			return sync.OnceFunc(func() { s.Heal(s.T) })
		})
	}
	for _, hook := range []func(*testing.T){s.Restart, s.Compact} {
		if hook != nil {
			all = append(all, func() func() {
				hook(s.T)
				return func() {}
			})
		}
	}
	return all
}

// burst writes at random to few keys while a fast and a slow receiver look
// on: both must end at what was written last. between is called before each
// write.
func (s *suite) burst(n int, r *rand.Rand, between func()) {
	dir := fmt.Sprintf("/t/burst%d/", n)
	fast, slow := s.watch(s.Store, dir), s.watch(s.Store, dir)
	slow.pause = slowPause
	var readers sync.WaitGroup
	done := func(m *mirror) func() {
		return func() {
			m.until("the end of the burst", func() bool {
				_, ok := m.state[dir+"done"]
				return ok
			})
		}
	}
	readers.Go(done(fast))
	readers.Go(done(slow))

	want := make(map[string]string)
	for i := range burstWrites {
		between()
		s.commit(s.Other, nil, s.randomOps(r, dir, i, want)...)
	}
	want[dir+"done"] = ""
	s.put(s.Other, dir+"done", "")
	if s.Cut != nil {
		s.Heal(s.T)
	}
	readers.Wait()
	kvs, _ := s.list(s.Store, dir)
	for who, got := range map[string]map[string]string{"fast receiver": fast.values(), "slow receiver": slow.values(), "list": values(kvs)} {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			s.Errorf("burst %d: %s has %v, want %v", n, who, got, want)
		}
	}
}

// randomOps makes the i-th commit of a burst, and in want what it leaves.
func (s *suite) randomOps(r *rand.Rand, dir string, i int, want map[string]string) (ops []store.Op) {
	const keys = 5
	for _, k := range r.Perm(keys)[:1+r.IntN(2)] {
		key := fmt.Sprintf("%sk%d", dir, k)
		if r.IntN(4) == 0 {
			ops = append(ops, store.Delete(key))
			delete(want, key)
			continue
		}
		want[key] = fmt.Sprint(i)
		ops = append(ops, store.Put(key, []byte(want[key])))
	}
	return ops
}
