// Package feed hands the updates of a store to one receiver that reads at its
// own pace: what it has not taken yet is merged, newest per key, so that a
// slow receiver costs memory for what it watches and never blocks the store.
package feed

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/listener-agent/listener/store"
)

// Feed is one watch. The store calls Reset, Change and Lost in the order in
// which things happened; Run sends them to C.
type Feed struct {
	prefixes Prefixes
	out      chan store.Update
	wake     chan struct{} // capacity 1: there is something in next

	mu    sync.Mutex // guards following
	state state
	idle  bool // Run has nothing in hand
	next  pending
	rev   uint64 // of the newest Reset or Change
	other bool   // the next Reset is of another history
	cause error  // of the last Lost
}

type state uint8

const (
	fresh   state = iota // nothing was sent: a Reset or a Lost may follow
	live                 // a Reset was sent: a Change may follow
	lost                 // only a Reset helps
	refused              // nothing is sent after the Lost that said why
	ended                // C is closed
)

// New returns a feed of what is under prefixes. Nothing is sent before Run.
// When a prefix is malformed the feed sends one Lost that says so, and
// nothing else.
func New(prefixes []string) *Feed {
	f := &Feed{prefixes: NewPrefixes(prefixes), out: make(chan store.Update), wake: make(chan struct{}, 1)}
	for _, p := range prefixes {
		if err := store.CheckPrefix(p); err != nil {
			f.Lost(err)
			f.state = refused
			break
		}
	}
	return f
}

// C is where updates arrive. It is closed when Run returns.
func (f *Feed) C() <-chan store.Update { return f.out }

// Prefixes returns what is watched.
func (f *Feed) Prefixes() Prefixes { return f.prefixes }

// Reset sends the whole state at rev. It takes kvs over: those under the
// feed's prefixes, sorted by key.
func (f *Feed) Reset(rev uint64, kvs []store.KV) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state >= refused {
		return
	}
	// A Reset that was not taken goes, but not what it said of the history.
	other := f.other || rev < f.rev || f.next.other
	f.state, f.rev, f.other = live, rev, false
	f.next = pending{reset: true, rev: rev, base: kvs, other: other}
	f.signalLocked()
}

// OtherHistory says that the next Reset is of another history than what was
// sent before. A Reset to a lower revision is, without being told.
func (f *Feed) OtherHistory() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.other = true
}

// Change sends what one commit wrote and removed, as far as it is under the
// feed's prefixes. kvs and gone stay the caller's: values are copied.
// Without a Reset before, and after a Lost, it does nothing.
func (f *Feed) Change(rev uint64, kvs []store.KV, gone []store.Gone) {
	u := store.Update{Kind: store.Change, Rev: rev}
	for _, kv := range kvs {
		if f.prefixes.Match(kv.Key) {
			kv.Value = bytes.Clone(kv.Value)
			u.KVs = append(u.KVs, kv)
		}
	}
	for _, g := range gone {
		if f.prefixes.Match(g.Key) {
			u.Gone = append(u.Gone, g)
		}
	}
	if len(u.KVs)+len(u.Gone) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != live {
		return
	}
	if f.idle && f.next.empty() {
		// Straight to a receiver that waits: one wake-up of a goroutine less.
		select {
		case f.out <- u:
			f.rev = rev
			return
		default:
		}
	}
	f.rev = rev
	f.next.change(u)
	f.signalLocked()
}

// Lost says that the feed may be out of date, and why. Before the next Reset
// only the first one is sent, and those whose reason is of another kind.
func (f *Feed) Lost(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state > lost || f.state == lost && SameKind(f.cause, err) {
		return
	}
	f.state, f.cause = lost, err
	f.next.lose(err)
	f.signalLocked()
}

// SameKind says whether two reasons are both refusals, or both not: what an
// operator does about it is the same.
func SameKind(a, b error) bool {
	return errors.Is(a, store.ErrPermission) == errors.Is(b, store.ErrPermission)
}

func (f *Feed) signalLocked() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends or closed is closed; then it closes C and returns.
func (f *Feed) Run(ctx context.Context, closed <-chan struct{}) {
	defer f.end()
	for {
		u, ok := f.take()
		if !ok {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
			case <-closed:
			}
			return
		}
		select {
		case f.out <- u:
		case <-ctx.Done():
			return
		case <-closed:
			return
		}
	}
}

func (f *Feed) take() (u store.Update, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok = f.next.take()
	f.idle = !ok
	return u, ok
}

func (f *Feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = ended
	f.next = pending{}
	close(f.out)
}
