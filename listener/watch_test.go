package listener

import (
	"testing"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// What the watch in another federation still says when the node changes to a
// new one is nothing of that: the store has not been asked yet.
func TestAResetOfTheLastFederationSaysNothingOfTheNext(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.put("K", "one")
		n.up()
		n.wantEnv("one")
		if err := n.agent.do(t.Context(), func() {
			a := n.agent
			gen := a.watch.gen
			a.enter("other")
			a.onUpdate(tagged{gen, store.Update{Kind: store.Reset, Rev: 9}})
			if a.booted || a.view.auth || a.view.known {
				t.Error("a Reset of another federation is taken for the state of this one")
			}
		}); err != nil {
			t.Fatal(err)
		}
	})
}
