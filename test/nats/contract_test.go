// Package nats_test holds store/nats against real NATS servers.
package nats_test

import (
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	"github.com/listener-agent/listener/store/storetest"
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

func harness(t *testing.T) *storetest.Harness {
	s := startServer(t, nil)
	p := startProxy(t, strings.TrimPrefix(s.url(), "nats://"))
	h := &storetest.Harness{
		Store: openStore(t, options(p.url())),
		Other: openStore(t, options(s.url())),
		TTL:   2 * time.Second,
	}
	h.Reopen = func(t *testing.T) store.Store {
		must(t, h.Store.Close())
		return openStore(t, options(p.url()))
	}
	h.Cut = func(*testing.T) { p.set(cut) }
	h.Heal = func(*testing.T) { p.set(open) }
	h.Restart = func(t *testing.T) { s.restart(t) }
	h.Wipe = func(t *testing.T) { s.wipe(t) }
	h.Snapshot = func(t *testing.T) func(*testing.T) {
		setBack := s.snapshot(t)
		return func(t *testing.T) { setBack(t) }
	}
	return h
}

func TestContract(t *testing.T) { storetest.Run(t, harness) }
