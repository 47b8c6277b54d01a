package listener

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// provider is another node of the test that offers K.
type provider struct {
	*node
	region, name string
	service      string
	session      store.Session
	entry        store.Provider
}

// provider publishes value under K as a service of another node.
func (n *node) provider(region, name, value string) *provider {
	n.t.Helper()
	return n.unpublished(region, name, value).says(store.Up)
}

// unpublished is one that has said nothing yet.
func (n *node) unpublished(region, name, value string) *provider {
	n.t.Helper()
	p := &provider{node: n, region: region, name: name, service: "api", entry: store.Provider{Value: value, Weight: 100}}
	var err error
	if p.session, err = n.store.Session(n.t.Context(), 10*time.Second, ""); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(p.session.Orphan) // or it refreshes for ever
	return p
}

func (p *provider) key() string {
	return store.Space{Prefix: p.cfg.Store.Prefix, Federation: "default"}.Provider("K", p.region, p.name, p.service)
}

// says publishes a state; "left" is not bound to the session.
func (p *provider) says(s store.State) *provider {
	p.t.Helper()
	p.entry.State = s
	op := store.PutSession(p.key(), p.entry.Encode(), p.session)
	if s == store.Left {
		op = store.Put(p.key(), p.entry.Encode())
	}
	if _, err := p.store.Commit(p.t.Context(), nil, op); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// dies lets the session expire.
func (p *provider) dies() {
	p.session.Orphan()
}

func (n *node) wantEnv(want string) {
	n.t.Helper()
	time.Sleep(time.Second)
	if got := strings.TrimSpace(n.env("app")); got != "export V_K='"+want+"'" {
		n.t.Errorf("environment %q, want V_K %q", got, want)
	}
}

func TestAProviderComesAndTheServiceIsProvisioned(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.up()
		n.wantSteps()
		n.wantConditions("waiting K")
		a := n.provider("default", "a", "http://a")
		n.wantEnv("http://a")
		n.wantSteps("node")
		n.wantConditions()
		a.entry.Value = "http://a2"
		a.says(store.Up)
		n.wantEnv("http://a2")
		n.wantSteps("node", "node")
	})
}

// wantText checks what the text of the one condition has in it.
func (n *node) wantText(want string) {
	n.t.Helper()
	if all := n.status().Conditions; len(all) != 1 || !strings.Contains(all[0].Text, want) {
		n.t.Errorf("conditions %+v, not %q", all, want)
	}
}

// What happened last is why nothing is there.
func TestMissingSaysWhatHappenedLast(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.put("K", "an operator's")
		a := n.provider("default", "a", "http://a")
		n.up()
		n.del("K")
		n.wantEnv("http://a")
		a.says(store.Left)
		n.wantConditions("missing K")
		n.wantText("every provider of K was withdrawn; app keeps its last good values")
		n.put("K", "another")
		n.wantEnv("another")
		n.del("K")
		n.wantConditions("missing K")
		n.wantText("K deleted at revision ")
	})
}

func TestADeadProviderLeavesItsLastGoodValueAndAWithdrawnOneDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		for away, why := range map[store.State]string{store.Down: "is down", store.Draining: "drains", store.Standby: "stands by"} {
			a.says(away)
			n.wantEnv("http://a")
			n.wantConditions("degraded K")
			n.wantText(" old: a/api " + why)
		}
		a.says(store.Up)
		n.wantConditions()
		a.dies()
		time.Sleep(time.Hour)
		n.wantEnv("http://a")
		n.wantConditions("degraded K")
		n.wantText("K is last known good, 1 h old: a/api expired")
		n.wantWhy("K", "a/api expired")
		n.stop()
		n.up() // the replica remembers that it expired
		time.Sleep(time.Hour)
		n.wantConditions("degraded K")
		n.wantSteps("node")

		b := n.provider("default", "b", "http://b")
		n.wantEnv("http://b")
		n.wantConditions()
		n.wantSteps("node", "node")
		b.says(store.Left)
		n.wantEnv("fallback")
		n.wantConditions()
		n.wantSteps("node", "node", "node")
		if err := os.WriteFile(n.cfg.Attributes[0], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		n.reload()
		n.wantConditions("missing K")
		n.wantEnv("fallback")
	})
}

