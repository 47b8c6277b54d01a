package publish

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/local"
)

// On a real store, with a session that lives in a file: an agent that stops
// and starts takes it over, and nothing is written.
func TestLocal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var first Status
	var rev uint64
	for i := range 2 {
		s, err := local.Open(local.Options{Path: filepath.Join(dir, "store.db"), NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(Options{
			Store: s, Space: space, Node: "web1", Region: "r1", MachineID: "m", BootID: "b", StateDir: dir,
			TTL: time.Minute, AntiEntropy: 50 * time.Millisecond,
			Check: CheckSettings{Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		p.SetNode(store.NodeRecord{Version: "1"})
		p.Set([]Service{exclusive(api())})
		now := published(t, p)
		time.Sleep(200 * time.Millisecond) // some comparisons
		_, at, err := s.List(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first, rev = now, at
		} else if now.Session != first.Session || now.Incarnation != first.Incarnation || at != rev {
			t.Errorf("session %s, incarnation %d, revision %d; was %s, %d, %d",
				now.Session, now.Incarnation, at, first.Session, first.Incarnation, rev)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// published waits until the one entry is up.
func published(t *testing.T, p *Publisher) Status {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s := p.Status()
		if len(s.Published) == 1 && s.Published[0].State == string(store.Up) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("not published: %+v", s)
		}
	}
}
