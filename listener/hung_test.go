package listener

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// hung is a store whose commits do not return while it hangs, whatever their
// context says, as with a disk that does not answer.
type hung struct {
	*storetest.Memory
	mu sync.Mutex
	on chan struct{} // nil: it works
}

func (h *hung) hang() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	on := make(chan struct{})
	h.on = on
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.on = nil
		close(on)
	}
}

func (h *hung) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	h.mu.Lock()
	on := h.on
	h.mu.Unlock()
	if on != nil {
		<-on
	}
	return h.Memory.Commit(ctx, conds, ops...)
}

// A store that hangs while the publisher begins anew does not stop the loop.
func TestAHungStoreDoesNotStopTheLoop(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		h := &hung{Memory: m}
		n.store = h
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		_, before, _ := n.entry()
		n.other(func(c *config.Config) { c.Publish.DrainWait = time.Minute })
		n.agent.opt.Reload = n.reloadConfig
		release := h.hang()
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "test"}); err != nil { // the record changes
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		n.reload()
		_ = n.status()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the loop stood still for %s", took)
		}
		n.wantConditions("publish failing")
		if err := n.agent.Drain(t.Context(), "me", ""); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("drain: %v", err)
		}
		release()
		time.Sleep(5 * time.Minute)
		if got, kv, _ := n.entry(); got != store.Up || kv.Rev != before.Rev {
			t.Errorf("the entry is %q of revision %d, was of %d", got, kv.Rev, before.Rev)
		}
		if err := n.agent.Drain(t.Context(), "me", ""); err != nil { // by the new publisher
			t.Fatal(err)
		}
		n.wantState(store.Draining)
	})
}

// A reload of what concerns publishing is not seen by anyone.
func TestAReloadOfPublishingFlapsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.other(func(c *config.Config) { c.Publish.AntiEntropy = 2 * time.Minute })
		n.up()
		n.wantState(store.Up)
		_, before, _ := n.entry()
		for range 5 {
			n.reload()
			time.Sleep(time.Minute)
			c := *n.cfg
			c.Publish.AntiEntropy += time.Duration(time.Now().Second()+1) * time.Second
			n.agent.opt.Reload = func() (*config.Config, error) { return &c, nil }
		}
		if got, kv, _ := n.entry(); got != store.Up || kv.Rev != before.Rev {
			t.Errorf("the entry is %q of revision %d, was of %d", got, kv.Rev, before.Rev)
		}
		c := *n.cfg
		c.Host = "10.9.9.9"
		n.agent.opt.Reload = func() (*config.Config, error) { return &c, nil }
		n.reload()
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Host != "10.9.9.9" || p.Value != "http://10.9.9.9:8080" {
			t.Errorf("published %+v", p)
		}
	})
}

// An agent stops in time although the store hangs, and withdraws later, if ever.
func TestAnAgentStopsWhileTheStoreHangs(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		h := &hung{Memory: m}
		n.store = h
		n.cfg.Publish.WithdrawOnStop = "always"
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		release := h.hang()
		began := time.Now()
		n.stop()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		release()
		time.Sleep(time.Minute)
	})
}
