package listener

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/api"

	"github.com/listener-agent/listener/store/storetest"
)

func TestANewKeyIsNotDecidedOverBeforeTheStoreWasAsked(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.put("B", "b")
		n.up()
		synctest.Wait()
		n.manifest("app", `{"id": "app", "requires": {"V_A": "{A}", "V_B": "{B}"}}`)
		n.manifest("opt", `{"id": "opt", "requires": {"V_B": "{B:-default}"}}`)
		n.manifest("loose", `{"id": "loose", "binding": "relaxed", "requires": {"V_B": "{B}"}}`)
		n.reload()
		synctest.Wait()
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"node", "node"}, n.steps()); diff != "" {
			t.Errorf("steps: %s", diff)
		}
		for id, want := range map[string]string{
			"app": "export V_A='a'\nexport V_B='b'\n", "opt": "export V_B='b'\n", "loose": "export V_B='b'\n",
		} {
			if got := n.env(id); got != want {
				t.Errorf("%s: %q, want %q", id, got, want)
			}
		}
	})
}

func TestANewKeyIsAwaitedForBootWaitAtMost(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		m.Cut()
		n.manifest("loose", `{"id": "loose", "binding": "relaxed", "requires": {"V_B": "{B}"}}`)
		n.manifest("opt", `{"id": "opt", "requires": {"V_B": "{B:-default}"}}`)
		n.reload()
		if st := n.status(); st.Synced {
			t.Error("synced while the store is being asked")
		}
		time.Sleep(n.cfg.Store.BootWait - time.Second)
		n.wantSteps("node")
		time.Sleep(2 * time.Second)
		n.wantSteps("node", "node")
		if n.env("opt") != "export V_B='default'\n" || n.env("loose") != "" {
			t.Errorf("opt %q, loose %q: a default serves, a relaxed service waits", n.env("opt"), n.env("loose"))
		}
	})
}

func TestWaitRunAnswersForARunThatHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "test", Now: true})
		if err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node") // the run is over before anybody waits
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run, err := n.agent.WaitRun(ctx, q.Ticket)
		if err != nil || run.Result != "ok" {
			t.Errorf("%+v, %v", run, err)
		}
	})
}

func TestWaitRunSaysThatThereIsNothingToRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Provision.Command = nil
		n.manifest("app", requires("app", `"command": false`, "A"))
		n.put("A", "a")
		n.up()
		synctest.Wait()
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "test", Now: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if run, err := n.agent.WaitRun(ctx, q.Ticket); !errors.Is(err, ErrNothing) {
			t.Errorf("%+v, %v; want that nothing runs here", run, err)
		}
	})
}
