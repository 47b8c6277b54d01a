package storetest_test

import (
	"testing"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

func memory(*testing.T) *storetest.Harness {
	m := storetest.NewMemory()
	h := &storetest.Harness{Store: m, Other: m.Dial(), Histories: true}
	h.Reopen = func(t *testing.T) store.Store {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		m = m.Dial()
		return m
	}
	h.Cut = func(*testing.T) { m.Cut() }
	h.Heal = func(*testing.T) { m.Heal() }
	h.Kill = func(*testing.T) { m.Restart() }
	h.Restart = func(*testing.T) { m.Restart() }
	h.Wipe = func(*testing.T) { m.Wipe() }
	h.Snapshot = func(*testing.T) func(*testing.T) {
		setBack := m.Snapshot()
		return func(*testing.T) { setBack() }
	}
	h.Compact = func(*testing.T) {} // it keeps no history
	return h
}

func TestMemory(t *testing.T) { storetest.RunInBubbles(t, memory) }

// In wall time goroutines meet in other orders.
func TestMemoryWallTime(t *testing.T) { storetest.Run(t, memory) }
