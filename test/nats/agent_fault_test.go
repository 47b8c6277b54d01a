package nats_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/fleettest"
	"github.com/listener-agent/listener/store"
)

var space = store.Space{Prefix: "/listener/v1", Federation: "default"}

// write puts a value past the agent.
func (n *node) write(s store.Store, key, value string) {
	n.t.Helper()
	eventually(n.t, "a write", func() error {
		_, err := s.Commit(n.t.Context(), nil, store.Put(space.Value("", key), []byte(value)))
		return err
	})
}

// rendered is everything about the files that the agent writes for others
// that could tell whether one was touched.
func (n *node) rendered() string {
	n.t.Helper()
	entries, err := os.ReadDir(n.path("env"))
	must(n.t, err)
	var all []string
	for _, e := range entries {
		info, err := e.Info()
		must(n.t, err)
		data, err := os.ReadFile(n.path("env/" + e.Name()))
		must(n.t, err)
		all = append(all, fmt.Sprint(e.Name(), info.Mode(), info.ModTime(), info.Sys().(*syscall.Stat_t).Ino, string(data)))
	}
	return strings.Join(all, "\n")
}

// untouched makes sure that nothing happens while do runs.
func (n *node) untouched(what string, do func()) {
	n.t.Helper()
	files, runs := n.rendered(), n.runs()
	do()
	if now := n.rendered(); now != files {
		n.t.Errorf("%s changed what is rendered, from\n%s\nto\n%s", what, files, now)
	}
	if now := n.runs(); !slices.Equal(now, runs) {
		n.t.Errorf("%s made runs: %q", what, now[len(runs):])
	}
}

// However the store goes away, the agent says so, touches nothing, and acts on
// the newest value when it is back.
func TestAgentOutages(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	p := startProxy(t, s.addr())
	operator := openStore(t, options(s.url()))
	n := newNode(t, p.url(), "")
	n.start()
	n.write(operator, "DATABASE_URL", "db0")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "URL='db0'")
	for i, fault := range []struct {
		what       string
		make, mend func()
	}{
		{"a crash of the server", s.kill, func() { s.start(t) }},
		{"a stopped server", func() { s.signal(syscall.SIGSTOP) }, func() { s.signal(syscall.SIGCONT) }},
		{"a black hole", func() { p.set(black) }, func() { p.set(open) }},
		{"a cut link", func() { p.set(cut) }, func() { p.set(open) }},
	} {
		n.untouched(fault.what, func() {
			fault.make()
			if text := n.says("store unreachable"); !strings.Contains(text, "stays in force") {
				t.Errorf("%s: the condition says %s", fault.what, text)
			}
			fault.mend()
			n.saysNot("store unreachable")
		})
		n.write(operator, "DATABASE_URL", fmt.Sprintf("db%d", i+1))
		n.ran(i+2, fmt.Sprintf("URL='db%d'", i+1))
	}

	// The agent crashes while the store is away, and starts again.
	runs := len(n.runs())
	n.untouched("a crash of the agent while the store is away", func() {
		p.set(cut)
		n.says("store unreachable")
		n.crash()
		n.start()
		n.says("replica serves")
	})
	n.write(operator, "DATABASE_URL", "while it was away")
	p.set(open)
	n.ran(runs+1, "URL='while it was away'")
	n.saysNot("replica serves")
}

// A network that loses all that is sent, for longer than it takes to notice:
// nothing is left over from that when it is back.
func TestAgentBlackHole(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	link := fleettest.NewLink(t, s.addr())
	operator := openStore(t, options(s.url()))
	n := newNode(t, "nats://"+link.Address, "")
	n.launch = link.Start
	n.start()
	n.write(operator, "DATABASE_URL", "db0")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "URL='db0'")
	n.untouched("a black hole", func() {
		link.Cut()
		n.write(operator, "DATABASE_URL", "db1")
		n.says("store unreachable")
		time.Sleep(5 * time.Second) // some attempts long
	})
	link.Heal()
	began := time.Now()
	n.ran(2, "URL='db1'")
	t.Logf("acting on the newest value after a black hole: %v, figure 10 s", time.Since(began).Round(time.Millisecond))
	n.saysNot("store unreachable")
}

// replica = "all": what no service names is there while the store is away.
func TestAgentFollowsAll(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	operator := openStore(t, options(s.url()))
	n := newNode(t, s.url(), "")
	n.args = append(n.args, "--set", "store.replica=all")
	n.start()
	n.write(operator, "LATER", "later")
	n.write(operator, "DATABASE_URL", "db0")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "URL='db0'")
	s.kill()
	n.says("store unreachable")
	if got, err := n.run("get", "LATER"); err != nil || !strings.HasPrefix(got, "later\n") {
		t.Errorf("get: %q, %v", got, err)
	}
	s.start(t)
	n.saysNot("store unreachable")
	n.write(operator, "DATABASE_URL", "db1")
	n.ran(2, "URL='db1'")
}

