package nats_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/nats-io/nats.go/jetstream"
)

// `make bench BENCHFLAGS='-C test/nats -benchtime 1x .'` runs these. They print
// what they measured beside what it should be, as those of cmd/listener do.

// rounds × perRound changes of each, floor and agent in turn.
const (
	rounds   = 9
	perRound = 100
	// breath lets what follows a run end before the next change.
	breath = 30 * time.Millisecond
)

// bench is a server whose bucket has the values, and a bare client's view.
type bench struct {
	server *server
	kv     jetstream.KeyValue
	values int
}

func newBench(b *testing.B, services int) *bench {
	b.Helper()
	s := startServer(b, "")
	admin := openStore(b, defaults(s.url()))
	answers(b, admin)
	benchValues(b, admin, services)
	n := &bench{server: s}
	n.connect(b)
	return n
}

func (n *bench) connect(b *testing.B) {
	b.Helper()
	var err error
	n.kv, err = jetStream(b, n.server).KeyValue(b.Context(), "listener")
	must(b, err)
}

// put changes the key and returns when that was acknowledged.
func (n *bench) put(b *testing.B) time.Duration {
	b.Helper()
	n.values++
	_, err := n.kv.Put(b.Context(), bareKey(benchKey()), fmt.Appendf(nil, "value-%d", n.values))
	must(b, err)
	return benchenv.Monotonic()
}

// round is a number of changes, each after the command for the one before in
// all members; first and last are those of each change. Others that follow the
// key run their commands as well, on a pipe that drain empties.
func (n *bench) round(b *testing.B, changes, members int, own stamps, others ...stamps) (first, last []time.Duration) {
	b.Helper()
	for range changes {
		time.Sleep(breath)
		at := n.put(b)
		var came []time.Duration
		for range members {
			came = append(came, own.next(b)-at)
		}
		for _, o := range others {
			for range members {
				o.next(b)
			}
		}
		first, last = append(first, slices.Min(came)), append(last, slices.Max(came))
	}
	return first, last
}

// BenchmarkChange: from the acknowledgement of a put to the first instruction
// of the command, beside the floor: a bare ordered consumer that forks and
// execs the same command. Each has the server to itself in its rounds.
func BenchmarkChange(b *testing.B) {
	stamp := benchenv.StampCommand(b, b.TempDir())
	kinds := []string{"bare", "agent"}
	benches, pipes, all := make([]*bench, 2), make([]stamps, 2), make([]benchenv.Series, 2)
	for i, kind := range kinds {
		benches[i] = newBench(b, 1)
		pipe := filepath.Join(b.TempDir(), "stamps")
		pipes[i] = openStamps(b, pipe)
		dir := benchNodes(b, stamp, pipe, benches[i].server.url(), 1, 1)
		if kind == "bare" {
			startFleet(b, kind, benches[i].server.url(), dir, 1)
		} else {
			startBinary(b, filepath.Join(dir, "0"))
		}
		pipes[i].next(b) // the state at the start
		benches[i].round(b, perRound/4, 1, pipes[i])
	}
	for range rounds {
		for i := range kinds {
			took, _ := benches[i].round(b, perRound, 1, pipes[i])
			all[i].Add(took)
		}
	}
	f, a := &all[0], &all[1]
	benchenv.Title("put acknowledged → first instruction of the command, %d rounds of %d", rounds, perRound)
	benchenv.Line("floor", "median %s  p95 %s  (round medians spread %.0f %%)", benchenv.Millis(f.Median()), benchenv.Millis(f.P95()), spread(*f))
	benchenv.Line("agent", "median %s  p95 %s  (round medians spread %.0f %%)", benchenv.Millis(a.Median()), benchenv.Millis(a.P95()), spread(*a))
	benchenv.Target("median above the floor", benchenv.Millis(a.Median()-f.Median()), "3 ms, aim 1 ms", a.Median() <= f.Median()+3*time.Millisecond)
	b.ReportMetric(float64(f.Median().Microseconds()), "floor-µs")
	b.ReportMetric(float64(a.Median().Microseconds()), "agent-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFleet: 200 agents in one process follow one key on one server,
// beside 200 bare clients in one process on another, and 200 that have the
// agents' watch and nothing else of them. The command takes a second, as any
// real one does: what follows its end would keep others from starting theirs.
func BenchmarkFleet(b *testing.B) {
	const members, changes = 200, 9
	stamp := benchenv.StampCommand(b, b.TempDir())
	took := make(map[string]*benchenv.Series)
	for _, kind := range []string{"bare", "stores", "agents"} {
		took[kind] = new(benchenv.Series)
		b.Run(kind, func(b *testing.B) { // so that one is gone before the other
			n := newBench(b, 1)
			pipe := filepath.Join(b.TempDir(), "stamps")
			own := openStamps(b, pipe)
			dir := benchNodes(b, stamp, pipe, n.server.url(), members, 1, "stay")
			startFleet(b, kind, n.server.url(), dir, members)
			for range members {
				own.next(b)
			}
			for range changes {
				time.Sleep(3 * time.Second) // until nothing is left of the last change
				_, last := n.round(b, 1, members, own)
				took[kind].Add(last)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	for _, s := range took {
		if len(s.Medians) == 0 {
			return // not all were asked for
		}
	}
	bare, stores, agents := took["bare"].Median(), took["stores"].Median(), took["agents"].Median()
	benchenv.Title("put acknowledged → all of %d have started their command, median of %d", members, changes)
	benchenv.Line("floor: bare clients", "%s", benchenv.Millis(bare))
	benchenv.Line("the agents' watches", "%s (%.1f ×)", benchenv.Millis(stores), float64(stores)/float64(bare))
	benchenv.Target("agents", fmt.Sprintf("%s (%.1f ×)", benchenv.Millis(agents), float64(agents)/float64(bare)), "3 × the bare clients'", agents <= 3*bare)
}

// BenchmarkIdle: the memory of an agent that follows 1,000 keys.
func BenchmarkIdle(b *testing.B) {
	const services, starts = 200, 3
	n := newBench(b, services)
	stamp := benchenv.StampCommand(b, b.TempDir())
	var sizes []int64
	for range starts {
		pipe := filepath.Join(b.TempDir(), "stamps")
		own := openStamps(b, pipe)
		cmd := startBinary(b, filepath.Join(benchNodes(b, stamp, pipe, n.server.url(), 1, services), "0"))
		own.next(b)
		time.Sleep(10 * time.Second)
		sizes = append(sizes, benchenv.RSSAnon(b, cmd.Process.Pid))
	}
	size := benchenv.Median(sizes)
	benchenv.Title("idle with %d keys", services*5)
	benchenv.Target("RssAnon", benchenv.Megas(size), "12 MB", size <= 12e6)
	b.ReportMetric(float64(size)/1e6, "rss-MB")
	b.ReportMetric(0, "ns/op")
}
