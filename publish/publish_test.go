package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		got := fl.entry(n.path("API_URL", "api"))
		kv, err := fl.m.Get(context.Background(), space.Node("web1"))
		if err != nil {
			t.Fatal(err)
		}
		want := offer("http://10.0.0.1:8080/")
		want.State, want.Incarnation = store.Up, kv.Created
		if string(got.Encode()) != string(want.Encode()) {
			t.Errorf("entry is\n%s, want\n%s", got.Encode(), want.Encode())
		}
		r, _ := fl.record("web1")
		if r.MachineID != "machine-web1" || r.BootID != "boot-1" || r.Region != "r1" || r.AgentState != "up" {
			t.Errorf("record is %+v", r)
		}
		s := n.p.Status()
		if len(s.Published) != 1 || s.Published[0].State != "up" || s.Published[0].Error != "" || s.Session == "" {
			t.Errorf("status is %+v", s)
		}
		time.Sleep(10 * look)
		if n := fl.seen.count(); n != 2 {
			t.Errorf("%d writes, want one for the record and one for the entry", n)
		}
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		service Service
	}{{"no check", api()}, {"check", checked(api())}, {"exclusive", exclusive(checked(api()))}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(fl *fleet) {
				n := fl.node("web1")
				n.start(tc.service)
				time.Sleep(time.Minute)
				fl.is(n.path("API_URL", "api"), store.Up)
				before, first := fl.seen.count(), n.p.Status()
				for range 3 {
					n.end()
					time.Sleep(ttl / 2)
					n.launch()
					n.p.SetNode(store.NodeRecord{Version: "1", AgentState: "up"})
					time.Sleep(ttl) // nobody told it yet what it offers: nothing is withdrawn
					notReady := tc.service
					notReady.Ready = false
					n.p.Set([]Service{notReady})
					time.Sleep(3 * look)
				}
				s := n.p.Status()
				if s.Session != first.Session || s.Incarnation != first.Incarnation {
					t.Errorf("session %s, incarnation %d; was %s, %d", s.Session, s.Incarnation, first.Session, first.Incarnation)
				}
				if s.Published[0].Since.IsZero() || s.Published[0].State != "up" {
					t.Errorf("status is %+v", s.Published[0])
				}
				if got := fl.seen.count() - before; got != 0 {
					t.Errorf("%d writes after restarts, want none", got)
				}
				if got := fl.seen.history(n.path("API_URL", "api")); !slices.Equal(got, []store.State{store.Up}) {
					t.Errorf("others saw %q", got)
				}
			})
		})
	}
}

// A process that comes back late, or after a boot, has another incarnation.
func TestNewIncarnation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		away time.Duration
		boot string
	}{{"after the session's end", 3 * ttl, "boot-1"}, {"after a boot", ttl / 3, "boot-2"}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(fl *fleet) {
				n := fl.node("web1")
				n.start(api())
				first := fl.entry(n.path("API_URL", "api")).Incarnation
				n.end()
				time.Sleep(tc.away)
				n.o.BootID = tc.boot
				n.start(api())
				time.Sleep(2 * ttl) // the old session, if there is one, ends
				e := fl.entry(n.path("API_URL", "api"))
				if e.State != store.Up || e.Incarnation <= first {
					t.Errorf("state %q, incarnation %d after %d", e.State, e.Incarnation, first)
				}
			})
		})
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		waiting := api()
		waiting.Ready = false
		n.start(waiting)
		fl.is(n.path("API_URL", "api"), "")
		if s := n.p.Status(); s.Published[0].Why != "not provisioned yet" || s.Published[0].Want != "" {
			t.Errorf("status is %+v", s.Published[0])
		}
		n.p.Set([]Service{api()})
		fl.is(n.path("API_URL", "api"), store.Up)
		n.p.Set([]Service{waiting}) // a later step failed
		time.Sleep(2 * look)
		fl.is(n.path("API_URL", "api"), store.Up)
	})
}

