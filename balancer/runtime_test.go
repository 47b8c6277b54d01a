package balancer_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

// on puts an entry on an origin, behind the frontend on port.
func on(o *origin, port int) func(*balancer.Entry) {
	return func(e *balancer.Entry) {
		at("http://", "127.0.0.1", o.port)(e)
		e.LocalPort = port
	}
}

func TestNoRequestFails(t *testing.T) {
	t.Parallel()
	length := 3 * time.Second
	if os.Getenv("CI") == "true" {
		length *= 10
	}
	churn(t, length)
}

// TestSoakNoRequestFails is for `make soak`.
func TestSoakNoRequestFails(t *testing.T) {
	t.Parallel()
	soak, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Skip("SOAK=10m runs it for ten minutes")
	}
	churn(t, soak)
}

// churn changes servers under load for as long as it says.
func churn(t *testing.T, length time.Duration) {
	port := freePort(t)
	var origins []*origin
	for i := range 6 {
		origins = append(origins, serve(t, fmt.Sprintf("web%d", i)))
	}
	with := func(change func(i int, e *balancer.Entry) bool) *balancer.Plan {
		var entries []balancer.Entry
		for i, o := range origins {
			if e := up(o.name, on(o, port)); change(i, &e) {
				entries = append(entries, e)
			}
		}
		return plan(t, local(key("API_URL", entries...)))
	}
	first := func(n int) *balancer.Plan {
		return with(func(i int, _ *balancer.Entry) bool { return i < n })
	}
	x := start(t, first(2))
	l := traffic(t, fmt.Sprintf("http://127.0.0.1:%d/", port))
	l.more(t, 300)
	pid := x.info("Pid")
	end := time.Now().Add(length)
	for round := 0; round < 2 || time.Now().Before(end); round++ {
		x.applied(first(6)) // joined
		before := origins[5].hits.Load()
		eventually(t, "web5 in use", func() bool { return origins[5].hits.Load() > before })
		x.applied(with(func(i int, e *balancer.Entry) bool { // reweighted
			e.Weight = 10 + 40*((i+round)%5)
			return true
		}))
		l.more(t, 300)
		x.applied(with(func(i int, e *balancer.Entry) bool { // drained
			if i%2 == 0 {
				e.State = store.Draining
			}
			return true
		}))
		l.more(t, 300)
		x.applied(with(func(i int, _ *balancer.Entry) bool { return i >= 2 })) // left
		l.more(t, 300)
		if now := x.info("Pid"); now != pid {
			t.Fatalf("the process was %s and is %s", pid, now)
		}
		x.reload(first(3))
		pid = x.info("Pid")
		l.more(t, 300)
	}
	// A server that is no longer in may end; so may one that only the file lacks.
	x.applied(first(2))
	origins[2].stop(t)
	l.more(t, 300)
	// One that dies takes nothing with it: what it had not answered goes elsewhere.
	origins[1].srv.Close()
	l.more(t, 500)
	l.stop()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, such as %s", len(l.failed), l.sent.Load(), l.failed[0])
	}
	t.Logf("%d requests", l.sent.Load())
}