// An older copy of the store's data is put in place, with and without the
// agent looking on.
func TestAgentSetBack(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	operator := openStore(t, options(s.url()))
	n := newNode(t, s.url(), "")
	n.start()
	n.write(operator, "DATABASE_URL", "old")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "URL='old'")
	setBack := s.snapshot(t)
	n.write(operator, "DATABASE_URL", "new")
	n.ran(2, "URL='new'")
	n.untouched("an older state", func() {
		setBack(t)
		if text := n.says("store regression"); !strings.Contains(text, "DATABASE_URL") {
			t.Errorf("the condition says %s", text)
		}
	})
	began := time.Now()
	n.write(operator, "DATABASE_URL", "newest")
	n.ran(3, "URL='newest'")
	within(t, "acted on a new value", began, 35*time.Second)
	n.saysNot("store regression")

	n.untouched("an older state while the agent was down", func() {
		n.stop()
		setBack(t)
		n.start()
		n.says("store regression")
	})
	n.must("accept")
	n.saysNot("store regression")
	n.ran(4, "URL='old'")
}

// Another bucket is in place, or the same one was emptied, without the agent
// looking on, and it has come further than the agent had seen.
func TestAgentOtherBucket(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	p := startProxy(t, s.addr())
	operator := openStore(t, options(s.url()))
	n := newNode(t, p.url(), "")
	n.start()
	n.write(operator, "DATABASE_URL", "db")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "URL='db'")
	stream, err := jetStream(t, s).Stream(t.Context(), "KV_listener")
	must(t, err)
	for i, fault := range []struct {
		what string
		make func()
	}{
		{"a bucket that was emptied", func() { must(t, stream.Purge(t.Context())) }},
		{"a wiped server", func() { s.wipe(t) }},
	} {
		n.untouched(fault.what, func() {
			p.set(cut)
			n.says("store unreachable")
			fault.make()
			for range 20 {
				n.write(operator, "UNUSED", "x")
			}
			p.set(open)
			n.says("store regression")
		})
		n.write(operator, "OTHER_URL", fmt.Sprint("o", i))
		n.ran(i+2, fmt.Sprintf("OTHER='o%d'", i))
		if all := n.runs(); !strings.Contains(all[i+1], "URL='db'") {
			t.Errorf("the last run: %q", all[i+1])
		}
		n.write(operator, "DATABASE_URL", "db")
		n.saysNot("store regression")
	}
}

// Somebody deletes a value and means it.
func TestAgentDelete(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	operator := openStore(t, options(s.url()))
	n := newNode(t, s.url(), "")
	n.start()
	n.write(operator, "EXTRA", "there") // first: the service goes ahead without it
	n.write(operator, "DATABASE_URL", "db")
	n.write(operator, "OTHER_URL", "o")
	n.ran(1, "EXTRA='there'")
	commit(t, operator, nil, store.Delete(space.Value("", "EXTRA")))
	n.ran(2, "URL='db'")
	if all := n.runs(); strings.Contains(all[1], "EXTRA") {
		t.Errorf("the second run: %s", all[1])
	}
	n.write(operator, "EXTRA", "again")
	n.ran(3, "EXTRA='again'")

	// While the store is away for the agent alone.
	n.stop()
	commit(t, operator, nil, store.Delete(space.Value("", "EXTRA")))
	n.start()
	n.ran(4, "URL='db'")
	n.saysNot("store regression")
}

// An outage at the start: status and log say so, and the agent goes on trying.
func TestAgentStartsWithoutStore(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"nobody listens": false, "nobody answers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, "")
			operator := openStore(t, options(s.url()))
			answers(t, operator)
			p := startProxy(t, s.addr())
			p.set(cut)
			if silent {
				p.set(black)
			}
			n := newNode(t, p.url(), "")
			n.start()
			began := time.Now()
			text := n.says("store unreachable")
			within(t, "status said so", began, 2*time.Second)
			if !strings.Contains(text, p.listener.Addr().(*net.TCPAddr).String()) {
				t.Errorf("the condition says %s", text)
			}
			eventually(t, "the log says so", func() error {
				if log, _ := os.ReadFile(n.path("log")); !strings.Contains(string(log), "unavailable") {
					return fmt.Errorf("%s", log)
				}
				return nil
			})
			within(t, "the log said so", began, 2*time.Second)
			n.write(operator, "DATABASE_URL", "db")
			n.write(operator, "OTHER_URL", "o")
			p.set(open)
			n.ran(1, "URL='db'")
		})
	}
}
