package etcd_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/fleettest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// unchanged returns a check that no file changed and no run began since.
func (a *agent) unchanged() func(when string) {
	env, runs := a.env(), a.runs()
	return func(when string) {
		a.t.Helper()
		if got, n := a.env(), a.runs(); got != env || n != runs {
			a.t.Errorf("%s: %d runs, was %d; the file is\n%s\nand was\n%s", when, n, runs, got, env)
		}
	}
}

// behindLink is an agent with a link to an etcd that can be cut, settled on
// URL=one.
func behindLink(t *testing.T) (a *agent, s *server, link *proxy, operator *clientv3.Client) {
	t.Helper()
	s = newProcess(t)
	link = newProxy(t, s.client)
	operator = s.bare(t)
	putURL(t, operator, "one")
	a = newAgent(t, "", "--store", "etcd://"+strings.TrimPrefix(link.url(), "http://"))
	a.hasURL("one")
	a.synced()
	return a, s, link, operator
}

// An outage of any kind and length changes nothing; the newest value is acted
// on when it is over.
func TestAgentOutages(t *testing.T) {
	t.Parallel()
	a, s, link, operator := behindLink(t)
	unchanged := a.unchanged()
	for name, fault := range map[string]struct{ begin, end func() }{
		"link cut":   {func() { link.Cut(t) }, func() { link.Heal(t) }},
		"black hole": {func() { link.Swallow(t) }, func() { link.Heal(t) }},
		"kill -9":    {s.kill, func() { s.start(t) }},
	} {
		fault.begin()
		a.condition("store unreachable", "unavailable")
		time.Sleep(3 * time.Second) // some attempts long
		unchanged(name)
		fault.end()
		a.synced()
		unchanged("after: " + name)
	}
	link.Swallow(t)
	a.condition("store unreachable")
	putURL(t, operator, "two")
	link.Heal(t)
	began := time.Now()
	a.hasURL("two")
	within(t, "acting on the newest value after a black hole", time.Since(began), 10*time.Second)
}

// A network that loses all that is sent, for longer than it takes to notice:
// nothing is left over from that when it is back.
func TestAgentBlackHole(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	operator := s.bare(t)
	link := fleettest.NewLink(t, s.client)
	putURL(t, operator, "one")
	a := newAgentAt(t, link.Start, "", "--store", "etcd://"+link.Address)
	a.hasURL("one")
	a.synced()
	unchanged := a.unchanged()
	link.Cut()
	putURL(t, operator, "two")
	a.condition("store unreachable", "unavailable")
	time.Sleep(5 * time.Second) // some attempts long
	unchanged("a black hole")
	link.Heal()
	began := time.Now()
	a.hasURL("two")
	within(t, "acting on the newest value after a black hole", time.Since(began), 10*time.Second)
	a.synced()
}

// replica = "all": what no service names is there while the store is away.
func TestAgentFollowsAll(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	operator := s.bare(t)
	putURL(t, operator, "one")
	_, err := operator.Put(t.Context(), strings.Replace(urlKey, "URL", "LATER", 1), "later")
	must(t, err)
	a := newAgent(t, "[store]\nreplica = \"all\"\n", "--store", "etcd://"+s.client)
	a.hasURL("one")
	a.synced()
	s.kill()
	a.condition("store unreachable")
	if got := a.cli("get", "LATER"); !strings.HasPrefix(got, "later\n") {
		t.Errorf("get: %q", got)
	}
	s.start(t)
	a.synced()
	putURL(t, operator, "two")
	a.hasURL("two")
}

// An older backup is restored: what the agent has stays, until a new value is
// written or somebody accepts.
func TestAgentRestored(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"older":  nil,
		"bumped": {"--bump-revision", "1000", "--mark-compacted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, s, _, operator := behindLink(t)
			restore := s.backup(t)
			putURL(t, operator, "two")
			a.hasURL("two")
			a.synced()
			unchanged := a.unchanged()
			restore(t, flags...)
			a.condition("store regression", "URL")
			unchanged("after an older backup was restored")
			putURL(t, operator, "three")
			began := time.Now()
			a.hasURL("three")
			within(t, "acting on a new value", time.Since(began), 35*time.Second)
			a.synced()
		})
	}
}