func TestApply(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	o := serve(t, "web")
	entry := func(node string, change ...func(*balancer.Entry)) balancer.Entry {
		return up(node, append([]func(*balancer.Entry){on(o, port)}, change...)...)
	}
	of := func(entries ...balancer.Entry) *balancer.Plan { return plan(t, local(key("API_URL", entries...))) }
	backend := fmt.Sprintf("local-%d", port)
	at6 := func(e *balancer.Entry) { at("http://", "::1", 9999)(e) }
	x := start(t, of(entry("a")))
	addr := fmt.Sprintf("127.0.0.1:%d", o.port)
	for _, tc := range []struct {
		name    string
		plan    *balancer.Plan
		want    map[string]string
		changes int
	}{
		{"the same", of(entry("a")), map[string]string{"us::a::api": addr + " 100 0"}, 0},
		{"joins", of(entry("a"), entry("b"), entry("c", in("eu"))), map[string]string{
			"us::a::api": addr + " 100 0", "us::b::api": addr + " 100 0", "eu::c::api": addr + " 100 0",
		}, 6},
		{"drains", of(entry("a", is(store.Draining)), entry("b", weight(256)), entry("c", in("eu"))), map[string]string{
			"us::a::api": addr + " 0 0", "us::b::api": addr + " 256 0", "eu::c::api": addr + " 100 0",
		}, 2},
		{"moves", of(entry("b", at6), entry("c", in("eu"))), map[string]string{
			"us::b::api": "::1:9999 100 0", "eu::c::api": addr + " 100 0",
		}, 4},
		{"back", of(entry("a"), entry("b"), entry("c", in("eu"))), map[string]string{
			"us::a::api": addr + " 100 0", "us::b::api": addr + " 100 0", "eu::c::api": addr + " 100 0",
		}, 4},
		{"leave", of(entry("a")), map[string]string{"us::a::api": addr + " 100 0"}, 4},
	} {
		res := x.applied(tc.plan)
		if res.Changes != tc.changes || len(res.Pending) > 0 {
			t.Errorf("%s: %d changes, %v pending, want %d and none", tc.name, res.Changes, res.Pending, tc.changes)
		}
		if d := cmp.Diff(tc.want, x.servers(backend)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}

	reload := func(what string, p *balancer.Plan, want string) {
		t.Helper()
		if res := x.apply(p); !strings.Contains(res.Reload, want) {
			t.Errorf("%s: %q, want %q", what, res.Reload, want)
		}
		x.reload(p)
	}
	reload("active becomes backup", of(entry("a", priority(5)), entry("b")), "changes between active and backup")
	name := at("http://", "localhost", o.port)
	reload("a name", of(entry("a", name, priority(5)), entry("b")), "is a name")
	reload("a new name", of(entry("a", name, priority(5)), entry("b"), entry("c", at("http://", "localhost", 1))), "is a name")
	reload("another balance", of(entry("a", balance(store.LeastConn))), "balances by leastconn now")
	reload("a ring", of(entry("a", balance(store.Hash))), "balances by hash now")
	x.applied(of(entry("a", balance(store.Hash)), entry("b", balance(store.Hash))))
	reload("another port", of(entry("a", localPort(freePort(t)))), "is new")
	reload("nothing", of(), "is gone")
	if res := x.runtime.Apply(t.Context(), nil, of()); !strings.Contains(res.Reload, "not known") {
		t.Errorf("without an old plan: %q", res.Reload)
	}
}

// TestManyJoin: 100 providers at once need no reload.
func TestManyJoin(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	o := serve(t, "web")
	var entries []balancer.Entry
	for i := range 100 {
		entries = append(entries, up(fmt.Sprintf("web%d", i), on(o, port)))
	}
	x := start(t, plan(t, local(key("API_URL", entries[:1]...))))
	all := plan(t, local(key("API_URL", entries...)))
	if res := x.applied(all); res.Changes != 3*99 {
		t.Errorf("%d changes, want 3 for each of 99 servers", res.Changes)
	}
	if got := x.servers(fmt.Sprintf("local-%d", port)); len(got) != 100 {
		t.Errorf("%d servers, want 100", len(got))
	}
}

// TestOtherState: HAProxy does not do what it was told last.
func TestOtherState(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	o := serve(t, "web")
	of := func(nodes ...string) *balancer.Plan {
		var entries []balancer.Entry
		for _, n := range nodes {
			entries = append(entries, up(n, on(o, port)))
		}
		return plan(t, local(key("API_URL", entries...)))
	}
	x := start(t, of("a"))
	backend := fmt.Sprintf("local-%d", port)

	x.reload(of("a", "b"))
	x.plan = of("a") // it was restarted with a newer file meanwhile, and we do not know
	if res := x.apply(of("a", "b")); !strings.Contains(res.Reload, "it is not known how server us::b::api got there") {
		t.Errorf("a server from elsewhere: %q", res.Reload)
	}
	x.plan = of("a", "b")

	// Repaired: what somebody took out, put in or changed, but not a server in maintenance.
	x.ask("set server " + backend + "/us::a::api weight 3")
	x.ask("set server " + backend + "/us::b::api state maint")
	x.ask("del server " + backend + "/us::b::api")
	x.ask("add server " + backend + "/odd 127.0.0.1:1")
	x.ask("enable server " + backend + "/odd")
	x.applied(of("a", "b"))
	addr := fmt.Sprintf("127.0.0.1:%d", o.port)
	if d := cmp.Diff(map[string]string{"us::a::api": addr + " 100 0", "us::b::api": addr + " 100 0"}, x.servers(backend)); d != "" {
		t.Errorf("repaired (-want +got):\n%s", d)
	}
	x.ask("set server " + backend + "/us::a::api state maint")
	x.applied(of("a", "b"))
	if got := x.servers(backend)["us::a::api"]; got != addr+" 100 1" {
		t.Errorf("what an operator took out is %q", got)
	}

	// The file of somebody else.
	other := x.haproxy
	x.haproxy.Check = time.Second
	x.reload(of("a", "b"))
	x.haproxy = other
	if res := x.apply(of("a")); !strings.Contains(res.Reload, "runs another configuration") {
		t.Errorf("another configuration: %q", res.Reload)
	}
}

// TestPending: a server that still has a connection is deleted when it ends.
func TestPending(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := serve(t, "a"), serve(t, "b")
	both := plan(t, local(key("API_URL", up("a", on(a, port)), up("b", on(b, port), weight(0)))))
	one := plan(t, local(key("API_URL", up("b", on(b, port)))))
	x := start(t, both)
	hold := func() func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/hold", port))
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			a.release <- struct{}{}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	end := hold()
	name := fmt.Sprintf("local-%d/us::a::api", port)
	if res := x.applied(one); len(res.Pending) != 1 || res.Pending[0] != name {
		t.Errorf("pending: %v", res.Pending)
	}
	// Back before it is gone: the same server goes on.
	if res := x.applied(both); len(res.Pending) != 0 {
		t.Errorf("pending after its return: %v", res.Pending)
	}
	if res := x.applied(one); len(res.Pending) != 1 {
		t.Errorf("pending: %v", res.Pending)
	}
	if left, err := x.runtime.Sweep(t.Context()); left != 1 || err != nil {
		t.Errorf("swept with a connection: %d left, %v", left, err)
	}
	end()
	eventually(t, "swept", func() bool {
		left, err := x.runtime.Sweep(t.Context())
		return left == 0 && err == nil
	})
	if got := x.servers(fmt.Sprintf("local-%d", port)); len(got) != 1 {
		t.Errorf("servers after the sweep: %v", got)
	}
	// A reload forgets what was pending.
	x.applied(both)
	defer hold()()
	x.applied(one)
	x.reload(one)
	if left, err := x.runtime.Sweep(t.Context()); left != 0 || err != nil {
		t.Errorf("swept after a reload: %d left, %v", left, err)
	}
}

// TestBadSocket: whatever answers, it ends in time and asks for a reload.
func TestBadSocket(t *testing.T) {
	t.Parallel()
	old := plan(t, local(key("API_URL", up("a"))))
	next := plan(t, local(key("API_URL", up("a"), up("b"))))
	for _, tc := range []struct {
		name    string
		answers []string // to each line; the last one again and again
		want    string
	}{
		{"hangs", nil, "i/o timeout"},
		{"hangs later", []string{"\n> ", "Pid"}, "i/o timeout"},
		{"says nothing", []string{"\n> "}, "does not answer like HAProxy"},
		{"closes", []string{""}, "EOF"},
		{"another program", []string{"220 mail\r\n"}, "i/o timeout"},
		{"garbage", []string{"\n> ", "\x00\xff\n\n> "}, "does not answer like HAProxy"},
		{"another HAProxy", []string{"\n> ", "Pid: 1\n\n> "}, "runs another configuration"},
		{"no end", []string{"\n> ", strings.Repeat("x", 1<<16)}, "i/o timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := balancer.HAProxy{Socket: fake(t, tc.answers)}
			res := balancer.NewRuntime(h, 300*time.Millisecond).Apply(t.Context(), old, next)
			if !strings.Contains(res.Reload, tc.want) {
				t.Errorf("reload %q, want %q", res.Reload, tc.want)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		r := balancer.NewRuntime(balancer.HAProxy{Socket: filepath.Join(t.TempDir(), "none")}, 0)
		if res := r.Apply(t.Context(), old, next); !strings.Contains(res.Reload, "no such file") {
			t.Errorf("reload %q", res.Reload)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		socket := fake(t, nil)
		time.AfterFunc(20*time.Millisecond, cancel)
		r := balancer.NewRuntime(balancer.HAProxy{Socket: socket}, time.Hour)
		if res := r.Apply(ctx, old, next); res.Reload == "" {
			t.Error("done, with nobody who answered")
		}
	})
}

// fake listens on a socket and answers lines.
func fake(t *testing.T, answers []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 4096)
		for i := 0; ; i++ {
			if n, err := conn.Read(buf); n == 0 || err != nil {
				return
			}
			if len(answers) == 0 {
				continue
			}
			a := answers[min(i, len(answers)-1)]
			if _, err := io.WriteString(conn, a); err != nil || a == "" {
				return
			}
		}
	}()
	return path
}
