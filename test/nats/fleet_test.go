package nats_test

import (
	"fmt"
	"testing"

	"github.com/listener-agent/listener/internal/fleettest"
)

// Two regions and two federations; a federation has an account of its own in
// a real deployment, here they share one.
func TestFleet(t *testing.T) {
	t.Parallel()
	exe, err := builtBinary()
	must(t, err)
	fleettest.Play(t, exe, fmt.Sprintf("[store]\nkind = \"nats\"\n[store.nats]\nservers = [%q]\n", startServer(t, "").url()))
}
