package publish

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// forgetful is a store whose sessions of entries that leave are gone from its
// side, while their holders do not know yet.
type forgetful struct {
	store.Store
	forget bool
	asked  int
}

func (s *forgetful) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	if ttl == leftFor {
		s.asked++
	}
	return s.Store.Session(ctx, ttl, resume)
}

func (s *forgetful) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	if s.forget && s.asked == 1 {
		for _, op := range ops {
			if strings.Contains(string(op.Value), `"left"`) {
				return 0, store.ErrSession
			}
		}
	}
	return s.Store.Commit(ctx, conds, ops...)
}

// The session of entries that leave is started anew when the store lost it,
// whether or not that is known here.
func TestTheSessionOfLeaversIsLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.o.Store = &forgetful{Store: n.o.Store, forget: true}
		n.start(api())
		path := n.path("API_URL", "api")
		n.p.Set([]Service{})
		time.Sleep(time.Minute)
		fl.is(path, store.Left)
	})
}

// What another node says of itself does not drive a terminal.
func TestTheHolderOfAClaimIsPlain(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		ticket := space.Key("locks", "claim-API_URL", "r1", "n\x1b[2J\n"+strings.Repeat("x", 150), "api", "1")
		if _, err := fl.m.Commit(context.Background(), nil, store.Put(ticket, nil)); err != nil {
			t.Fatal(err)
		}
		n := fl.node("web1")
		n.start(exclusive(api()))
		fl.is(n.path("API_URL", "api"), store.Standby)
		for _, e := range n.p.Status().Published {
			if strings.ContainsAny(e.Why, "\x1b\n") {
				t.Errorf("why is %q", e.Why)
			}
		}
	})
}

// A clock that is set back while a node drains does not make the drain longer:
// it goes by the time since it began, also after a restart. (In a bubble there
// is no monotonic clock.)
func TestADrainGoesByTheMonotonicClock(t *testing.T) {
	t.Parallel()
	o := Options{
		Store: storetest.NewMemory(), Space: space, Node: "web1", Region: "r1", MachineID: "m", BootID: "b",
		StateDir: t.TempDir(), TTL: ttl, AntiEntropy: look, DrainWait: wait,
		Check: CheckSettings{Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
	}
	for range 2 {
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Drain(t.Context(), "ann", "", false); err != nil {
			t.Fatal(err)
		}
		if since := p.wanted().drain.Since; !strings.Contains(since.String(), " m=") {
			t.Errorf("it drains since %v, which is wall time only", since)
		}
	}
}

// An entry that expired before it could be withdrawn is withdrawn when the
// store is back: that nobody is to miss it only this node can say.
func TestWhatExpiredBeforeItLeftLeaves(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(n *node){
		"drained": func(n *node) { n.drain(n.fl.T) },
		"removed": func(n *node) { n.p.Set([]Service{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(fl *fleet) {
				n := fl.node("web1")
				n.start(api())
				path := n.path("API_URL", "api")
				n.client().Cut()
				leave(n)
				time.Sleep(3 * ttl)
				fl.is(path, "")
				n.client().Heal()
				time.Sleep(ttl)
				fl.is(path, store.Left)
				time.Sleep(3 * leftFor) // once
				fl.is(path, "")
				if got := fl.seen.history(path); !slices.Equal(got, []store.State{store.Up, "", store.Left, ""}) {
					t.Errorf("others saw %q", got)
				}
			})
		})
	}
}
