package throttle

import (
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world is an agent that obeys the gates, with restarts, reboots and clocks
// that jump. twin never restarts, prunes nothing and never sees a wall clock
// jump: it says what the record should say. Reboots are of their own property.
type world struct {
	path string
	set  Settings
	now  Now
	r    *Record
	twin []Stamp
	runs []time.Duration // starts of automatic runs, in real time
}

func newWorld(t *rapid.T, path string) *world {
	w := &world{path: path, now: now0, set: Settings{
		MinInterval: rapid.Custom(genSpan).Draw(t, "interval"),
		Burst:       rapid.IntRange(0, 6).Draw(t, "burst"),
		Window:      rapid.Custom(genSpan).Draw(t, "window"),
	}}
	w.restart(t)
	return w
}

func (w *world) restart(t *rapid.T) {
	r, err := Open(w.path, w.now, w.set)
	if err != nil {
		t.Fatal(err)
	}
	w.r = r
}

func (w *world) add(t *rapid.T, k Kind) {
	if err := w.r.Add(w.now, k); err != nil {
		t.Fatal(err)
	}
	w.twin = append(w.twin, Stamp{Wall: w.now.Wall, Boot: w.now.Boot, Up: w.now.Up, Kind: k})
	if k == Auto {
		w.runs = append(w.runs, w.now.Up)
	}
}

// auto starts an automatic run if the gates are open, perhaps after waiting.
func (w *world) auto(t *rapid.T) {
	interval, bucket := w.r.Interval(w.set, w.now), w.r.Bucket(w.set, w.now)
	if interval < 0 || interval > w.set.MinInterval {
		t.Fatalf("interval %v outside 0…%v", interval, w.set.MinInterval)
	}
	g := gauge{w.set}
	if g.off() != (w.r.Tokens(w.set, w.now) < 0) || g.off() && bucket != 0 {
		t.Fatalf("burst %d, window %v: wait %v", w.set.Burst, w.set.Window, bucket)
	}
	if !g.off() && (bucket < 0 || bucket > g.each()) {
		t.Fatalf("bucket %v outside 0…%v", bucket, g.each())
	}
	wait := max(interval, bucket)
	if wait > 0 && rapid.Bool().Draw(t, "give up") {
		return
	}
	w.now = after(w.now, wait)
	if i, b := w.r.Interval(w.set, w.now), w.r.Bucket(w.set, w.now); i != 0 || b != 0 {
		t.Fatalf("after waiting %v: interval %v, bucket %v: a gate must open in the time it says", wait, i, b)
	}
	w.add(t, Auto)
}

// check compares the record with the twin and the promise with the runs.
func (w *world) check(t *rapid.T) {
	twin := &Record{stamps: w.twin, settings: w.set}
	for _, later := range []time.Duration{0, 1, time.Second, w.set.Window / 2, w.set.Window} {
		now := after(w.now, later)
		if got, want := w.r.Interval(w.set, now), twin.Interval(w.set, now); got != want {
			t.Fatalf("in %v: interval %v, with the whole history %v", later, got, want)
		}
		if got, want := w.r.Bucket(w.set, now), twin.Bucket(w.set, now); got != want {
			t.Fatalf("in %v: bucket %v, with the whole history %v", later, got, want)
		}
		if got, want := w.r.Tokens(w.set, now), twin.Tokens(w.set, now); got != want {
			t.Fatalf("in %v: %d tokens, with the whole history %d", later, got, want)
		}
	}
	if n := len(w.r.stamps); n > max(w.set.Burst, 0)+1 {
		t.Fatalf("%d stamps kept for a burst of %d", n, w.set.Burst)
	}
	checkPromise(t, w.set, w.runs)
}

// checkPromise: never more than burst + elapsed·burst/window automatic runs in
// any window.
func checkPromise(t *rapid.T, s Settings, runs []time.Duration) {
	if s.Burst <= 0 || s.Window <= 0 {
		return
	}
	for i := range runs {
		for j := i; j < len(runs); j++ {
			most := float64(s.Burst) + float64(runs[j]-runs[i])*float64(s.Burst)/float64(s.Window)
			if n := j - i + 1; float64(n) > most+1e-6 {
				t.Fatalf("%d runs in %v, at most %.3f allowed", n, runs[j]-runs[i], most)
			}
		}
	}
}

// Restarts at any time, pruning and jumps of the wall clock change nothing.
func TestRecordWithinABoot(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := newWorld(t, filepath.Join(dir, time.Duration(n).String()))
		t.Repeat(map[string]func(*rapid.T){
			"":        w.check,
			"pass":    func(t *rapid.T) { w.now = after(w.now, rapid.Custom(genSpan).Draw(t, "time")) },
			"restart": w.restart,
			"jump": func(t *rapid.T) {
				hours := rapid.SampledFrom([]time.Duration{-1, 1, -400_000, 400_000}).Draw(t, "hours")
				w.now.Wall = w.now.Wall.Add(hours * time.Hour)
			},
			"auto":   w.auto,
			"retry":  func(t *rapid.T) { w.add(t, Retry) },
			"manual": func(t *rapid.T) { w.add(t, Manual) },
		})
	})
}

