package nats_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
)

// monitored is a server that counts, and where to ask it.
func monitored(t testing.TB) (s *server, base string) {
	t.Helper()
	port := freePort(t)
	return startServer(t, fmt.Sprintf("http: \"127.0.0.1:%d\"", port)), fmt.Sprintf("http://127.0.0.1:%d", port)
}

func ask(t testing.TB, url string, into any) {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer answer.Body.Close()
	must(t, json.NewDecoder(answer.Body).Decode(into))
}

// load is what the server has counted of the connections with a name, and of
// JetStream's API altogether.
type load struct {
	conns, subscriptions int
	in, out              int64 // messages from and to the clients
	inBytes, outBytes    int64
	api                  int64
}

func measure(t testing.TB, base, name string) (l load) {
	t.Helper()
	var connz struct {
		Connections []struct {
			Name          string `json:"name"`
			Subscriptions int    `json:"subscriptions"`
			InMsgs        int64  `json:"in_msgs"`
			OutMsgs       int64  `json:"out_msgs"`
			InBytes       int64  `json:"in_bytes"`
			OutBytes      int64  `json:"out_bytes"`
		} `json:"connections"`
	}
	ask(t, base+"/connz?limit=10000", &connz)
	for _, c := range connz.Connections {
		if c.Name == name {
			l.conns++
			l.subscriptions += c.Subscriptions
			l.in, l.out = l.in+c.InMsgs, l.out+c.OutMsgs
			l.inBytes, l.outBytes = l.inBytes+c.InBytes, l.outBytes+c.OutBytes
		}
	}
	var jsz struct {
		API struct {
			Total int64 `json:"total"`
		} `json:"api"`
	}
	ask(t, base+"/jsz", &jsz)
	l.api = jsz.API.Total
	return l
}

func (l load) since(before load) load {
	l.in, l.out, l.api = l.in-before.in, l.out-before.out, l.api-before.api
	l.inBytes, l.outBytes = l.inBytes-before.inBytes, l.outBytes-before.outBytes
	return l
}

func consumers(t testing.TB, s *server) int {
	t.Helper()
	stream, err := jetStream(t, s).Stream(t.Context(), "KV_listener")
	must(t, err)
	return stream.CachedInfo().State.Consumers
}

// Each agent has one connection and one consumer, whatever it follows, and
// reads nothing when a value changes.
func TestOneConsumerAndNoReads(t *testing.T) {
	t.Parallel()
	s, base := monitored(t)
	operator := openStore(t, options(s.url()))
	const agents, changes = 3, 50
	var nodes []*node
	for range agents {
		n := newNode(t, s.url(), "")
		write(t, n.path("services/more.json"), []byte(`{"id": "more", "command": false, "requires": {"A": "{A}", "B": "{B}", "C": "{C}"}}`))
		n.start()
		nodes = append(nodes, n)
	}
	for _, key := range []string{"A", "B", "C", "DATABASE_URL", "OTHER_URL"} {
		nodes[0].write(operator, key, "0")
	}
	settled := func(rev uint64) {
		for _, n := range nodes {
			eventually(t, "the newest value is there", func() error {
				if out := n.must("resolve", "app"); !strings.Contains(out, fmt.Sprintf("DATABASE_URL: value, revision %d,", rev)) {
					return fmt.Errorf("%s", out)
				}
				return nil
			})
		}
	}
	settled(get(t, operator, space.Value("", "DATABASE_URL")).Rev)
	if n := consumers(t, s); n != agents {
		t.Errorf("%d consumers of %d agents", n, agents)
	}
	before, began := measure(t, base, "listener"), time.Now()
	bare, err := jetStream(t, s).KeyValue(t.Context(), "listener")
	must(t, err)
	var rev uint64
	for i := range changes {
		rev, err = bare.Put(t.Context(), bareKey(space.Value("", "DATABASE_URL")), fmt.Appendf(nil, "value-%d", i))
		must(t, err)
	}
	settled(rev)
	l := measure(t, base, "listener").since(before)
	// What looks whether the bucket is still the one that it was goes by time.
	checks := int64(agents * (1 + int(time.Since(began)/(20*time.Second))))
	if l.conns != agents+1 {
		t.Errorf("%d connections of %d agents and one more", l.conns, agents)
	}
	const lookup = 3 // of the bare client, and of the count of consumers
	if l.in > checks+lookup || l.api > checks+2*lookup {
		t.Errorf("%d changes for %d agents: %+v, want at most %d questions", changes, agents, l, checks)
	}
	if n := consumers(t, s); n != agents {
		t.Errorf("%d consumers of %d agents after the changes", n, agents)
	}
}