func TestChangeAndWithdrawal(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		s := api()
		s.Offers["OLD_URL"] = offer("http://10.0.0.1/old")
		n.start(s)
		s = api()
		s.Offers["API_URL"] = offer("http://10.0.0.1:9090/")
		n.end() // the manifest changes while the agent is away
		n.start(s)
		if e := fl.entry(n.path("API_URL", "api")); e.Value != "http://10.0.0.1:9090/" || e.State != store.Up {
			t.Errorf("entry is %+v", e)
		}
		fl.is(n.path("OLD_URL", "api"), store.Left)
		time.Sleep(leftFor - time.Second)
		fl.is(n.path("OLD_URL", "api"), store.Left)
		if e := fl.entry(n.path("OLD_URL", "api")); e.Value == "" {
			t.Error("who left has no value any more")
		}
		time.Sleep(leftFor + 2*time.Second)
		fl.is(n.path("OLD_URL", "api"), "")
		if got := fl.seen.history(n.path("OLD_URL", "api")); !slices.Equal(got, []store.State{store.Up, store.Left, ""}) {
			t.Errorf("others saw %q", got)
		}
		if got := n.p.Status().Published; len(got) != 1 {
			t.Errorf("status still has %+v", got)
		}
		n.p.Set(nil)
		fl.is(n.path("API_URL", "api"), store.Left)
		n.p.Set([]Service{s})
		fl.is(n.path("API_URL", "api"), store.Up)
		time.Sleep(3 * leftFor)
		fl.is(n.path("API_URL", "api"), store.Up)
	})
}

// Entries come back within ttl and anti-entropy, whatever became of the store.
func TestLoss(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*fleet, *node){
		"session expired": func(fl *fleet, _ *node) { fl.m.ExpireSessions() },
		"wiped":           func(fl *fleet, _ *node) { fl.m.Wipe() },
		"restarted":       func(fl *fleet, _ *node) { fl.m.Restart() },
		"revision lower":  func(fl *fleet, _ *node) { fl.m.SetRevision(1) },
		"cut for long": func(_ *fleet, n *node) {
			n.client().Cut()
			time.Sleep(3 * ttl)
			n.condition("publish failing", true)
			n.client().Heal()
		},
		"entry deleted": func(fl *fleet, n *node) {
			if _, err := fl.m.Commit(context.Background(), nil, store.Delete(n.path("API_URL", "api"))); err != nil {
				fl.Fatal(err)
			}
		},
		"entry overwritten": func(fl *fleet, n *node) {
			if _, err := fl.m.Commit(context.Background(), nil, store.Put(n.path("API_URL", "api"), []byte("{")), store.Put(space.Node("web1"), nil)); err != nil {
				fl.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(fl *fleet) {
				n := fl.node("web1")
				n.start(exclusive(api()))
				harm(fl, n)
				time.Sleep(ttl + look)
				fl.is(n.path("API_URL", "api"), store.Up)
				if r, _ := fl.record("web1"); r.MachineID != "machine-web1" {
					t.Errorf("record is %+v", r)
				}
				if got := n.conditions(); len(got) > 0 {
					t.Errorf("conditions are %q", got)
				}
			})
		})
	}
}

func TestPermission(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.client().Refuse(store.ErrPermission)
		n.start(api())
		time.Sleep(look)
		n.condition("permission denied", true)
		n.client().Refuse(nil)
		time.Sleep(longestPause)
		fl.is(n.path("API_URL", "api"), store.Up)
		n.client().Refuse(store.ErrUnavailable)
		changed := api()
		changed.Offers["API_URL"] = offer("http://changed/")
		n.p.Set([]Service{changed})
		time.Sleep(look)
		n.condition("publish failing", true)
		n.client().Refuse(nil)
		time.Sleep(longestPause)
		if e := fl.entry(n.path("API_URL", "api")); e.Value != "http://changed/" {
			t.Errorf("entry is %+v", e)
		}
		n.condition("publish failing", false)
	})
}

// denying refuses one key.
type denying struct {
	store.Store
	key string
}

func (d denying) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	for _, op := range ops {
		if op.Key == d.key {
			return 0, store.ErrPermission
		}
	}
	return d.Store.Commit(ctx, conds, ops...)
}