// The store was wiped, and other keys were written until it was further than
// before: that is no delete.
func TestAgentWipedAhead(t *testing.T) {
	t.Parallel()
	a, s, link, operator := behindLink(t)
	unchanged := a.unchanged()
	link.Cut(t)
	s.kill()
	s.wipe(t)
	for range 20 {
		_, err := operator.Put(t.Context(), "/listener/v1/default/values/OTHER", "1")
		must(t, err)
	}
	link.Heal(t)
	a.condition("store regression", "URL")
	unchanged("after the store was wiped and written to")
	putURL(t, operator, "two")
	began := time.Now()
	a.hasURL("two")
	within(t, "acting on a new value", time.Since(began), 35*time.Second)
	a.synced()
}

// A delete takes effect, at once and after an outage in which it happened.
func TestAgentDelete(t *testing.T) {
	t.Parallel()
	a, _, link, operator := behindLink(t)
	a.write("service/web.json", `{"id": "web", "requires": {"URL": "{URL:-none}"}}`, 0o644)
	a.cli("reload")
	_, err := operator.Delete(t.Context(), urlKey)
	must(t, err)
	a.hasURL("none")
	putURL(t, operator, "two")
	a.hasURL("two")
	a.synced()
	link.Cut(t)
	a.condition("store unreachable")
	_, err = operator.Delete(t.Context(), urlKey)
	must(t, err)
	compact(t, operator) // the history has no word of it any more
	link.Heal(t)
	a.hasURL("none")
	a.synced()
}

// While the agent is stopped the value changes, and history is compacted.
func TestAgentStoppedWhileCompacted(t *testing.T) {
	t.Parallel()
	a, _, _, operator := behindLink(t)
	a.stop()
	for _, v := range []string{"two", "three"} {
		putURL(t, operator, v)
	}
	compact(t, operator)
	runs := a.runs()
	a.start()
	a.hasURL("three")
	a.synced()
	if n := a.runs(); n != runs+1 {
		t.Errorf("%d runs for what changed meanwhile", n-runs)
	}
}

// Nobody is there at the start: told at once, and ended by the server's start.
func TestAgentOutageAtStart(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	putURL(t, s.bare(t), "one")
	s.stop()
	if _, err := binary(); err != nil { // not part of what is measured
		t.Fatal(err)
	}
	began := time.Now()
	a := newAgent(t, "", "--store", "etcd://"+s.client)
	a.condition("store unreachable", "refused")
	within(t, "the condition", time.Since(began), 2*time.Second)
	if log, _ := os.ReadFile(a.path("log")); !strings.Contains(string(log), "refused") {
		t.Errorf("the log has no word of it:\n%s", log)
	}
	s.start(t)
	a.hasURL("one")
	a.synced()
}

// A full store cannot be written to; what is in it serves.
func TestAgentFullStore(t *testing.T) {
	t.Parallel()
	s := newProcess(t, "--quota-backend-bytes", "4000000")
	operator := s.bare(t)
	putURL(t, operator, "one")
	a := newAgent(t, "", "--store", "etcd://"+s.client)
	a.hasURL("one")
	a.synced()
	unchanged := a.unchanged()
	until(t, "a full store", func() bool {
		_, err := operator.Put(t.Context(), "/big", strings.Repeat("x", 1_000_000))
		return err != nil
	})
	a.stop()
	a.start()
	a.condition("publish failing", "defragment")
	unchanged("with a full store")
	if out := a.cliFails("put", "URL", "two"); !strings.Contains(out, "defragment") {
		t.Errorf("put to a full store: %s", out)
	}
	unchanged("after a put that failed")
}
