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
			_, err := p.Undrain(t.Context())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		n.wantState(store.Up)
	})
}

// A node that does not know its address for a while, as at a start before the
// network is there, goes on saying what it said, and its checks find nothing.
func TestAnUnknownHostTakesNothingBack(t *testing.T) {
	for name, provides := range map[string]string{"host": "http://{HOST}:8080", "name": "http://api.example.com:8080"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
				n.manifest("api", `{"id": "api", "provides": {"K": "`+provides+`"}, "command": ["api"],
					"check": {"exec": ["sh", "-c", "test -n \"$0\"", "{HOST}"]}}`)
				n.up()
				time.Sleep(time.Minute)
				n.wantState(store.Up)
				_, was, _ := n.entry()
				n.stop()
				n.cfg.Host = ""
				n.up()
				time.Sleep(5 * time.Minute)
				n.wantState(store.Up)
				if _, kv, _ := n.entry(); kv.Rev != was.Rev {
					t.Errorf("the entry was %s, is %s", was.Value, kv.Value)
				}
				n.address.Store("10.0.0.2") // the network comes
				time.Sleep(2 * time.Minute)
				n.wantState(store.Up)
				if _, _, p := n.entry(); p.Host != "10.0.0.2" {
					t.Errorf("the entry is %+v", p)
				}
			})
		})
	}
}