// BenchmarkCosts is what the server counts of one agent's store.
func BenchmarkCosts(b *testing.B) {
	const minute = time.Minute
	s, base := monitored(b)
	o := defaults(s.url())
	operator := openStore(b, o)
	benchValues(b, operator, 20)
	o.Name = "measured"
	a := openStore(b, o)
	before := measure(b, base, o.Name)
	var keys []string
	for i := range 20 {
		for k := range 5 {
			keys = append(keys, space.Value("", fmt.Sprintf("S%04d_KEY_%d", i, k)), space.Value("eu", fmt.Sprintf("S%04d_KEY_%d", i, k)))
		}
	}
	f := &follower{t: b, updates: a.Watch(b.Context(), keys...), state: make(map[string]store.KV)}
	f.until("the state", func() bool { return len(f.state) == 100 })
	benchenv.Title("one agent with 100 keys of 41 bytes, as the server counts")
	say := func(what string, l load) {
		benchenv.Line(what, "from it %d messages, %d bytes; to it %d messages, %d bytes; API requests %d", l.in, l.inBytes, l.out, l.outBytes, l.api)
	}
	l := measure(b, base, o.Name)
	benchenv.Line("connections, subscriptions, consumers", "%d, %d, %d", l.conns, l.subscriptions, consumers(b, s))
	say("connecting, and the state of 100 keys", l.since(before))

	before = measure(b, base, o.Name)
	bare, err := jetStream(b, s).KeyValue(b.Context(), "listener")
	must(b, err)
	for i := range 100 {
		_, err := bare.Put(b.Context(), bareKey(keys[0]), fmt.Appendf(nil, "value-%035d", i))
		must(b, err)
	}
	f.has(keys[0], fmt.Sprintf("value-%035d", 99))
	say("100 changes", measure(b, base, o.Name).since(before))

	before = measure(b, base, o.Name)
	time.Sleep(minute)
	say("idle for a minute", measure(b, base, o.Name).since(before))

	x, err := a.Session(b.Context(), 30*time.Second, "")
	must(b, err)
	var ops []store.Op
	for i := range 5 {
		ops = append(ops, store.PutSession(fmt.Sprintf("/t/s%d", i), make([]byte, 300), x))
	}
	commit(b, a, nil, ops...)
	rev := commit(b, operator, nil, store.Put("/t/x", nil))
	before = measure(b, base, o.Name)
	time.Sleep(minute)
	say("the same, with a session of 5 keys", measure(b, base, o.Name).since(before))
	benchenv.Line("its writes in the bucket", "%d", commit(b, operator, nil, store.Put("/t/x", nil))-rev-1)
	b.ReportMetric(0, "ns/op")
}

// BenchmarkServer is what idle agents cost the server.
func BenchmarkServer(b *testing.B) {
	const members, keys = 500, 20
	s, base := monitored(b)
	operator := openStore(b, defaults(s.url()))
	benchValues(b, operator, keys/5)
	pid := s.cmd.Process.Pid
	memory := benchenv.RSSAnon(b, pid)
	for range members {
		a := openStore(b, defaults(s.url()))
		var names []string
		for i := range keys {
			names = append(names, space.Value("", fmt.Sprintf("S%04d_KEY_%d", i/5, i%5)))
		}
		follow(b, a, names...).until("the state", func() bool { return true })
	}
	eventually(b, "all follow", func() error {
		if n := consumers(b, s); n != members {
			return fmt.Errorf("%d consumers", n)
		}
		return nil
	})
	time.Sleep(10 * time.Second)
	before, cpu := measure(b, base, "listener"), benchenv.ProcessCPU(pid)
	time.Sleep(time.Minute)
	l, used := measure(b, base, "listener").since(before), benchenv.ProcessCPU(pid)-cpu
	benchenv.Title("a server with %d idle agents that follow %d keys each", members, keys)
	benchenv.Line("memory for each", "%d bytes", (benchenv.RSSAnon(b, pid)-memory)/members)
	benchenv.Line("processor time in a minute", "%s", benchenv.Millis(used))
	benchenv.Line("messages, bytes in a minute", "from them %d, %d; to them %d, %d", l.in, l.inBytes, l.out, l.outBytes)
	b.ReportMetric(0, "ns/op")
}
