package publish

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
)

// states returns those of API_URL of the nodes.
func states(nodes ...*node) (all []store.State) {
	for _, n := range nodes {
		all = append(all, n.fl.entry(n.path("API_URL", "api")).State)
	}
	return all
}

func (fl *fleet) are(want string, nodes ...*node) {
	fl.Helper()
	got := ""
	for i, s := range states(nodes...) {
		if i > 0 {
			got += " "
		}
		got += string(s)
	}
	if got != want {
		fl.Errorf("nodes are %q, want %q", got, want)
	}
}

// three starts nodes that offer an exclusive key, one after the other.
func three(fl *fleet, s Service) (a, b, c *node) {
	all := []*node{fl.node("a"), fl.node("b"), fl.node("c")}
	for _, n := range all {
		n.start(s)
		time.Sleep(time.Minute)
	}
	return all[0], all[1], all[2]
}

func (fl *fleet) tickets() []store.KV {
	fl.Helper()
	synctest.Wait()
	kvs, _, err := fl.m.List(context.Background(), space.Key("locks", "claim-API_URL")+"/")
	if err != nil {
		fl.Fatal(err)
	}
	return kvs
}

func TestExclusive(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b, c := three(fl, exclusive(api()))
		fl.are("up standby standby", a, b, c)
		first := fl.entry(a.path("API_URL", "api")).Claim
		if s := b.p.Status().Published[0]; s.Why != "the claim is held by a/api" || s.State != "standby" {
			t.Errorf("status is %+v", s)
		}
		a.end() // dies
		time.Sleep(ttl + time.Second)
		fl.are(" up standby", a, b, c)
		second := fl.entry(b.path("API_URL", "api")).Claim
		if first == 0 || second <= first {
			t.Errorf("claims are %d, then %d", first, second)
		}
		if got := b.p.Status().Published[0].Claim; got != second {
			t.Errorf("status says claim %d, not %d", got, second)
		}
		a.start(exclusive(api())) // comes back, at the end
		fl.are("standby up standby", a, b, c)

		b.p.Set(nil) // does not offer it any more
		fl.are("standby left up", a, b, c)
		if got := len(fl.tickets()); got != 2 {
			t.Errorf("%d tickets for two nodes", got)
		}
	})
}

// A holder whose check falls lets go, and is the last in the queue when it rises.
func TestExclusiveDown(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b, c := three(fl, exclusive(checked(api())))
		a.finds(errors.New("broken"))
		time.Sleep(time.Minute)
		fl.are("down up standby", a, b, c)
		a.finds(nil)
		time.Sleep(time.Minute)
		fl.are("standby up standby", a, b, c)
		b.drain(t)
		fl.are("standby draining up", a, b, c)
		c.drain(t)
		fl.are("up draining draining", a, b, c)
		a.drain(t)
		time.Sleep(wait)
		fl.are("left left left", a, b, c)
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
	})
}

// At no revision of the store are two nodes up.
func TestExclusiveNeverTwo(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		most := 0
		updates := fl.m.Dial().Watch(fl.Context(), space.Providers("API_URL"))
		go func() {
			live := map[string]bool{}
			for u := range updates {
				if u.Kind == store.Reset {
					clear(live)
				}
				for _, kv := range u.KVs {
					p, err := store.DecodeProvider(kv.Value)
					live[kv.Key] = err == nil && p.State == store.Up
				}
				for _, g := range u.Gone {
					delete(live, g.Key)
				}
				n := 0
				for _, is := range live {
					if is {
						n++
					}
				}
				most = max(most, n)
			}
		}()
		a, b, c := three(fl, exclusive(checked(api())))
		for range 3 {
			for _, n := range []*node{a, b, c} {
				n.client().Cut()
				time.Sleep(2 * ttl)
				n.client().Heal()
				time.Sleep(longestPause)
				n.finds(errors.New("broken"))
				time.Sleep(time.Minute)
				n.finds(nil)
				n.end()
				n.start(exclusive(checked(api())))
				fl.m.Restart()
				time.Sleep(time.Minute)
			}
		}
		for _, n := range []*node{a, b, c} {
			n.end()
		}
		synctest.Wait()
		if most != 1 {
			t.Errorf("at most %d were up at once, want 1", most)
		}
	})
}

