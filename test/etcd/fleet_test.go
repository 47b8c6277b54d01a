package etcd_test

import (
	"fmt"
	"testing"

	"github.com/listener-agent/listener/internal/fleettest"
)

// Two regions and two federations on one etcd.
func TestFleet(t *testing.T) {
	t.Parallel()
	exe, err := binary()
	must(t, err)
	fleettest.Play(t, exe, fmt.Sprintf("[store]\nkind = \"etcd\"\n[store.etcd]\nendpoints = [%q]\n", newServer(t).url()))
}