func TestAcceptLetsAnExpiredProviderGo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		a.dies()
		time.Sleep(time.Hour)
		n.wantConditions("degraded K")
		if acc, err := n.agent.Accept(t.Context(), "K"); err != nil || len(acc.Changed) != 1 {
			t.Fatal(acc, err)
		}
		n.wantEnv("fallback")
		n.wantConditions()
	})
}

func TestTheProviderInUseStaysAlsoAcrossARestart(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.up()
		a := n.provider("default", "a", "http://a")
		n.wantEnv("http://a")
		for i := range 30 { // one of them has a better hash
			n.provider("default", fmt.Sprint("b", i), "http://b")
		}
		n.wantEnv("http://a")
		n.stop()
		n.up()
		n.wantEnv("http://a")
		n.wantSteps("node")
		a.says(store.Down)
		n.wantEnv("http://b")
		a.says(store.Up)
		n.wantEnv("http://b")
		n.wantSteps("node", "node")
	})
}

func TestAProviderThatIsBackBeforeTheRunCostsNoRun(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle.Settle, n.cfg.Throttle.SettleMax = 10*time.Second, time.Minute
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		time.Sleep(time.Minute)
		n.wantEnv("http://a")
		n.provider("default", "b", "http://b")
		a.says(store.Down)
		time.Sleep(5 * time.Second)
		if p := n.status().Pending; p == nil {
			n.t.Error("nothing is pending")
		}
		a.says(store.Up)
		time.Sleep(time.Hour)
		n.wantSteps("node")
	})
}

func TestRegionsFailOverInOrderAndBackAfterTheDelay(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Region, n.cfg.RegionOrder = "us", []string{"eu", "ap"}
		n.manifest("app", requires("app", "", "K"))
		us, eu := n.provider("us", "a", "http://us"), n.provider("eu", "b", "http://eu")
		n.provider("ap", "c", "http://ap")
		n.provider("xx", "d", "http://xx")
		n.up()
		n.wantEnv("http://us")
		us.says(store.Left)
		n.wantEnv("http://eu")
		eu.says(store.Down)
		n.wantEnv("http://ap")
		n.wantSteps("node", "node", "node")
		us.says(store.Up)
		time.Sleep(4 * time.Minute)
		n.wantEnv("http://ap")
		us.says(store.Down) // it is not up for long enough: the delay counts anew
		us.says(store.Up)
		time.Sleep(4*time.Minute + 50*time.Second)
		n.wantEnv("http://ap")
		time.Sleep(10 * time.Second)
		n.wantEnv("http://us")
		n.wantSteps("node", "node", "node", "node")
	})
}

func TestALowerPriorityWinsBackAfterTheDelay(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		b := n.provider("default", "b", "http://b")
		b.entry.Priority = -1
		b.says(store.Up)
		n.wantEnv("http://a")
		time.Sleep(5 * time.Minute)
		n.wantEnv("http://b")
		n.wantSteps("node", "node")
	})
}