// An operator removes the holder's ticket: the next one takes over.
func TestTicketRemoved(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b, c := three(fl, exclusive(api()))
		before := fl.tickets()
		if _, err := fl.m.Commit(fl.Context(), nil, store.Delete(before[0].Key)); err != nil {
			t.Fatal(err)
		}
		fl.are("standby up standby", a, b, c)
	})
}

// The holder lets go and queues again while the waiter sees nothing: there is
// a ticket of that name before and after, but now the waiter is the first.
func TestTicketTakenAgain(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b := fl.node("a"), fl.node("b")
		a.o.AntiEntropy, b.o.AntiEntropy = 24*time.Hour, 24*time.Hour // no look that nobody asked for
		for _, n := range []*node{a, b} {
			n.start(exclusive(checked(api())))
			time.Sleep(time.Minute)
		}
		fl.are("up standby", a, b)
		b.client().Cut()
		a.finds(errors.New("broken"))
		time.Sleep(16 * time.Second) // it falls
		fl.are("down standby", a, b)
		a.finds(nil)
		time.Sleep(11 * time.Second) // and rises, in less than a ttl
		fl.are("standby standby", a, b)
		b.client().Heal()
		fl.are("standby up", a, b)
	})
}

// A waiter watches the ticket before its own: one end wakes one of them.
func TestNoHerd(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b, c := three(fl, exclusive(api()))
		lists := &counting{Store: c.o.Store}
		c.end()
		c.o.Store, c.o.AntiEntropy = lists, 24*time.Hour
		c.start(exclusive(api()))
		synctest.Wait()
		before := lists.lists
		a.end()
		time.Sleep(ttl + time.Second)
		fl.are(" up standby", a, b, c)
		if got := lists.lists - before; got > 0 {
			t.Errorf("the last in the queue looked %d times", got)
		}
	})
}

type counting struct {
	store.Store
	lists int
}

func (c *counting) List(ctx context.Context, prefix string) ([]store.KV, uint64, error) {
	c.lists++
	return c.Store.List(ctx, prefix)
}

// A process that another one of its node replaced does not sit on the claim.
func TestSupersededLetsGo(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		first := fl.node("a")
		first.start(exclusive(api()))
		second := fl.node("a") // same machine, another state directory
		second.start(exclusive(api()))
		time.Sleep(2 * look)
		first.condition("superseded", true)
		if e := fl.entry(second.path("API_URL", "api")); e.State != store.Up || e.Incarnation != second.p.Status().Incarnation {
			t.Errorf("entry is %+v", e)
		}
		if got := fl.tickets(); len(got) != 1 {
			t.Errorf("tickets: %v", got)
		}
	})
}

// Who may not write its entry does not keep others from it.
func TestRefusedLetsGo(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a, b := fl.node("a"), fl.node("b")
		a.o.Store = denying{a.o.Store, a.path("API_URL", "api")}
		a.start(exclusive(api()))
		a.condition("permission denied", true)
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
		b.start(exclusive(api()))
		time.Sleep(2 * look)
		fl.are(" up", a, b)
	})
}

// A key that stops being exclusive, and a manifest that goes while the agent
// is away, give their tickets back.
func TestTicketsGivenBack(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		a := fl.node("a")
		a.start(exclusive(api()))
		a.p.Set([]Service{api()})
		if e := fl.entry(a.path("API_URL", "api")); e.State != store.Up || e.Claim != 0 {
			t.Errorf("entry is %+v", e)
		}
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
		a.p.Set([]Service{exclusive(api())})
		if e := fl.entry(a.path("API_URL", "api")); e.State != store.Up || e.Claim == 0 {
			t.Errorf("entry is %+v", e)
		}
		a.p.Set([]Service{api()})
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
		a.p.Set([]Service{exclusive(api())})
		synctest.Wait()
		a.end()
		a.start()
		fl.are("left", a)
		if got := fl.tickets(); len(got) != 0 {
			t.Errorf("tickets left: %v", got)
		}
	})
}
