package listener

import (
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store/storetest"
)

// The loop tells that it works when there is nothing to do, too, and what is
// worst in one line.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, storetest.NewMemory())
		n.manifest("app", requires("app", "", "A"))
		var mu sync.Mutex
		var said []string
		n.alive, n.aliveEvery = func(headline string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, headline)
		}, 10*time.Second
		last := func() string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return said[len(said)-1]
		}
		n.up()
		time.Sleep(time.Second)
		if got := last(); got != "waiting: app waits for A" {
			t.Errorf("without a value: %q", got)
		}
		n.put("A", "1")
		time.Sleep(time.Minute)
		if got := last(); got != "on, 1 service" {
			t.Errorf("after a run: %q", got)
		}
		times := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return len(said)
		}
		before := times()
		time.Sleep(10 * time.Minute)
		if got := times() - before; got < 60 {
			t.Errorf("told %d times in 10 idle minutes, want 60 at least", got)
		}
		if err := n.agent.do(t.Context(), func() { n.agent.fault("history", os.ErrPermission) }); err != nil {
			t.Fatal(err)
		}
		if got := last(); !strings.HasPrefix(got, "ERROR: history: ") {
			t.Errorf("with a grave condition: %q", got)
		}
	})
}

func TestWantUnits(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs here")
	}
	for runner, wrong := range map[string]bool{"direct": false, "auto": false, "systemd": true} {
		if units, err := wantUnits(runner); units || (err != nil) != wrong {
			t.Errorf("%s: %v, %v", runner, units, err)
		}
	}
	cfg := config.Default()
	if cfg.Provision.Runner != "auto" {
		t.Errorf("the default is %q", cfg.Provision.Runner)
	}
}
