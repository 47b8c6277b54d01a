package listener

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/publish"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

const apiManifest = `{"id": "api", "provides": {"K": "http://{HOST}:{PORT}"}, "environment": {"PORT": 8080}, "command": ["api"]}`

// entry is what the node has published of K as service api; "" is nothing.
func (n *node) entry() (state store.State, kv store.KV, p store.Provider) {
	n.t.Helper()
	space := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "default"}
	kv, err := n.store.Get(n.t.Context(), space.Provider("K", "default", n.cfg.Node, "api"))
	if errors.Is(err, store.ErrNotFound) {
		return "", kv, p
	}
	if err == nil {
		p, err = store.DecodeProvider(kv.Value)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return p.State, kv, p
}

func (n *node) wantState(want store.State) {
	n.t.Helper()
	time.Sleep(3 * time.Second)
	if got, _, _ := n.entry(); got != want {
		n.t.Errorf("the entry is %q, want %q", got, want)
	}
}

// another is a second node on the same store.
func another(t *testing.T, m *storetest.Memory, name string) *node {
	return newNode(t, m.Dial(), func(c *config.Config) { c.Node = name })
}

func TestAServiceIsPublishedAfterItsStepAndOthersUseIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.runner.use(func(provision.Job) provision.Result {
			time.Sleep(time.Minute)
			return provision.Result{Outcome: "exited"}
		})
		web := another(t, m, "n2")
		web.manifest("app", requires("app", "", "K"))
		web.up()
		n.up()
		time.Sleep(50 * time.Second)
		n.wantState("")
		web.wantConditions("waiting K")
		time.Sleep(time.Minute * 2)
		n.wantState(store.Up)
		web.wantEnv("http://10.0.0.1:8080")
		_, kv, p := n.entry()
		if p.Host != "10.0.0.1" || p.Port != 8080 || p.Incarnation == 0 {
			t.Errorf("entry %+v", p)
		}
		for range 20 { // a restart is not seen by anyone
			n.stop()
			n.up()
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		if _, again, _ := n.entry(); again.Rev != kv.Rev {
			t.Errorf("entry was written again at revision %d, was %d", again.Rev, kv.Rev)
		}
		web.wantSteps("node")
		n.stop() // the machine dies
		time.Sleep(2 * n.cfg.Publish.TTL)
		n.wantState("")
		web.wantConditions("degraded K")
		web.wantSteps("node")
	})
}

func TestAfterABootAServiceIsPublishedWhenItsForcedRunSucceeded(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		boot := func(name string) {
			n.stop()
			time.Sleep(time.Hour)
			n.boot = name
			n.up()
		}
		n.runner.use(failing)
		boot("boot-2")
		n.wantState("")
		n.runner.use(nil)
		time.Sleep(20 * time.Minute)
		n.wantState(store.Up)
		n.runner.use(failing) // what is up stays although a step fails
		n.manifest("api", strings.Replace(apiManifest, "8080", "9090", 1))
		n.reload()
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:8080" {
			n.t.Errorf("published %q before the step succeeded", p.Value)
		}
		n.stop()
		n.up()
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:8080" {
			n.t.Errorf("published %q before the step succeeded", p.Value)
		}
		n.runner.use(nil)
		time.Sleep(20 * time.Minute)
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:9090" || p.Port != 9090 {
			n.t.Errorf("published %+v", p)
		}
	})
}

func TestWhileOffAServiceIsPublishedAtOnceAfterABoot(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "test"}); err != nil {
			t.Fatal(err)
		}
		n.stop()
		time.Sleep(time.Hour)
		n.boot = "boot-2"
		n.up()
		n.wantState(store.Up)
		n.wantSteps("node", "api")
	})
}

func TestWhatNeedsNoRunIsPublishedAtOnceAndARemovedServiceLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		n.manifest("api", strings.Replace(apiManifest, `{"id"`, `{"weight": 7, "priority": 3, "id"`, 1))
		n.reload()
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Weight != 7 || p.Priority != 3 {
			t.Errorf("published %+v", p)
		}
		n.wantSteps("node", "api")
		n.manifest("other", requires("other", ""))
		if err := os.Remove(filepath.Join(n.cfg.Manifests[0], "api.json")); err != nil {
			t.Fatal(err)
		}
		n.reload()
		time.Sleep(10 * time.Second)
		n.wantState(store.Left)
		time.Sleep(time.Hour)
		n.wantState("")
	})
}

func TestDrainAndUndrain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		web := another(t, m, "n2")
		web.manifest("app", requires("app", "", "K"))
		web.up()
		web.wantEnv("http://10.0.0.1:8080")
		if err := n.agent.Drain(t.Context(), "me", "a new disk"); err != nil {
			t.Fatal(err)
		}
		n.wantState(store.Draining)
		web.wantConditions("degraded K")
		time.Sleep(10 * time.Second)
		n.wantState(store.Left)
		web.wantConditions("missing K")
		n.stop()
		n.up()
		time.Sleep(time.Minute)
		n.wantState(store.Left)
		if d := n.status().Publishing.Drain; d == nil || d.Who != "me" || d.Reason != "a new disk" || d.State != "drained" {
			t.Errorf("drain %+v", d)
		}
		if changed, err := n.agent.Undrain(t.Context()); err != nil || !changed {
			t.Fatal(changed, err)
		}
		n.wantState(store.Up)
		web.wantConditions()
		web.wantSteps("node")
	})
}

func TestAStoppingAgentWithdrawsIfItIsTold(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Publish.WithdrawOnStop = "always"
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		n.stop()
		n.wantState(store.Left)
		n.up()
		n.wantState(store.Up)
	})
}

func TestTheNodesRecord(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.manifest("app", requires("app", "", "MISSING"))
		n.up()
		n.wantState(store.Up)
		space := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "default"}
		kv, err := n.store.Get(t.Context(), space.Node("n1"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := store.DecodeNodeRecord(kv.Value)
		if err != nil || r.AgentState != "up" || r.Result != "ok" || r.MachineID != "m1" || len(r.WaitingOn) != 1 || r.WaitingOn[0] != "MISSING" {
			t.Errorf("record %s: %v", kv.Value, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if again, err := n.store.Get(t.Context(), space.Node("n1")); err != nil || again.Rev != kv.Rev {
			t.Errorf("the record was written although nothing changed: revision %d after %d, %v", again.Rev, kv.Rev, err)
		}
	})
}

// The owner of a service may be one that its first provision makes: until
// then its check is nobody's, never root's.
func TestACheckWhoseUserDoesNotExistIsNobodys(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: only root runs checks as other users")
	}
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", strings.Replace(apiManifest, `{"id"`, `{"user": "no-such-user", "check": {"exec": ["true"]}, "id"`, 1))
		n.up()
		n.wantConditions("owner of api")
		var c *publish.Check
		if err := n.agent.do(t.Context(), func() { c = n.agent.check("api", n.agent.table.rows["api"]) }); err != nil {
			t.Fatal(err)
		}
		if c.UID != nobody || c.GID != nobody {
			t.Errorf("the check runs as %d:%d", c.UID, c.GID)
		}
		time.Sleep(30 * time.Second) // it rises
		n.wantState(store.Up)
	})
}
