package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
	"pgregory.net/rapid"
)

// act is one thing that happens to a fleet of two nodes.
type act struct {
	Op   string
	Node int
	N    int
	Wait time.Duration
}

func (a act) String() string { return fmt.Sprintf("%s(node %d, %d) %v", a.Op, a.Node, a.N, a.Wait) }

// script draws what happens. Everything is drawn before it is played, as rapid
// must not be used inside a bubble.
func script() *rapid.Generator[[]act] {
	ops := []string{
		"set", "set", "set", "record", "cut", "heal", "heal", "refuse", "restart agent", "restart agent", "boot",
		"expire", "wipe", "restart store", "break", "mend", "mend", "drain", "undrain", "undrain", "delete", "garbage", "back up", "restore",
	}
	one := rapid.Custom(func(t *rapid.T) act {
		return act{
			Op:   rapid.SampledFrom(ops).Draw(t, "op"),
			Node: rapid.IntRange(0, 1).Draw(t, "node"),
			N:    rapid.IntRange(0, 15).Draw(t, "n"),
			Wait: rapid.SampledFrom([]time.Duration{0, 0, 0, time.Millisecond, time.Second, 7 * time.Second, time.Minute, 20 * time.Minute}).Draw(t, "wait"),
		}
	})
	return rapid.SliceOfN(one, 1, 30)
}

// services draws what a node offers from the bits of n.
func services(n int) (all []Service) {
	if n&1 != 0 {
		all = append(all, exclusive(checked(api())))
	}
	if n&2 != 0 {
		s := Service{ID: "www", Ready: n&4 != 0, Offers: map[string]store.Provider{"WWW_URL": offer(fmt.Sprintf("http://x/%d", n))}}
		if n&8 != 0 {
			s.Offers["OTHER_URL"] = offer("http://other/")
		}
		all = append(all, s)
	}
	return all
}

type player struct {
	*node
	offers int
	boots  int
	up     bool // its checks pass
}

type game struct {
	*fleet
	nodes   []*player
	setBack func()
	// problems are kept until the bubble is over: rapid plays on after a failure.
	problems []string
}

func (g *game) problem(format string, args ...any) {
	g.problems = append(g.problems, fmt.Sprintf(format, args...))
}

func (g *game) play(a act) {
	n := g.nodes[a.Node]
	ctx := context.Background()
	var err error
	switch a.Op {
	case "set":
		n.offers = a.N
		n.p.Set(services(a.N))
	case "record":
		n.p.SetNode(store.NodeRecord{Version: "1", AgentState: "up", Revision: uint64(a.N)})
	case "cut":
		n.client().Cut()
	case "heal":
		n.client().Heal()
		n.client().Refuse(nil)
	case "refuse":
		n.client().Refuse([]error{store.ErrUnavailable, store.ErrPermission, store.ErrConflict}[a.N%3])
	case "restart agent", "boot":
		n.end()
		if a.Op == "boot" {
			n.boots++
			n.o.BootID = fmt.Sprintf("boot-%d", n.boots)
		}
		n.start(services(n.offers)...)
	case "expire":
		g.m.ExpireSessions()
	case "wipe":
		g.m.Wipe()
	case "restart store":
		g.m.Restart()
	case "break":
		n.up = false
		n.finds(errors.New("broken"))
	case "mend":
		n.up = true
		n.finds(nil)
	case "drain":
		err = n.p.Drain(ctx, "ann", "", false)
	case "undrain":
		_, err = n.p.Undrain(ctx)
	case "delete":
		_, err = g.m.Commit(ctx, nil, store.Delete(n.path("WWW_URL", "www")), store.Delete(space.Node(n.o.Node)))
	case "garbage":
		var by store.Session // of somebody who dies soon
		if by, err = g.m.Session(ctx, look, ""); err == nil {
			_, err = g.m.Commit(ctx, nil, store.PutSession(n.path("WWW_URL", "www"), []byte("garbage"), by))
			by.Orphan()
		}
	case "back up":
		g.setBack = g.m.Snapshot()
	case "restore":
		if g.setBack != nil {
			g.setBack()
		}
	}
	if err != nil {
		g.problem("%v", err)
	}
	synctest.Wait()
	time.Sleep(a.Wait)
}

