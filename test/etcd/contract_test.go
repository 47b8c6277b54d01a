package etcd_test

import (
	"testing"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	"github.com/listener-agent/listener/store/storetest"
)

func open(t *testing.T, o etcd.Options) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func harness(t *testing.T) *storetest.Harness {
	s := newServer(t)
	p := newProxy(t, s.client)
	operator := bare(t, s.url())
	o := etcd.Options{Endpoints: []string{p.url()}}
	h := &storetest.Harness{
		Store: open(t, o), Other: open(t, etcd.Options{Endpoints: []string{s.url()}}),
		Cut: p.Cut, Heal: p.Heal,
		Restart: s.restart, Wipe: s.wipe, Snapshot: s.snapshot,
		Compact: func(t *testing.T) { compact(t, operator) },
	}
	h.Reopen = func(t *testing.T) store.Store {
		must(t, h.Store.Close())
		return open(t, o)
	}
	return h
}

func TestContract(t *testing.T) { storetest.Run(t, harness) }
