// Package throttle says how long this node waits before its next run: until
// changes have settled, until the last run is far enough back, until the token
// bucket has a token, and until a failed step may be tried again. It only ever
// delays; every wait has a bound.
package throttle

import (
	"math/rand/v2"
	"time"
)

// Settings are the spacing of runs. Zero switches the respective gate off.
type Settings struct {
	Settle      time.Duration // quiet time after the last change
	SettleMax   time.Duration // at most this long after the first change; below Settle counts as Settle
	MinInterval time.Duration // between the starts of two runs
	Burst       int           // tokens of the bucket; 0 or less: no bucket
	Window      time.Duration // time in which an empty bucket fills up; 0 or less: no bucket
	Splay       time.Duration // random wait before a run, so that a fleet does not move at once
}

// Settle returns what remains of the quiet time: until Settle after the last
// change, but at most until SettleMax after the first. The three are readings
// of one clock that does not jump, such as Now.Up; a reading after now counts as
// now. 0: settled.
func Settle(s Settings, first, last, now time.Duration) time.Duration {
	if s.Settle <= 0 {
		return 0
	}
	quiet := s.Settle - max(now-last, 0)
	most := max(s.SettleMax, s.Settle) - max(now-first, 0)
	return max(min(quiet, most), 0)
}

// Splay returns a random wait of 0 up to and including Splay.
func Splay(s Settings, r *rand.Rand) time.Duration {
	if s.Splay <= 0 {
		return 0
	}
	return between(r, 0, s.Splay)
}

// The waits of a Backoff that names none.
const (
	defaultBase = 10 * time.Second
	defaultMax  = 10 * time.Minute
)

// Backoff spaces the retries of a failed step by decorrelated jitter: each wait
// is random between Base and three times the one before, at most Max.
type Backoff struct {
	Base time.Duration // shortest wait; 0 or less: 10 s, since a retry without a wait is a busy loop
	Max  time.Duration // longest wait; 0 or less: 10 min; below Base counts as Base
}

// Next returns the wait after prev; prev is 0 before the first retry. It is
// never below Base and never above Max.
func (b Backoff) Next(prev time.Duration, r *rand.Rand) time.Duration {
	base, most := b.Base, b.Max
	if base <= 0 {
		base = defaultBase
	}
	if most <= 0 {
		most = defaultMax
	}
	most = max(most, base)
	prev = min(max(prev, base), most)
	high := 3 * prev
	if prev > maxSpan {
		high = most // three times as much is no Duration any more, and out of reach anyway
	}
	return min(between(r, base, high), most)
}

// between returns a random duration of low up to and including high; low ≤ high.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Uint64N(uint64(high-low)+1))
}
