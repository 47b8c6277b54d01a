package etcd_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// `make bench` runs these. They print what they measured beside what it should
// be and fail for no figure.

const (
	benchRounds = 9
	perRound    = 100
	breath      = 2 * time.Millisecond // what follows a run ends before the next change
)

var benchSpace = store.Space{Prefix: "/listener/v1", Federation: "default"}

// fill gives n keys a value.
func fill(b *testing.B, s *server, n int) *clientv3.Client {
	b.Helper()
	c := s.bare(b)
	for from := 0; from < n; from += store.MaxOps {
		var ops []clientv3.Op
		for i := from; i < min(n, from+store.MaxOps); i++ {
			ops = append(ops, clientv3.OpPut(benchSpace.Value("", benchKey(i)), fmt.Sprintf("postgres://db-%d.example.com:5432/app", i)))
		}
		_, err := c.Txn(b.Context()).Then(ops...).Commit()
		must(b, err)
	}
	return c
}

// change puts another value of the first key; it returns when that was
// acknowledged, on the clock of the stamps.
func change(b *testing.B, c *clientv3.Client, n int) time.Duration {
	b.Helper()
	_, err := c.Put(b.Context(), benchSpace.Value("", benchKey(0)), "value-"+strconv.Itoa(n))
	must(b, err)
	return benchenv.Monotonic()
}

// BenchmarkChange: from the acknowledgement of a put to the first instruction
// of the command, beside a bare watch of etcd's own client, fork and exec.
// Each has a server of its own.
func BenchmarkChange(b *testing.B) {
	floor := newChanger(b, true)
	agent := newChanger(b, false)
	floor.changes(b, perRound/2)
	agent.changes(b, perRound/2)
	var f, a benchenv.Series
	for range benchRounds {
		f.Add(floor.changes(b, perRound))
		a.Add(agent.changes(b, perRound))
	}
	benchenv.Title("etcd: acknowledgement of a put → first instruction of the command, %d rounds of %d", benchRounds, perRound)
	spread := 100 * float64(slices.Max(f.Medians)-slices.Min(f.Medians)) / float64(f.Median())
	benchenv.Line("floor", "median %s  p95 %s  (round medians spread %.0f %%)", benchenv.Millis(f.Median()), benchenv.Millis(f.P95()), spread)
	benchenv.Line("agent", "median %s  p95 %s", benchenv.Millis(a.Median()), benchenv.Millis(a.P95()))
	if spread > 30 {
		benchenv.Line("", "TOO NOISY: these figures tell little, run it on a quiet machine")
	}
	above := a.Median() - f.Median()
	benchenv.Target("median above the floor", benchenv.Millis(above), "3 ms, aim 1 ms", above <= 3*time.Millisecond)

	before, began := metrics(b, agent.server), time.Now()
	agent.changes(b, perRound)
	after := metrics(b, agent.server)
	reads := after.requests("Range", "Txn") - before.requests("Range", "Txn")
	checks := float64(time.Since(began)/(10*time.Second)) + 1
	benchenv.Line("watch streams of the agent", "%v, with %v watches", after["etcd_debugging_mvcc_watch_stream_total"], after["etcd_debugging_mvcc_watcher_total"])
	benchenv.Target("reads during 100 changes", fmt.Sprint(reads), fmt.Sprintf("%v (the check each 10 to 30 s)", checks), reads <= checks)
	b.ReportMetric(float64(f.Median().Microseconds()), "floor-µs")
	b.ReportMetric(float64(a.Median().Microseconds()), "agent-µs")
	b.ReportMetric(0, "ns/op")
}

// changer is an etcd with one follower.
type changer struct {
	server   *server
	operator *clientv3.Client
	follower *followers
	values   int
}

func newChanger(b *testing.B, bare bool) *changer {
	b.Helper()
	c := &changer{server: newProcess(b)}
	c.operator = fill(b, c.server, 5)
	c.follower = newFollowers(b, c.server.url(), 1, 5)
	if bare {
		c.follower.start(b, "bare", c.server.url(), 1)
		c.follower.started(b, 1)
	} else {
		c.follower.startAgent(b)
	}
	return c
}

func (c *changer) changes(b *testing.B, n int) (took []time.Duration) {
	b.Helper()
	for range n {
		time.Sleep(breath)
		c.values++
		at := change(b, c.operator, c.values)
		took = append(took, time.Duration(c.follower.started(b, 1))-at)
	}
	return took
}