// Boots in between, with a wall clock that is right, change nothing either,
// up to the millisecond that the file keeps of wall time.
func TestRecordAcrossBoots(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := newWorld(t, filepath.Join(dir, time.Duration(n).String()))
		var starts []time.Duration // by wall time, which does not jump here
		run := func(t *rapid.T) {
			before := len(w.runs)
			w.auto(t)
			for range w.runs[before:] {
				starts = append(starts, w.now.Wall.Sub(wall0))
			}
		}
		whole := func() time.Duration {
			return time.Duration(rapid.Int64Range(0, 1_000_000).Draw(t, "ms")) * time.Millisecond
		}
		boots := 0
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				slack := time.Duration(boots+1) * time.Millisecond
				checkPromise(t, Settings{Burst: w.set.Burst, Window: max(w.set.Window-slack*time.Duration(max(w.set.Burst, 1)), 0)}, starts)
			},
			"pass": func(*rapid.T) { w.now = after(w.now, whole()) },
			"boot": func(t *rapid.T) { boots++; w.now = reboot(w.now, whole()); w.restart(t) },
			"auto": run,
		})
	})
}

// Whatever the file holds and whatever the clock says: Open gives a record that
// works, every wait has its bound, and the second Open finds nothing to complain of.
func FuzzOpen(f *testing.F) {
	f.Add("", int64(0), int64(0))
	f.Add("2026-11-21T00:42:30Z boot-a 995 auto\n", int64(0), int64(1000))
	f.Add("2026-11-21T00:42:30.5+01:00 boot-z -995.25 retry\n2026-11-21T00:42:30Z - 1 manual\n", int64(-1e9), int64(7))
	f.Add("9999-12-31T23:59:59Z b 2838239998.999999999 auto\n0000-01-01T00:00:00Z c -2838239998.999999999 auto\n", int64(1e9), int64(1e9))
	f.Add("0000-01-01T00:00:00+12:00 c 1 auto\n9999-12-31T23:59:59-12:00 c 1 auto\n", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, text string, wall, up int64) {
		const year = 365 * 24 * 3600
		now := Now{Wall: wall0.Add(time.Duration(wall%(200*year)) * time.Second), Boot: "boot-a", Up: time.Duration(max(up, -up)%(40*year)) * time.Second}
		path := tempFile(t, text)
		r, _ := Open(path, now, deflt)
		waits := func(r *Record, now Now) [2]time.Duration {
			i, b := r.Interval(deflt, now), r.Bucket(deflt, now)
			if i < 0 || i > deflt.MinInterval || b < 0 || b > 100*time.Second {
				t.Fatalf("interval %v, bucket %v", i, b)
			}
			return [2]time.Duration{i, b}
		}
		first := waits(r, now)
		again, err := Open(path, now, deflt)
		if err != nil {
			t.Fatalf("opened again: %v", err)
		}
		if second := waits(again, now); second != first {
			t.Fatalf("waits %v, opened again %v", first, second)
		}
		if len(again.stamps) > 4 {
			t.Fatalf("%d stamps kept", len(again.stamps))
		}
		if err := again.Add(now, Auto); err != nil {
			t.Fatal(err)
		}
		waits(again, now)
		if later := after(now, 300*time.Second); waits(again, later) != [2]time.Duration{} {
			t.Fatal("a window later a gate is closed")
		}
	})
}
