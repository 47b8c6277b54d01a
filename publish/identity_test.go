package publish

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
)

func TestNameTaken(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		first := fl.node("web1")
		first.start(api())
		second := fl.node("web1")
		second.o.MachineID, second.o.AntiEntropy = "another", 24*time.Hour
		second.start(Service{ID: "other", Ready: true, Offers: map[string]store.Provider{"OTHER_URL": offer("http://x/")}})
		before := fl.seen.count()
		time.Sleep(10 * look)
		second.condition("node name taken", true)
		fl.is(second.path("OTHER_URL", "other"), "")
		if fl.seen.count() != before {
			t.Error("a node whose name is taken wrote something")
		}
		first.end()
		time.Sleep(2 * ttl) // sooner than the next comparison
		fl.is(second.path("OTHER_URL", "other"), store.Up)
		second.condition("node name taken", false)

		// It comes back, and is the one that has to wait.
		first.start(api())
		first.condition("node name taken", true)
		time.Sleep(look)
		fl.is(first.path("API_URL", "api"), "")
	})
}

// Somebody else's record over ours: we go.
func TestNameLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		other := store.NodeRecord{MachineID: "another"}
		if _, err := fl.m.Commit(fl.Context(), nil, store.Put(space.Node("web1"), other.Encode())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(look + look/10)
		fl.is(n.path("API_URL", "api"), "")
		n.condition("node name taken", true)
		if _, err := fl.m.Commit(fl.Context(), nil, store.Delete(space.Node("web1"))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(ttl)
		fl.is(n.path("API_URL", "api"), store.Up)
	})
}

// An incarnation above the store's revision is of a store that was set back.
func TestImpossibleIncarnation(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		p := offer("http://old/")
		p.State, p.Incarnation = store.Up, 1000
		if _, err := fl.m.Commit(fl.Context(), nil, store.Put(n.path("API_URL", "api"), p.Encode())); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		if e := fl.entry(n.path("API_URL", "api")); e.Value == p.Value || e.Incarnation >= 1000 {
			t.Errorf("entry is %+v", e)
		}
	})
}

// before does something just before the next commit that writes key.
type before struct {
	store.Store
	key string
	do  func()
}

func (b *before) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	for _, op := range ops {
		if op.Key == b.key && b.do != nil {
			do := b.do
			b.do = nil
			do()
		}
	}
	return b.Store.Commit(ctx, conds, ops...)
}

// A later publisher writes between our read and our write.
func TestLowerIncarnationRace(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		later := offer("http://later/")
		n.o.Store = &before{n.o.Store, n.path("API_URL", "api"), func() {
			rev, err := fl.m.Commit(fl.Context(), nil, store.Put("/elsewhere", nil))
			later.State, later.Incarnation = store.Up, rev
			if err == nil {
				_, err = fl.m.Commit(fl.Context(), nil, store.Put(n.path("API_URL", "api"), later.Encode()))
			}
			if err != nil {
				t.Error(err)
			}
		}}
		n.start(api())
		time.Sleep(3 * look)
		if e := fl.entry(n.path("API_URL", "api")); e.Value != "http://later/" {
			t.Errorf("entry is %+v", e)
		}
		n.condition("superseded", true)
	})
}

// A ticket goes between our look at the queue and our write.
func TestTicketRace(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		var gone uint64
		n.o.Store = &before{n.o.Store, n.path("API_URL", "api"), func() {
			kvs, _, err := fl.m.List(fl.Context(), space.Key("locks")+"/")
			if err != nil || len(kvs) != 1 {
				t.Errorf("tickets %v, %v", kvs, err)
				return
			}
			gone = kvs[0].Created
			if _, err := fl.m.Commit(fl.Context(), nil, store.Delete(kvs[0].Key)); err != nil {
				t.Error(err)
			}
		}}
		n.start(exclusive(api()))
		fl.is(n.path("API_URL", "api"), "")
		time.Sleep(longestPause)
		e, tickets := fl.entry(n.path("API_URL", "api")), fl.tickets()
		if e.State != store.Up || e.Claim <= gone || len(tickets) != 1 || tickets[0].Created != e.Claim {
			t.Errorf("entry is %+v, tickets %v; the first had %d", e, tickets, gone)
		}
	})
}

// A backup that is restored brings back what left, under a session that lives.
func TestRestore(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(exclusive(api()))
		setBack := fl.m.Snapshot()
		n.p.Set(nil)
		fl.is(n.path("API_URL", "api"), store.Left)
		time.Sleep(3 * leftFor)
		setBack()
		fl.is(n.path("API_URL", "api"), store.Up)
		time.Sleep(look + look/10)
		fl.is(n.path("API_URL", "api"), store.Left)
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
		notReady := api()
		notReady.Ready = false
		n.p.Set([]Service{notReady}) // offered again, and not provisioned yet
		synctest.Wait()
		setBack()
		time.Sleep(look + look/10)
		fl.is(n.path("API_URL", "api"), store.Left)
	})
}

// Another process of the same machine takes over; the first one yields.
func TestLowerIncarnation(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		first := fl.node("web1")
		first.start(api())
		second := fl.node("web1") // same machine, another state directory
		s := api()
		s.Offers["API_URL"] = offer("http://second/")
		second.start(s)
		e := fl.entry(second.path("API_URL", "api"))
		if e.Value != "http://second/" {
			t.Fatalf("entry is %+v", e)
		}
		changed := api()
		changed.Offers["API_URL"] = offer("http://changed/")
		first.p.Set([]Service{changed})
		time.Sleep(5 * look)
		if now := fl.entry(second.path("API_URL", "api")); now.Value != "http://second/" || now.Incarnation != e.Incarnation {
			t.Errorf("entry is %+v", now)
		}
		first.condition("superseded", true)
		first.p.Set(nil)
		time.Sleep(look)
		fl.is(second.path("API_URL", "api"), store.Up)
		first.p.Set([]Service{changed})
		second.end()
		time.Sleep(3 * ttl)
		if now := fl.entry(second.path("API_URL", "api")); now.Value != "http://changed/" {
			t.Errorf("entry is %+v", now)
		}
		first.condition("superseded", false)
	})
}

// What publish.json says is older than what the store holds: a process had
// another session since, and died before it could note it.
func TestForgottenIncarnation(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		file := filepath.Join(n.o.StateDir, "publish.json")
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n.end()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		n.end()
		if err := os.WriteFile(file, old, 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		time.Sleep(ttl)
		fl.is(n.path("API_URL", "api"), store.Up)
		time.Sleep(10 * look)
		fl.is(n.path("API_URL", "api"), store.Up)
		n.condition("superseded", false)
	})
}
