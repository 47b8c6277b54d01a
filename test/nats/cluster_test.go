package nats_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	"github.com/listener-agent/listener/store/storetest"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startCluster returns three servers that know each other, ready for buckets.
func startCluster(t testing.TB) []*server {
	t.Helper()
	const n = 3
	var routes []string
	ports := make([]int, n)
	for i := range ports {
		ports[i] = freePort(t)
		routes = append(routes, fmt.Sprintf(`"nats://127.0.0.1:%d"`, ports[i]))
	}
	all := make([]*server, n)
	for i := range all {
		all[i] = startServer(t, fmt.Sprintf("server_name: s%d\ncluster { name: c, listen: \"127.0.0.1:%d\", routes: [%s] }", i, ports[i], strings.Join(routes, ", ")))
	}
	nc, err := client.Connect(all[0].url())
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	eventually(t, "the cluster has a leader", func() error {
		_, err := js.AccountInfo(t.Context())
		return err
	})
	return all
}

func clusterOptions(all []*server) nats.Options {
	o := nats.Options{Bucket: "listener", Replicas: 3}
	for _, s := range all {
		o.Servers = append(o.Servers, s.url())
	}
	return o
}

// leader is the server that leads the bucket.
func leader(t testing.TB, all []*server) int {
	t.Helper()
	at := -1
	eventually(t, "the bucket has a leader", func() error {
		for _, s := range all {
			nc, err := client.Connect(s.url())
			if err != nil {
				continue
			}
			defer nc.Close()
			js, err := jetstream.New(nc)
			must(t, err)
			stream, err := js.Stream(t.Context(), "KV_listener")
			if err != nil {
				return err
			}
			if c := stream.CachedInfo().Cluster; c != nil {
				if _, err := fmt.Sscanf(c.Leader, "s%d", &at); err == nil {
					return nil
				}
			}
		}
		return fmt.Errorf("nobody leads")
	})
	return at
}

// The contract holds on three replicas, where a read may find one that is
// behind.
func TestContractCluster(t *testing.T) {
	t.Parallel()
	all := startCluster(t)
	n := 0
	storetest.Run(t, func(t *testing.T) *storetest.Harness {
		n++
		o := clusterOptions(all)
		o.Bucket = fmt.Sprintf("b%d", n)
		a, b := o, o
		a.Servers, b.Servers = o.Servers[:1], o.Servers[2:]
		h := &storetest.Harness{Store: openStore(t, a), Other: openStore(t, b), TTL: 2 * time.Second}
		answers(t, h.Store, h.Other)
		h.Reopen = func(t *testing.T) store.Store {
			must(t, h.Store.Close())
			return openStore(t, a)
		}
		return h
	})
}

// The leader of the bucket dies: writes go on with another one, and what was
// acknowledged is there.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	all := startCluster(t)
	a := openStore(t, clusterOptions(all))
	answers(t, a)
	put(t, a, "/t/a", "1")
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	dead := leader(t, all)
	all[dead].kill()
	began := time.Now()
	eventually(t, "a write", func() error {
		_, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte("2")), store.Put("/t/b", []byte("2")))
		return err
	})
	within(t, "written by another leader", began, 10*time.Second)
	f.has("/t/b", "2")
	within(t, "told by another leader", began, 15*time.Second)
	all[dead].start(t)
	put(t, a, "/t/a", "3")
	f.has("/t/a", "3")
}

// Without a quorum nothing is written, what was known stays known, and when
// it is back so is the newest value.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	all := startCluster(t)
	a := openStore(t, clusterOptions(all))
	answers(t, a)
	put(t, a, "/t/a", "1")
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	all[0].kill()
	all[1].kill()
	if _, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte("2"))); err == nil {
		t.Error("written without a quorum")
	}
	if got := fmt.Sprint(f.values()); got != "map[/t/a:1]" {
		t.Errorf("the watch says %s", got)
	}
	all[0].start(t)
	all[1].start(t)
	began := time.Now()
	eventually(t, "a write", func() error {
		_, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte("3")))
		return err
	})
	f.has("/t/a", "3")
	within(t, "told by the quorum", began, 15*time.Second)
}
