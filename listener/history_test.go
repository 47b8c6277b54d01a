package listener

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// missedBy does something to the store while the agent's link is cut.
func missedBy(t *testing.T, n *node, m *storetest.Memory, do func(put func(key, value string))) {
	t.Helper()
	other := m.Dial()
	defer other.Close()
	m.Cut()
	do(func(key, value string) {
		if _, err := other.Commit(t.Context(), nil, store.Put(store.Space{Prefix: n.cfg.Store.Prefix, Federation: "default"}.Value("", key), []byte(value))); err != nil {
			t.Fatal(err)
		}
	})
	m.Heal()
	time.Sleep(time.Hour)
}

// A store that was wiped, and has since come further than the one that the
// agent saw, looks like one where somebody deleted and wrote.
func TestAWipedStoreThatIsAheadChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A", "B"))
		n.put("A", "1")
		n.put("B", "1")
		n.up()
		n.wantSteps("node")
		missedBy(t, n, m, func(put func(key, value string)) {
			m.Wipe()
			for range 10 {
				put("B", "2")
			}
		})
		n.wantConditions("store regression")
		n.wantSteps("node")
		if got := n.env("app"); got != "export V_A='1'\nexport V_B='1'\n" {
			t.Errorf("env %q", got)
		}
		missedBy(t, n, m, func(func(key, value string)) {}) // a reconnect changes nothing
		n.wantConditions("store regression")
		n.wantSteps("node")
		n.put("A", "3")
		n.put("B", "3")
		n.wantConditions()
		if got := n.env("app"); got != "export V_A='3'\nexport V_B='3'\n" {
			t.Errorf("env %q", got)
		}
	})
}

// What was deleted and written in the same history, while the link was cut,
// takes effect.
func TestTheSameHistoryIsBelieved(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "B"))
		n.put("B", "1")
		n.up()
		n.wantSteps("node")
		missedBy(t, n, m, func(put func(key, value string)) { put("B", "2") })
		n.wantConditions()
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_B='2'\n" {
			t.Errorf("env %q", got)
		}
	})
}

// The reason of an outage that becomes another one is told, and since when
// there is no link stays.
func TestTheReasonOfAnOutageChanges(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		m.Cut()
		time.Sleep(time.Hour)
		n.wantConditions("store unreachable")
		since := n.status().Store.Since
		m.CutFor(store.ErrPermission)
		time.Sleep(time.Hour)
		n.wantConditions("permission denied")
		if got := n.status().Store.Since; !got.Equal(since) {
			t.Errorf("away since %v, was since %v", got, since)
		}
		m.CutFor(store.ErrUnavailable)
		time.Sleep(time.Hour)
		n.wantConditions("store unreachable")
		n.wantSteps("node")
	})
}
