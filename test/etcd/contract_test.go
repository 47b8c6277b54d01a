package etcd_test

import (
	"os/exec"
	"testing"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	"github.com/listener-agent/listener/store/storetest"
)

func open(t testing.TB, o etcd.Options) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func at(endpoints ...string) etcd.Options { return etcd.Options{Endpoints: endpoints} }

func harness(t *testing.T, s *server) *storetest.Harness {
	p := newProxy(t, s.client)
	operator := s.bare(t)
	h := &storetest.Harness{
		Store: open(t, at(p.url())), Other: open(t, at(s.url())),
		Cut: hook(p.Cut), Heal: hook(p.Heal), Swallow: hook(p.Swallow),
		Restart: hook(s.restart), Wipe: hook(s.wipe), Snapshot: s.snapshot,
		Kill: func(t *testing.T) {
			s.kill()
			s.start(t)
		},
		Compact: func(t *testing.T) { compact(t, operator) },
		Wait:    limit, Histories: true,
	}
	h.Reopen = func(t *testing.T) store.Store {
		must(t, h.Store.Close())
		return open(t, at(p.url()))
	}
	return h
}

func hook(do func(testing.TB)) func(*testing.T) { return func(t *testing.T) { do(t) } }

// The suite looks for goroutines left behind, so nothing may run beside it.
func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Harness { return harness(t, newProcess(t, "--unsafe-no-fsync")) })
}

// The oldest one that is supported, as Debian has it.
func TestContractOldest(t *testing.T) {
	bin, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("there is no etcd here (Debian: etcd-server)")
	}
	storetest.Run(t, func(t *testing.T) *storetest.Harness { return harness(t, startServer(t, bin, nil)) })
}