// settle lets everything come back, and waits for as long as that may take.
func (g *game) settle() {
	for _, n := range g.nodes {
		n.client().Heal()
		n.client().Refuse(nil)
	}
	time.Sleep(3*ttl + 2*look)
	synctest.Wait()
}

// check compares the store with what is wanted.
func (g *game) check() {
	kvs, _, err := g.m.List(context.Background(), space.Key("provides")+"/")
	if err != nil {
		g.Fatal(err)
	}
	held := map[string]store.Provider{}
	for _, kv := range kvs {
		p, err := store.DecodeProvider(kv.Value)
		if err != nil {
			g.problem("%s: %v", kv.Key, err)
		}
		held[kv.Key] = p
	}
	holders := 0
	for _, n := range g.nodes {
		kv, err := g.m.Get(context.Background(), space.Node(n.o.Node))
		if err != nil {
			g.problem("node %s: %v", n.o.Node, err)
		} else if want := n.p.Status().Incarnation; want == 0 || !bytes.Contains(kv.Value, []byte(n.o.MachineID)) {
			g.problem("node %s: incarnation %d, record %s", n.o.Node, want, kv.Value)
		}
		holders += g.checkNode(n, held)
	}
	if wanted := g.candidates(); (wanted > 0) != (holders == 1) || holders > 1 {
		g.problem("%d hold the claim, %d could", holders, wanted)
	}
	for path, p := range held {
		if p.State != store.Left {
			g.problem("%s is %s: nobody offers it", path, p.State)
		}
	}
	g.checkTickets()
}

func (g *game) candidates() (n int) {
	for _, p := range g.nodes {
		if p.offers&1 != 0 && p.up && p.p.Status().Drain == nil {
			n++
		}
	}
	return n
}

// checkNode takes from held what n shall have, and returns how often it holds
// the exclusive key.
func (g *game) checkNode(n *player, held map[string]store.Provider) (holds int) {
	drained := n.p.Status().Drain != nil
	for _, s := range services(n.offers) {
		for key, offer := range s.Offers {
			path := n.path(key, s.ID)
			p := held[path]
			delete(held, path)
			states := []store.State{store.Up}
			switch {
			case drained:
				states = []store.State{store.Left, ""}
			case !s.Ready: // whatever it was while it was ready
				states = []store.State{store.Up, store.Left, ""}
			case s.Check != nil && !n.up:
				states = []store.State{store.Down, store.Left, ""}
			case s.Check != nil:
				states = []store.State{store.Up, store.Standby}
			}
			if !slices.Contains(states, p.State) {
				g.problem("%s is %q, want one of %q", path, p.State, states)
			}
			if p.State != store.Left && p.State != "" && (p.Value != offer.Value || p.Incarnation != n.p.Status().Incarnation) {
				g.problem("%s is %+v, want %q of incarnation %d", path, p, offer.Value, n.p.Status().Incarnation)
			}
			if s.Exclusive != nil && p.State == store.Up {
				holds++
			}
		}
	}
	return holds
}

func (g *game) checkTickets() {
	most := 0
	for _, p := range g.nodes {
		if p.offers&1 != 0 {
			most++
		}
	}
	if got := g.tickets(); len(got) > most {
		g.problem("%d tickets for %d services: %v", len(got), most, got)
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		acts := script().Draw(rt, "script")
		var problems []string
		synctest.Test(t, func(t *testing.T) {
			g := &game{fleet: newFleet(t)}
			for _, name := range []string{"web1", "web2"} {
				p := &player{node: g.node(name), up: true}
				p.start()
				g.nodes = append(g.nodes, p)
			}
			for _, a := range acts {
				g.play(a)
			}
			g.settle()
			g.check()
			before := g.seen.count()
			time.Sleep(10 * look)
			if got := g.seen.count() - before; got > 0 && !g.leaving() {
				g.problem("%d writes although nothing differs", got)
			}
			problems = g.problems
		})
		if len(problems) > 0 {
			rt.Fatalf("%v\n%s", acts, strings.Join(problems, "\n"))
		}
	})
}

// leaving reports whether entries that left may vanish now, which is a write
// of the store's own.
func (g *game) leaving() bool {
	for path := range g.seen.states {
		h := g.seen.states[path]
		if slices.Contains(h, store.Left) {
			return true
		}
	}
	return false
}