func TestOfManyThatExpireAtOnceRemovalsAreHeld(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.cfg.Throttle.Settle, n.cfg.Throttle.SettleMax = 100*time.Millisecond, time.Second
		n.manifest("app", `{"id": "app", "requires": {"V_K": "{K[]}"}}`)
		var all []*provider
		var names []string
		for i := range 10 {
			names = append(names, fmt.Sprint("p", i))
			all = append(all, n.provider("default", names[i], names[i]))
		}
		n.up()
		n.wantEnv(strings.Join(names, ","))
		all[0].dies() // one is believed
		time.Sleep(2 * time.Minute)
		n.wantEnv(strings.Join(names[1:], ","))
		for _, p := range all[1:6] {
			p.dies()
		}
		time.Sleep(2 * time.Minute)
		n.wantEnv(strings.Join(names[1:], ","))
		n.wantConditions("providers held")
		n.stop()
		n.up() // the hold survives
		n.wantConditions("providers held")
		all[1] = n.provider("default", "p1", "p1") // one returns
		time.Sleep(20 * time.Minute)
		n.wantConditions()
		n.wantEnv("p1,p6,p7,p8,p9")
		n.wantSteps("node", "node", "node")

		m.ExpireSessions() // all of them, and accepted at once
		time.Sleep(time.Minute)
		n.wantConditions("providers held")
		n.wantEnv("p1,p6,p7,p8,p9")
		if acc, err := n.agent.Accept(t.Context(), ""); err != nil || !slices.Equal(acc.Changed, []string{"key K"}) {
			t.Fatal(acc, err)
		}
		n.wantConditions("degraded K") // nobody is left: the last good value stays
		n.wantEnv("p1,p6,p7,p8,p9")
	})
}

func TestASingleChoiceMovesAtOnceWhileRemovalsAreHeld(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		var all []*provider
		for i := range 5 {
			all = append(all, n.provider("default", fmt.Sprint("p", i), "dead"))
		}
		n.up()
		n.wantEnv("dead")
		n.provider("default", "alive", "alive")
		for _, p := range all {
			p.dies()
		}
		time.Sleep(time.Minute)
		n.wantConditions("providers held")
		n.wantEnv("alive")
	})
}

func TestProvidersOfAWipedStoreAreBackWithoutARun(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		m.Wipe()
		time.Sleep(time.Hour)
		n.wantEnv("http://a")
		n.wantConditions("store regression")
		n.stop()
		n.up()
		n.wantConditions("store regression")
		n.provider("default", "a", "http://a") // it publishes again
		n.wantConditions()
		a.session.Orphan()
		time.Sleep(time.Minute)
		n.wantSteps("node")
	})
}

func TestABadEntrySpoilsOnlyItself(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		garble := func(p *provider) {
			if _, err := n.store.Commit(t.Context(), nil, store.PutSession(p.key(), []byte(`{"state":"up","value":"x\ny"}`), p.session)); err != nil {
				t.Fatal(err)
			}
		}
		garble(a)
		n.wantEnv("http://a")
		n.wantConditions("bad provider K", "degraded K")
		n.provider("default", "b", "http://b")
		n.wantEnv("http://b")
		n.wantConditions("bad provider K")
	})
}

func TestProviderAndConsumerOnOneNodeGoInOneRun(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.manifest("api", `{"id": "api", "provides": {"K": "http://{HOST}"}, "command": ["api"]}`)
		n.up()
		n.wantEnv("http://10.0.0.1")
		n.wantSteps("node", "api") // the node step does not wait for the own one
		own := n.provider("default", "n1", "http://10.0.0.1")
		n.wantEnv("http://10.0.0.1")
		own.says(store.Down) // what is published counts
		n.wantConditions("degraded K")
		own.says(store.Up)
		n.wantConditions()
		n.wantSteps("node", "api")
	})
}

func TestAnotherFederationsProvidersAreNotSeen(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		p := store.Provider{Value: "x", Weight: 1, State: store.Up}
		other := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "other"}
		if _, err := n.store.Commit(t.Context(), nil, store.Put(other.Provider("K", "default", "a", "api"), p.Encode())); err != nil {
			t.Fatal(err)
		}
		n.up()
		n.wantConditions("waiting K")
	})
}

func TestAProviderUsedIsRememberedWithoutTheReplica(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "K = \"fallback\"\n")
		n.manifest("app", requires("app", "", "K"))
		a := n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		n.stop()
		if err := os.Remove(filepath.Join(n.cfg.StateDir, "replica.json")); err != nil {
			t.Fatal(err)
		}
		a.dies()
		time.Sleep(time.Minute) // it is gone when the agent starts again
		n.up()
		time.Sleep(time.Hour)
		n.wantEnv("http://a")
		n.wantConditions("degraded K")
		n.wantSteps("node")
	})
}
