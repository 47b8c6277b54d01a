// Package storetest holds what every store.Store must do, as tests, and an
// in-memory Store with faults for the tests of other packages.
package storetest

import (
	"cmp"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
)

// Harness is one empty store to test, and what can be done to it. Hooks that
// are nil leave out the tests that need them, which say so.
type Harness struct {
	// Store is the client under test. The suite closes it. Required.
	Store store.Store
	// Other is another client of the same store; Cut leaves its link alone.
	// The suite closes it. Default: Store, for a store of one process.
	Other store.Store
	// TTL is the shortest session that the store takes. Default 1 s.
	TTL time.Duration
	// Wait is how long something that must come may take. Default 20 s.
	Wait time.Duration
	// Bursts is how many bursts of writes to run, and Faults how many faults to
	// spread over them. Default 2 and 8, or the numbers in STORETEST_BURSTS and
	// STORETEST_FAULTS; STORETEST_SEED sets the first one's seed.
	Bursts, Faults int
	// Histories: the store can tell another history from its own, whatever the
	// revisions are, and says so in Update.OtherHistory.
	Histories bool

	// Reopen closes Store and opens it again, as a process that was started
	// anew would.
	Reopen func(t *testing.T) store.Store
	// Cut cuts the link of Store to its server, Heal mends it. Both or none.
	Cut, Heal func(t *testing.T)
	// Swallow makes the link take everything and deliver nothing, until Heal.
	Swallow func(t *testing.T)
	// Restart stops the server and starts it again on the same data.
	Restart func(t *testing.T)
	// Kill does the same with kill -9.
	Kill func(t *testing.T)
	// Wipe stops the server, removes its data and starts it again.
	Wipe func(t *testing.T)
	// Snapshot saves the server's data; setBack stops the server, puts them in
	// place and starts it again.
	Snapshot func(t *testing.T) (setBack func(t *testing.T))
	// Compact removes the server's history up to now.
	Compact func(t *testing.T)
}

// Factory makes the Harness of one test. It cleans up by t.Cleanup.
type Factory func(t *testing.T) *Harness

// Run runs the suite, each test with a new Harness.
func Run(t *testing.T, factory Factory) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.start(t, factory, false) })
	}
}

// RunInBubbles runs the suite with each test in a testing/synctest bubble of
// its own: time costs nothing, and a goroutine left behind fails the test.
func RunInBubbles(t *testing.T, factory Factory) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.start(t, factory, true) })
		})
	}
}

type testCase struct {
	name string
	run  func(*suite)
}

// suite is one running test.
type suite struct {
	*testing.T
	*Harness
	bubble bool
}

func (c testCase) start(t *testing.T, factory Factory, bubble bool) {
	h := factory(t)
	if h.Other == nil {
		h.Other = h.Store
	}
	if h.TTL == 0 {
		h.TTL = store.MinTTL
	}
	if h.Wait == 0 {
		h.Wait = 20 * time.Second
	}
	if h.Bursts == 0 {
		h.Bursts = cmp.Or(number("STORETEST_BURSTS"), 2)
	}
	if h.Faults == 0 {
		h.Faults = cmp.Or(number("STORETEST_FAULTS"), 8)
	}
	t.Cleanup(func() {
		for _, s := range []store.Store{h.Store, h.Other} {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	c.run(&suite{T: t, Harness: h, bubble: bubble})
}

func cases() []testCase {
	var all []testCase
	for _, some := range [][]testCase{readCases, commitCases, watchCases, burstCases, sessionCases, faultCases, endCases} {
		all = append(all, some...)
	}
	return all
}

// seed is that of the first burst; it is printed.
func (s *suite) seed() uint64 {
	seed := cmp.Or(uint64(number("STORETEST_SEED")), 1+rand.Uint64N(1<<31))
	s.Logf("%d bursts, %d faults; again with STORETEST_SEED=%d", s.Bursts, s.Faults, seed)
	return seed
}

func number(variable string) int {
	n, _ := strconv.Atoi(os.Getenv(variable)) // unset or not a number: 0
	return n
}

// reopen replaces Store.
func (s *suite) reopen() {
	s.Helper()
	alone := s.Other == s.Store
	s.Store = s.Reopen(s.T)
	if alone {
		s.Other = s.Store
	}
}

// need skips the test unless the harness has the hook.
func (s *suite) need(has bool, what string) {
	s.Helper()
	if !has {
		s.Skipf("this store's harness has no hook: %s", what)
	}
}

// eventually waits until cond holds, looking again and again.
func (s *suite) eventually(what string, cond func() bool) {
	s.Helper()
	deadline := time.Now().Add(s.Wait)
	for !cond() {
		if time.Now().After(deadline) {
			s.Fatalf("not within %v: %s", s.Wait, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
