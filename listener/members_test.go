package listener

import (
	"fmt"
	"testing"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

func (p *provider) garble() {
	p.t.Helper()
	if _, err := p.store.Commit(p.t.Context(), nil, store.PutSession(p.key(), []byte(`{"state":"future","value":"x"}`), p.session)); err != nil {
		p.t.Fatal(err)
	}
}

// The value that stays in use leads through the balancer, so that has to keep
// the provider, too.
func TestTheBalancerKeepsAProviderWhoseEntryCannotBeRead(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle.Settle, n.cfg.Throttle.SettleMax = 100*time.Millisecond, time.Second // server puts an entry twice
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		a := n.server("a", "10.0.0.7:80")
		n.up()
		n.wantEnv("http://127.0.0.1:9000/api")
		n.wantServers("10.0.0.7:80", 1)
		a.garble()
		n.wantEnv("http://127.0.0.1:9000/api")
		n.wantServers("10.0.0.7:80", 1)
		b := n.server("b", "10.0.0.8:80")
		n.wantServers("10.0.0.8:80", 2)
		b.says(store.Left)
		n.wantServers("10.0.0.7:80", 3)
		n.wantSteps("node")
	})
}

func TestTheEndOfAnEntryThatCannotBeReadIsNoWithdrawal(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		a.garble()
		a.dies()
		time.Sleep(time.Hour)
		n.wantEnv("http://a")
		n.wantConditions("degraded K")
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		n.wantEnv("http://a")
		n.wantConditions("degraded K")
		if acc, err := n.agent.Accept(t.Context(), "K"); err != nil || len(acc.Changed) != 1 {
			t.Fatal(acc, err)
		}
		n.wantEnv("fallback")
	})
}

func TestAcceptTakesAnEntryThatCannotBeReadAsGone(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		a.garble()
		n.wantEnv("http://a")
		if acc, err := n.agent.Accept(t.Context(), "K"); err != nil || len(acc.Changed) != 1 {
			t.Fatal(acc, err)
		}
		n.wantEnv("fallback")
		n.wantConditions("bad provider K")
	})
}

// What is accepted is the absence of those that are away now, not of those
// that serve; and it is so after a restart.
func TestAcceptIsForThoseThatAreAway(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", `{"id": "app", "requires": {"V_K": "{api/K}"}}`)
		n.manifest("any", requires("any", "", "K"))
		a := n.provider("default", "a", "http://a")
		other := n.provider("default", "b", "http://b")
		other.service = "other"
		other.says(store.Up)
		gone := n.provider("default", "b", "http://b")
		gone.says(store.Left)
		n.up()
		n.wantEnv("http://a")
		a.says(store.Down)
		n.wantEnv("http://a")
		n.wantConditions("degraded K")
		if acc, err := n.agent.Accept(t.Context(), "K"); err != nil || len(acc.Changed) != 1 {
			t.Fatal(acc, err)
		}
		n.wantConditions("missing K")
		n.stop()
		n.up()
		time.Sleep(time.Minute)
		n.wantConditions("missing K")
		other.dies() // it served, and nobody said that it is meant to be gone
		time.Sleep(time.Hour)
		n.wantConditions("degraded K", "missing K")
	})
}

// An entry of a backup that expires is no write: what is held stays.
func TestAHoldOutlivesTheEntriesOfTheBackup(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", `{"id": "app", "requires": {"V_K": "{K[]}"}}`)
		a := n.provider("default", "a", "a1")
		n.provider("default", "b", "b")
		z := n.provider("default", "z", "z")
		n.up()
		n.wantEnv("a1,b,z")
		back := m.Snapshot()
		z.says(store.Left)
		n.wantEnv("a1,b")
		a.entry.Value = "a2"
		a.says(store.Up)
		n.wantEnv("a2,b")
		n.wantSteps("node", "node", "node")
		a.dies()
		z.dies()
		back()
		time.Sleep(5 * time.Second) // this node publishes again
		n.wantEnv("a2,b")
		n.wantConditions("store regression")
		time.Sleep(5 * time.Minute) // the sessions of the backup end
		n.wantEnv("a2,b")
		n.wantConditions("store regression")
		n.stop()
		n.up()
		n.wantEnv("a2,b")
		n.wantConditions("store regression")
		n.provider("default", "a", "a2") // it publishes again
		n.wantEnv("a2,b")
		n.wantConditions()
		n.wantSteps("node", "node", "node")
	})
}

