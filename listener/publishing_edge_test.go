package listener

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/publish"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// A drain that comes while a reload of the settings puts another publisher in
// place counts for that one, and so does its end.
func TestADrainDuringAReloadIsNotForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		swap := func(wait time.Duration) {
			t.Helper()
			n.reloadConfig = nil
			if err := n.agent.do(t.Context(), func() {
				next := *n.agent.cfg
				next.Publish.DrainWait = wait
				n.agent.useConfig(&next)
			}); err != nil {
				t.Fatal(err)
			}
		}
		first := true
		if err := n.agent.publishes(t.Context(), func(p *publish.Publisher) error {
			if first {
				swap(time.Minute)
				first = false
			}
			return p.Drain(t.Context(), "ann", "new disk", false)
		}); err != nil {
			t.Fatal(err)
		}
		n.wantState(store.Draining)
		if d := n.agent.pub.p.Status().Drain; d == nil || d.Who != "ann" {
			t.Errorf("drain is %+v", d)
		}
		first = true
		if err := n.agent.publishes(t.Context(), func(p *publish.Publisher) error {
			if first {
				swap(time.Second)
				first = false
			}
			return p.Undrain(t.Context())
		}); err != nil {
			t.Fatal(err)
		}
		n.wantState(store.Up)
	})
}
