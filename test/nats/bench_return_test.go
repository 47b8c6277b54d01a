package nats_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
)

// BenchmarkReturn: from the return of the store to the first instruction of
// the command for the newest value, which was written while the agent could
// not see it. The store is away for a random time.
func BenchmarkReturn(b *testing.B) {
	n := newBench(b, 1)
	p := startProxy(b, n.server.addr())
	pipe := filepath.Join(b.TempDir(), "stamps")
	own := openStamps(b, pipe)
	startBinary(b, filepath.Join(benchNodes(b, benchenv.StampCommand(b, b.TempDir()), pipe, p.url(), 1, 1), "0"))
	own.next(b)
	for _, fault := range []struct {
		what, most     string
		mode           mode
		least, longest time.Duration
		restart        bool
		times          int
		target         time.Duration
	}{
		{"a restart of the server", "0.5 s, at most 1.5 s", cut, time.Second / 2, 4 * time.Second, true, 25, time.Second / 2},
		{"a cut link", "0.5 s, at most 1.5 s", cut, time.Second / 2, 4 * time.Second, false, 25, time.Second / 2},
		{"a black hole", "at most 10 s", black, time.Second, 20 * time.Second, false, 12, 10 * time.Second},
	} {
		var took []time.Duration
		for range fault.times {
			time.Sleep(500 * time.Millisecond) // until nothing is left of the last one
			p.set(fault.mode)
			n.put(b)
			if fault.restart {
				n.server.kill()
			}
			time.Sleep(fault.least + rand.N(fault.longest-fault.least))
			if fault.restart {
				n.server.start(b)
			}
			p.set(open)
			at := benchenv.Monotonic()
			took = append(took, own.next(b)-at)
			if fault.restart {
				n.connect(b)
			}
		}
		benchenv.Title("%s of up to %v: from the return of the store to the command, %d times", fault.what, fault.longest, fault.times)
		benchenv.Target("median", benchenv.Millis(benchenv.Median(took)), fault.most, benchenv.Median(took) <= fault.target)
		benchenv.Line("p95, longest", "%s, %s", benchenv.Millis(part(took, 0.95)), benchenv.Millis(slices.Max(took)))
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkReconnect: how a fleet comes back to a server that was away.
func BenchmarkReconnect(b *testing.B) {
	const members = 200
	s := startServer(b, "")
	admin := openStore(b, defaults(s.url()))
	answers(b, admin)
	put(b, admin, "/t/a", "1")
	for _, away := range []time.Duration{200 * time.Millisecond, 5 * time.Second} {
		var mu sync.Mutex
		var at []time.Time
		var ready, back sync.WaitGroup
		var all []*nats.Store
		for range members {
			a := nats.Open(defaults(s.url()))
			all = append(all, a)
			ready.Add(1)
			back.Go(func() {
				resets := 0
				for u := range a.Watch(b.Context(), "/t/a") {
					if u.Kind != store.Reset {
						continue
					}
					if resets++; resets == 1 {
						ready.Done()
						continue
					}
					mu.Lock()
					at = append(at, time.Now())
					mu.Unlock()
					return
				}
			})
		}
		ready.Wait()
		s.kill()
		time.Sleep(away)
		s.start(b)
		returned := time.Now()
		back.Wait()
		for _, a := range all {
			a.Close()
		}
		told(at, returned, fmt.Sprintf("%d agents come back after %v", members, away))
	}
	b.ReportMetric(0, "ns/op")
}

// told prints when those of a fleet were there.
func told(at []time.Time, since time.Time, what string) {
	var took []time.Duration
	slots := make(map[time.Duration]int)
	most := 0
	for _, t := range at {
		d := t.Sub(since)
		took = append(took, d)
		slot := d.Truncate(50 * time.Millisecond)
		slots[slot]++
		most = max(most, slots[slot])
	}
	benchenv.Title("%s, from the return of the server to the state", what)
	benchenv.Line("first, median, p95, last", "%s, %s, %s, %s", benchenv.Millis(slices.Min(took)), benchenv.Millis(benchenv.Median(took)),
		benchenv.Millis(part(took, 0.95)), benchenv.Millis(slices.Max(took)))
	benchenv.Line("most in 50 ms", "%d of %d", most, len(took))
}