// BenchmarkFleet: 200 agents in one process follow one key. All that they write
// is in memory, and the command takes a second, less than any real one: what 200
// nodes do after its end, each on a machine of its own, would else keep these
// from starting. How long it takes with a command that ends at once is told, too.
//
// The roles take turns, each with a server of its own.
func BenchmarkFleet(b *testing.B) {
	const agents, changes = 200, 10
	turns := func(roles []string, args ...string) (medians []time.Duration) {
		took := make([][]time.Duration, len(roles))
		var operators []*clientv3.Client
		var fleets []*followers
		for _, role := range roles {
			s := newProcess(b)
			defer s.kill()
			f := newFollowersIn(b, "/dev/shm", s.url(), agents, 1, args...)
			defer f.end()
			operators, fleets = append(operators, fill(b, s, 1)), append(fleets, f)
			f.start(b, role, s.url(), agents)
			f.started(b, agents)
		}
		for n := range changes {
			for i, f := range fleets {
				time.Sleep(3 * time.Second) // until all is recorded, and each has its standby again
				at := change(b, operators[i], n)
				took[i] = append(took[i], time.Duration(f.started(b, agents))-at)
			}
		}
		for _, t := range took {
			medians = append(medians, benchenv.Median(t[1:]))
		}
		return medians
	}
	times := func(d, floor time.Duration) string {
		return fmt.Sprintf("median %s (%.1f ×)", benchenv.Millis(d), float64(d)/float64(floor))
	}
	benchenv.Title("etcd: %d in one process follow one key; until the last one's command has started", agents)
	long := turns([]string{"bare", "survivors", "agents"}, "stay")
	benchenv.Line("bare clients", "median %s", benchenv.Millis(long[0]))
	benchenv.Line("bare clients, commands outlive them", "%s", times(long[1], long[0]))
	benchenv.Target("agents", times(long[2], long[0]), benchenv.Millis(3*long[0])+" (3 × the bare clients)", long[2] <= 3*long[0])
	short := turns([]string{"bare", "agents"})
	benchenv.Line("bare clients, command ends at once", "median %s", benchenv.Millis(short[0]))
	benchenv.Line("agents, command ends at once", "%s", times(short[1], short[0]))
	b.ReportMetric(float64(long[0].Milliseconds()), "bare-ms")
	b.ReportMetric(float64(long[2].Milliseconds()), "agents-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle: an agent with 1,000 keys on which nothing happens.
func BenchmarkIdle(b *testing.B) {
	s := newProcess(b)
	operator := fill(b, s, 1000)
	f := newFollowers(b, s.url(), 1, 1000)
	f.startAgent(b)
	time.Sleep(8 * time.Second)
	pid := f.cmd.Process.Pid
	fresh := benchenv.RSSAnon(b, pid)
	at := change(b, operator, 1)
	benchenv.Title("etcd: idle with 1,000 followed keys")
	benchenv.Line("a change among them", "%s", benchenv.Millis(time.Duration(f.started(b, 1))-at))
	time.Sleep(8 * time.Second)
	cpu := benchenv.ProcessCPU(pid)
	time.Sleep(time.Minute)
	cpu = benchenv.ProcessCPU(pid) - cpu
	size := benchenv.RSSAnon(b, pid)
	benchenv.Line("RssAnon after the start", "%s", benchenv.Megas(fresh))
	benchenv.Target("RssAnon", benchenv.Megas(size), "12 MB", size <= 12e6)
	benchenv.Line("CPU in a minute", "%s", benchenv.Millis(cpu))
	b.ReportMetric(float64(size)/1e6, "rss-MB")
	b.ReportMetric(0, "ns/op")
}

// figures are the metrics of a server.
type figures map[string]float64

func metrics(b testing.TB, s *server) figures {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url()+"/metrics", nil)
	must(b, err)
	resp, err := http.DefaultClient.Do(req)
	must(b, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(b, err)
	m := make(figures)
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			m[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return m
}

// requests is how many there were of some methods.
func (m figures) requests(methods ...string) (n float64) {
	for name, value := range m {
		for _, method := range methods {
			if strings.HasPrefix(name, "grpc_server_started_total{") && strings.Contains(name, `grpc_method="`+method+`"`) {
				n += value
			}
		}
	}
	return n
}
