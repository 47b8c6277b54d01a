package listener

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/store/storetest"
)

// bubble runs f in fake time with a node on a store in memory.
func bubble(t *testing.T, f func(t *testing.T, n *node, m *storetest.Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		n := newNode(t, m)
		f(t, n, m)
	})
}

func TestChangeMakesOneRunWithTheNewValue(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "one")
		n.up()
		synctest.Wait()
		if diff := cmp.Diff([]string{"node"}, n.steps()); diff != "" {
			t.Fatal(diff)
		}
		n.put("DB", "two")
		synctest.Wait()
		if diff := cmp.Diff([]string{"node", "node"}, n.steps()); diff != "" {
			t.Fatal(diff)
		}
		if got := n.env("app"); got != "export V_DB='two'\n" {
			t.Errorf("env file %q", got)
		}
		if got := jobEnv(n.runner.started()[1], "LISTENER_CHANGED_KEYS"); got != "DB" {
			t.Errorf("changed keys %q", got)
		}
		time.Sleep(24 * time.Hour)
		if got := len(n.steps()); got != 2 {
			t.Errorf("%d runs after a day", got)
		}
	})
}

func TestManyChangesDuringOneRunMakeOneMore(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "0")
		n.runner.command = func(provision.Job) provision.Result {
			time.Sleep(time.Minute)
			return provision.Result{Outcome: "exited"}
		}
		n.up()
		synctest.Wait()
		for i := range 1000 {
			n.put("DB", strings.Repeat("x", i%7+1))
		}
		time.Sleep(time.Hour)
		if got := len(n.steps()); got != 2 {
			t.Errorf("%d runs, want 2", got)
		}
		if got := n.env("app"); got != "export V_DB='"+strings.Repeat("x", 999%7+1)+"'\n" {
			t.Errorf("env file %q", got)
		}
	})
}
