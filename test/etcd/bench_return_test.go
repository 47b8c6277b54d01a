package etcd_test

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
)

// BenchmarkReturn: from the return of the store to the agent acting on the
// newest value.
func BenchmarkReturn(b *testing.B) {
	s := newProcess(b)
	link := newProxy(b, s.client)
	operator := fill(b, s, 5)
	f := newFollowers(b, link.url(), 1, 5)
	f.startAgent(b)
	values := 0
	acted := func(since time.Duration) time.Duration {
		return time.Duration(f.started(b, 1)) - since
	}

	// Killed, and started on the same data after a while: what is put first
	// thing after that is acted on.
	var restarts []time.Duration
	for i := range 15 {
		s.kill()
		time.Sleep(time.Duration(i%5) * time.Second)
		s.launch(b)
		back := returned(b, s, &values)
		restarts = append(restarts, acted(back))
		time.Sleep(time.Second)
	}
	// A black hole for a while, in which a value is put. The link is mended
	// for new connections; what was swallowed stays so.
	var holes []time.Duration
	for _, long := range []time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 15 * time.Second} {
		link.Swallow(b)
		values++
		change(b, operator, values)
		time.Sleep(long)
		healed := benchenv.Monotonic()
		link.passNew()
		holes = append(holes, acted(healed))
		time.Sleep(time.Second)
	}
	benchenv.Title("etcd: return of the store → first instruction of the command for the newest value")
	benchenv.Target("after kill -9 and start, median", benchenv.Millis(benchenv.Median(restarts)), "0.5 s", benchenv.Median(restarts) <= 500*time.Millisecond)
	benchenv.Target("after kill -9 and start, longest", benchenv.Millis(slices.Max(restarts)), "1.5 s", slices.Max(restarts) <= 1500*time.Millisecond)
	benchenv.Target("after a black hole of 1, 4, 9, 15 s", fmt.Sprint(holes), "10 s", slices.Max(holes) <= 10*time.Second)
	b.ReportMetric(float64(benchenv.Median(restarts).Milliseconds()), "restart-ms")
	b.ReportMetric(float64(slices.Max(holes).Milliseconds()), "hole-ms")
	b.ReportMetric(0, "ns/op")
}

// returned puts a value as soon as the server takes one, with a new client:
// the old one may wait before it looks again.
func returned(b *testing.B, s *server, values *int) (at time.Duration) {
	b.Helper()
	until(b, "a server that listens", func() bool {
		c, err := net.Dial("tcp", s.client)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	c := s.bare(b)
	defer c.Close()
	until(b, "a store that is back", func() bool {
		*values++
		_, err := c.Put(b.Context(), benchSpace.Value("", benchKey(0)), fmt.Sprint("back-", *values))
		at = benchenv.Monotonic()
		return err == nil
	})
	return at
}

// BenchmarkReconnect: how the agents of a fleet come back after an outage.
func BenchmarkReconnect(b *testing.B) {
	const agents = 200
	s := newProcess(b)
	link := newProxy(b, s.client)
	fill(b, s, 1)
	key := benchSpace.Value("", benchKey(0))
	var ready, back sync.WaitGroup
	ready.Add(agents)
	back.Add(agents)
	for range agents {
		a := open(b, at(link.url()))
		go func() {
			resets := 0
			for u := range a.Watch(b.Context(), key) {
				if u.Kind == store.Reset {
					switch resets++; resets {
					case 1:
						ready.Done()
					case 2:
						back.Done()
					}
				}
			}
		}()
	}
	ready.Wait()
	link.accepted() // forget those
	s.kill()
	time.Sleep(5 * time.Second) // all have come to the longest pause
	link.accepted()
	time.Sleep(time.Second)
	tries := len(link.accepted())
	s.start(b)
	link.accepted()
	began := time.Now()
	back.Wait()
	all := time.Since(began)
	benchenv.Title("etcd: %d agents whose server was away for 5 s", agents)
	benchenv.Line("connections tried in a second of it", "%d, by pauses of at most 1 s with full jitter", tries)
	benchenv.Line("all have the state again", "%s after the server answers", benchenv.Millis(all))
	most, spread := crowd(link.accepted(), 100*time.Millisecond)
	benchenv.Line("their connections", "over %s, at most %d in 100 ms", benchenv.Millis(spread), most)
	b.ReportMetric(float64(most), "most-in-100ms")
	b.ReportMetric(0, "ns/op")
}

// crowd is how many of some times are in the fullest window, and how far apart
// the first and the last are.
func crowd(times []time.Time, window time.Duration) (most int, spread time.Duration) {
	for i, from := range times {
		n := 0
		for _, t := range times[i:] {
			if t.Sub(from) < window {
				n++
			}
		}
		most = max(most, n)
	}
	if len(times) > 0 {
		spread = times[len(times)-1].Sub(times[0])
	}
	return most, spread
}

// BenchmarkCost: what an agent costs the server, as docs/stores.md has it.
func BenchmarkCost(b *testing.B) {
	benchenv.Title("etcd: what an agent costs the server, beside operators' writes")
	for _, keys := range []int{10, 100, 1000} {
		s := newProcess(b)
		operator := fill(b, s, keys)
		link := newProxy(b, s.client)
		f := newFollowers(b, link.url(), 1, keys)
		begin := metrics(b, s)
		f.startAgent(b)
		time.Sleep(5 * time.Second)
		started, bytes := metrics(b, s), link.bytes.Swap(0)
		benchenv.Line(fmt.Sprintf("%d keys: start", keys), "%v reads, %v watches on %v stream, %v writes, %d kB", started.requests("Range", "Txn")-begin.requests("Range", "Txn"),
			started["etcd_debugging_mvcc_watcher_total"], started["etcd_debugging_mvcc_watch_stream_total"], started.writes()-begin.writes(), bytes/1000)
		const changes = 50
		for n := range changes {
			change(b, operator, n)
			f.started(b, 1)
		}
		benchenv.Line(fmt.Sprintf("%d keys: a change", keys), "%d bytes", link.bytes.Swap(0)/changes)
		before := metrics(b, s)
		link.bytes.Store(0)
		time.Sleep(time.Minute)
		after := metrics(b, s)
		benchenv.Line(fmt.Sprintf("%d keys: a minute without changes", keys), "%v reads, %v writes, %d bytes", after.requests("Range", "Txn")-before.requests("Range", "Txn"), after.writes()-before.writes(), link.bytes.Load())
		f.end()
		s.kill()
	}
	b.ReportMetric(0, "ns/op")
}

// writes is how many revisions the server made.
func (m figures) writes() float64 { return m["etcd_debugging_mvcc_current_revision"] }