// One entry that is refused spoils only itself.
func TestOneBadEntry(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.o.Store = denying{n.o.Store, n.path("DENIED_URL", "api")}
		s := api()
		s.Offers["DENIED_URL"] = offer("http://denied/")
		s.Offers["BAD_URL"] = offer("two\nlines")
		s.Offers["BIG_URL"] = offer(string(make([]byte, 0, 1)) + string(slices.Repeat([]byte("x"), 1<<20)))
		for i := range 150 {
			s.Offers["KEY_"+string(rune('A'+i/26))+string(rune('A'+i%26))] = offer("http://many/")
		}
		n.start(s)
		fl.is(n.path("API_URL", "api"), store.Up)
		fl.is(n.path("KEY_FA", "api"), store.Up)
		for key, condition := range map[string]string{"DENIED_URL": "permission denied", "BAD_URL": "entry refused", "BIG_URL": "entry refused"} {
			fl.is(n.path(key, "api"), "")
			found := false
			for _, c := range n.p.Status().Conditions {
				found = found || c.Key == key && c.Name == condition && c.Service == "api"
			}
			for _, p := range n.p.Status().Published {
				found = found && (p.Key != key || p.Error != "")
			}
			if !found {
				t.Errorf("%s: nothing says %q", key, condition)
			}
		}
	})
}

func TestRecord(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start()
		before := fl.seen.count()
		for i := range 100 {
			n.p.SetNode(store.NodeRecord{Version: "1", AgentState: "up", Revision: uint64(i)})
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(recordEvery)
		if got := fl.seen.count() - before; got < 4 || got > 6 {
			t.Errorf("%d writes in 10 s", got)
		}
		if r, _ := fl.record("web1"); r.Revision != 99 {
			t.Errorf("record is %+v", r)
		}
	})
}

// Nodes whose runs end at the same moment do not write at the same moment.
func TestRecordsOfAFleetAreSpread(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		var nodes []*node
		for i := range 30 {
			n := fl.node(fmt.Sprintf("web%d", i))
			n.start()
			nodes = append(nodes, n)
		}
		time.Sleep(time.Minute)
		before := fl.seen.count()
		for _, n := range nodes {
			n.p.SetNode(store.NodeRecord{Version: "1", AgentState: "up", Run: "1"})
		}
		time.Sleep(recordEvery / 2)
		if got := fl.seen.count() - before; got < 1 || got > 29 {
			t.Errorf("%d of 30 records are written within half the time", got)
		}
		time.Sleep(recordEvery / 2)
		if got := fl.seen.count() - before; got != 30 {
			t.Errorf("%d of 30 records are written", got)
		}
	})
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		dir := n.o.StateDir
		n.o.StateDir = filepath.Join(dir, "missing")
		n.start(api())
		fl.is(n.path("API_URL", "api"), store.Up)
		n.condition("publish state", true)
		if err := n.p.Drain(context.Background(), "me", "", false); err == nil {
			t.Error("a drain that cannot be kept is no error")
		}
		n.end()
		n.o.StateDir = dir
		if err := os.WriteFile(filepath.Join(dir, "publish.json"), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		n.condition("publish state", false)
		fl.is(n.path("API_URL", "api"), store.Up)
		info, err := os.Stat(filepath.Join(dir, "publish.json"))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("publish.json: %v, %v", info, err)
		}
		n.end()
	})
}

func TestChanged(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		told := 0
		n.o.Changed = func() { told++ }
		n.start(checked(api()))
		time.Sleep(time.Minute)
		synctest.Wait()
		if told == 0 {
			t.Error("never told of a change")
		}
		before := told
		time.Sleep(10 * look)
		synctest.Wait()
		if told != before {
			t.Errorf("told %d times that nothing changed", told-before)
		}
		n.end()
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		for name, harm := range map[string]func(*Options){
			"store":    func(o *Options) { o.Store = nil },
			"node":     func(o *Options) { o.Node = "" },
			"machine":  func(o *Options) { o.MachineID = "" },
			"boot":     func(o *Options) { o.BootID = "" },
			"ttl":      func(o *Options) { o.TTL = 0 },
			"interval": func(o *Options) { o.Check.Interval = 0 },
			"compare":  func(o *Options) { o.AntiEntropy = 0 },
		} {
			o := fl.options("web1")
			harm(&o)
			if _, err := New(o); err == nil {
				t.Errorf("%s: no error", name)
			} else if name == "ttl" && !errors.Is(err, store.ErrInvalid) {
				t.Errorf("ttl: %v", err)
			}
		}
	})
}
