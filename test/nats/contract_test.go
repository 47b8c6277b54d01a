// Package nats_test holds store/nats against real NATS servers.
package nats_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	"github.com/listener-agent/listener/store/storetest"
	"github.com/nats-io/nats.go/jetstream"
)

// options are those of a test: quick to notice what went wrong.
func options(url string) nats.Options {
	return nats.Options{Servers: []string{url}, Bucket: "listener", PingEvery: time.Second, CheckEvery: time.Second}
}

func openStore(t testing.TB, o nats.Options) *nats.Store {
	s := nats.Open(o)
	t.Cleanup(func() { s.Close() })
	return s
}

// answers waits until the stores do.
func answers(t testing.TB, all ...store.Store) {
	t.Helper()
	for _, s := range all {
		eventually(t, "the store answers", func() error {
			_, err := s.Get(t.Context(), "/t/none")
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		})
	}
}

// eventually waits until do succeeds, trying again and again.
func eventually(t testing.TB, what string, do func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func harness(t *testing.T) *storetest.Harness {
	s := startServer(t, "")
	p := startProxy(t, s.addr())
	h := &storetest.Harness{
		Store: openStore(t, options(p.url())),
		Other: openStore(t, options(s.url())),
		TTL:   2 * time.Second,
	}
	answers(t, h.Store, h.Other)
	h.Reopen = func(t *testing.T) store.Store {
		must(t, h.Store.Close())
		return openStore(t, options(p.url()))
	}
	h.Cut = func(*testing.T) { p.set(cut) }
	h.Heal = func(*testing.T) { p.set(open) }
	// The history that NATS keeps are the markers of keys that were removed.
	h.Compact = func(t *testing.T) {
		kv, err := jetStream(t, s).KeyValue(t.Context(), "listener")
		must(t, err)
		must(t, kv.PurgeDeletes(t.Context(), jetstream.DeleteMarkersOlderThan(-1)))
	}
	h.Swallow = func(*testing.T) { p.set(black) }
	h.Restart = func(t *testing.T) {
		s.stop()
		s.start(t)
	}
	h.Kill = func(t *testing.T) {
		s.kill()
		s.start(t)
	}
	h.Wipe = func(t *testing.T) { s.wipe(t) }
	h.Snapshot = func(t *testing.T) func(*testing.T) {
		setBack := s.snapshot(t)
		answers(t, h.Store, h.Other)
		return func(t *testing.T) { setBack(t) }
	}
	return h
}

// The suite looks for goroutines left behind, so nothing may run beside it.
func TestContract(t *testing.T) {
	storetest.Run(t, harness)
}
