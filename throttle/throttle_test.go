package throttle

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSettle(t *testing.T) {
	const s = time.Second
	set := Settings{Settle: 1 * s, SettleMax: 10 * s}
	for _, tt := range []struct {
		name             string
		set              Settings
		first, last, now time.Duration
		want             time.Duration
	}{
		{"off", Settings{SettleMax: 10 * s}, 5 * s, 5 * s, 5 * s, 0},
		{"just now", set, 5 * s, 5 * s, 5 * s, 1 * s},
		{"half way", set, 5 * s, 5 * s, 5500 * time.Millisecond, 500 * time.Millisecond},
		{"quiet", set, 5 * s, 5 * s, 6 * s, 0},
		{"a later change starts it again", set, 5 * s, 6 * s, 6 * s, 1 * s},
		{"at most settle_max", set, 5 * s, 14500 * time.Millisecond, 14500 * time.Millisecond, 500 * time.Millisecond},
		{"settle_max is over", set, 5 * s, 15 * s, 15 * s, 0},
		{"long ago", set, 5 * s, 5 * s, 500 * s, 0},
		{"change in the future counts as now", set, 5 * s, 50 * s, 5 * s, 1 * s},
		{"settle_max 0 is settle, not endless", Settings{Settle: s}, 5 * s, 5500 * time.Millisecond, 5500 * time.Millisecond, 500 * time.Millisecond},
	} {
		if got := Settle(tt.set, tt.first, tt.last, tt.now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A stream of changes that never ends is settled at SettleMax and no later, and
// not before the last change is Settle ago or SettleMax is over.
func TestSettleBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := Settings{
			Settle:    rapid.Custom(genSpan).Draw(t, "settle"),
			SettleMax: rapid.Custom(genSpan).Draw(t, "max"),
		}
		first := rapid.Custom(genSpan).Draw(t, "first")
		last := first + rapid.Custom(genSpan).Draw(t, "last")
		now := last + rapid.Custom(genSpan).Draw(t, "now")
		wait := Settle(set, first, last, now)
		if wait < 0 || wait > set.Settle {
			t.Fatalf("wait %v outside 0…%v", wait, set.Settle)
		}
		open := now-last >= set.Settle || now-first >= max(set.Settle, set.SettleMax)
		if open != (wait == 0) {
			t.Fatalf("wait %v, settled: %v", wait, open)
		}
		if Settle(set, first, last, now+wait) != 0 {
			t.Fatalf("not settled after the wait of %v", wait)
		}
	})
}

func TestSplay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	if got := Splay(Settings{}, r); got != 0 {
		t.Errorf("splay 0: %v", got)
	}
	const most = 4 * time.Nanosecond
	seen := map[time.Duration]bool{}
	for range 1000 {
		seen[Splay(Settings{Splay: most}, r)] = true
	}
	for d := time.Duration(0); d <= most; d++ {
		if !seen[d] {
			t.Errorf("%v never came in 1000 draws", d)
		}
	}
	if len(seen) != 5 {
		t.Errorf("draws outside 0…4 ns: %v", seen)
	}
}

func TestBackoffZeroValue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	first := Backoff{}.Next(0, r)
	if first < 10*time.Second || first > 30*time.Second {
		t.Errorf("first wait %v, want 10 s to 30 s", first)
	}
	if got := (Backoff{Base: time.Minute, Max: time.Second}).Next(0, r); got != time.Minute {
		t.Errorf("a max below base: %v, want base", got)
	}
}

func TestBackoffBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{
			Base: time.Duration(rapid.Int64Min(1).Draw(t, "base")),
			Max:  time.Duration(rapid.Int64Min(1).Draw(t, "max")),
		}
		most := max(b.Base, b.Max)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		prev := time.Duration(0)
		for range 20 {
			next := b.Next(prev, r)
			if next < b.Base || next > most {
				t.Fatalf("%v after %v, outside %v…%v", next, prev, b.Base, most)
			}
			if p := max(prev, b.Base); p < most/3 && next > 3*p {
				t.Fatalf("%v after %v, more than three times as long", next, prev)
			}
			prev = next
		}
	})
}

// It grows to the maximum, and two nodes do not go in step.
func TestBackoffGrowsAndSpreads(t *testing.T) {
	b := Backoff{Base: time.Second, Max: 10 * time.Minute}
	waits := map[time.Duration]bool{}
	grown := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		waits[b.Next(0, r)] = true
		prev := time.Duration(0)
		for range 60 {
			if prev = b.Next(prev, r); prev == b.Max {
				grown++
				break
			}
		}
	}
	if len(waits) < 95 {
		t.Errorf("100 nodes share %d first waits", len(waits))
	}
	if grown < 95 {
		t.Errorf("only %d of 100 reached the maximum in 60 retries", grown)
	}
}

func TestClock(t *testing.T) {
	a, err := Clock()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Clock()
	if err != nil {
		t.Fatal(err)
	}
	if a.Boot == "" || a.Boot != b.Boot || !bootName(a.Boot) {
		t.Errorf("boot ids %q and %q", a.Boot, b.Boot)
	}
	if a.Up <= 0 || b.Up < a.Up || b.Up-a.Up > time.Minute {
		t.Errorf("up %v, then %v", a.Up, b.Up)
	}
	if d := time.Since(a.Wall); d < 0 || d > time.Minute {
		t.Errorf("wall is %v off", d)
	}
}

// genSpan draws durations of the sizes that settings have, and 0.
func genSpan(t *rapid.T) time.Duration {
	unit := rapid.SampledFrom([]time.Duration{0, 1, time.Millisecond, time.Second, time.Minute}).Draw(t, "unit")
	return unit * time.Duration(rapid.Int64Range(0, 1000).Draw(t, "n"))
}