// What the store had again for a while, and has not any more, is held no more.
func TestAHoldOnWhatIsAbsentEndsWithIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.manifest("other", requires("other", "", "L"))
		n.put("K", "one")
		n.put("L", "l")
		n.up()
		n.wantEnv("one")
		back := m.Snapshot()
		n.del("L")
		n.wantConditions("missing L")
		back()
		time.Sleep(5 * time.Second) // this node publishes again
		n.wantConditions("degraded L", "store regression")
		m.Cut()
		other := newNode(t, m.Dial())
		other.del("L")
		m.Heal()
		time.Sleep(time.Minute)
		n.wantConditions("missing L")
	})
}

// Who accepts a key that is held need not say so twice.
func TestAcceptOfAKeyThatIsHeldIsAll(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", `{"id": "app", "requires": {"V_K": "{K[]}"}}`)
		for _, name := range []string{"a", "b", "c", "d"} {
			n.provider("default", name, name)
		}
		n.up()
		n.wantEnv("a,b,c,d")
		m.ExpireSessions()
		time.Sleep(5 * time.Second)
		n.wantEnv("a,b,c,d")
		n.wantConditions("providers held")
		if acc, err := n.agent.Accept(t.Context(), "K"); err != nil || len(acc.Changed) != 1 {
			t.Fatal(acc, err)
		}
		n.wantEnv("fallback")
		n.wantConditions()
		n.stop()
		n.up()
		n.wantEnv("fallback")
		n.wantSteps("node", "node")
	})
}

// A region is preferred again when somebody in it is up for long enough, not
// when all that are left of it are held.
func TestAListDoesNotMoveToProvidersThatAreHeld(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Region, n.cfg.RegionOrder = "us", []string{"eu"}
		n.manifest("app", `{"id": "app", "requires": {"V_K": "{K[]}"}}`)
		n.provider("eu", "e", "eu")
		n.up()
		n.wantEnv("eu")
		var all []*provider
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			all = append(all, n.provider("us", name, name))
		}
		n.wantEnv("eu")
		for _, p := range all {
			p.dies()
		}
		time.Sleep(time.Minute)
		n.wantConditions("providers held")
		n.wantEnv("eu")
		n.wantSteps("node")
	})
}

// That a provider is not the last one of its key is known after a restart, too.
func TestWhoWasNotTheLastIsNotAfterARestart(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		b := n.provider("default", "b", "http://b")
		a.dies()
		time.Sleep(21 * time.Second)
		n.wantEnv("http://b")
		b.says(store.Left)
		n.wantConditions("missing K")
		n.stop()
		n.up()
		n.wantEnv("http://b")
		n.wantConditions("missing K")
		n.wantSteps("node", "node")
	})
}

// Two that come and go are two, however often they went within the window.
func TestProvidersThatFlapAreNotMany(t *testing.T) {
	space, now := store.Space{Prefix: "/p", Federation: "f"}, time.Now()
	v := newView(space, "r", config.Default().Protect, now)
	entry := store.Provider{Value: "x", Weight: 100, State: store.Up}.Encode()
	kv := func(node string, rev uint64) store.KV {
		return store.KV{Key: space.Provider("K", "r", node, "api"), Value: entry, Rev: rev}
	}
	for i := range 9 {
		v.apply(store.Update{Kind: store.Change, Rev: uint64(i + 1), KVs: []store.KV{kv(fmt.Sprint("n", i), uint64(i+1))}}, nil, now)
	}
	for i := range 6 {
		now = now.Add(5 * time.Second)
		rev := uint64(10 + 2*i)
		gone := func(node string) store.Gone { return store.Gone{Key: kv(node, 0).Key, Rev: rev, Expired: true} }
		v.apply(store.Update{Kind: store.Change, Rev: rev, Gone: []store.Gone{gone("n0"), gone("n1")}}, nil, now)
		if keys, n := v.keptMembers(); n > 0 {
			t.Fatalf("two of 9 providers expired for the %dth time: %v are held", i+1, keys)
		}
		v.apply(store.Update{Kind: store.Change, Rev: rev + 1, KVs: []store.KV{kv("n0", rev+1), kv("n1", rev+1)}}, nil, now)
	}
}
