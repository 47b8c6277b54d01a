package listener

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// lagging is a store whose Watches take their time to say anything, as one
// that is asked over a network: what they say first is of long ago, and so is
// what follows.
type lagging struct {
	store.Store
	lag atomic.Int64 // nanoseconds
}

func (l *lagging) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	in, out := l.Store.Watch(ctx, prefixes...), make(chan store.Update)
	lag := time.Duration(l.lag.Load())
	go func() {
		defer close(out)
		n := 0
		for u := range in {
			if n++; n <= 2 && lag > 0 {
				select {
				case <-time.After(lag):
				case <-ctx.Done():
				}
			}
			select {
			case out <- u:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// What the watch in another federation still says when the node changes to a
// new one is nothing of that: the store has not been asked yet.
func TestAResetOfTheLastFederationSaysNothingOfTheNext(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.put("K", "one")
		n.up()
		n.wantEnv("one")
		if err := n.agent.do(t.Context(), func() {
			a := n.agent
			gen := a.watch.gen
			a.enter("other")
			a.onUpdate(tagged{gen, store.Update{Kind: store.Reset, Rev: 9}})
			if a.booted || a.view.auth || a.view.known {
				t.Error("a Reset of another federation is taken for the state of this one")
			}
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// What the present Watch tells while the next one has yet to tell its first
// state is newer than that: the store did not go back, and nothing else does.
func TestAWatchIsOvertaken(t *testing.T) {
	type world struct {
		*node
		m *storetest.Memory
		p *provider
	}
	for name, c := range map[string]struct {
		before, meanwhile func(w *world)
		env               string
		conditions        []string
		read              bool // conditions come with what is read only
	}{
		"a new value": {
			before:    func(*world) {},
			meanwhile: func(w *world) { w.put("K", "two") },
			env:       "export V_K='two'\n",
		},
		"a value that is written": {
			before:    func(w *world) { w.put("K", "one") },
			meanwhile: func(w *world) { w.put("K", "two") },
			env:       "export V_K='two'\n",
		},
		"a value that is deleted": {
			before:     func(w *world) { w.put("K", "one") },
			meanwhile:  func(w *world) { w.del("K") },
			env:        "export V_K='one'\n",
			conditions: []string{"missing K"},
		},
		"a provider that comes": {
			before:    func(*world) {},
			meanwhile: func(w *world) { w.provider("default", "a", "http://a") },
			env:       "export V_K='http://a'\n",
		},
		"a provider that leaves, and another one": {
			before: func(w *world) { w.p = w.provider("default", "a", "http://a") },
			meanwhile: func(w *world) {
				w.provider("default", "b", "http://b")
				synctest.Wait()
				if err := w.p.session.Close(w.t.Context()); err != nil {
					w.t.Fatal(err)
				}
			},
			env: "export V_K='http://b'\n",
		},
		"a regression that is accepted": {
			before: func(w *world) {
				w.put("K", "one")
				synctest.Wait()
				w.m.Wipe()
				w.put("M", "there")
				synctest.Wait()
			},
			meanwhile: func(w *world) {
				w.wantConditions("store regression")
				time.Sleep(time.Minute)
				if _, err := w.agent.Accept(w.t.Context(), ""); err != nil {
					w.t.Fatal(err)
				}
				synctest.Wait()
				w.put("M", "again")
			},
			env:        "export V_K='one'\n",
			conditions: []string{"missing K"},
			read:       true,
		},
		"the store goes back indeed": {
			before: func(w *world) { w.put("K", "zero"); w.put("K", "one") },
			meanwhile: func(w *world) {
				w.m.Wipe()
				w.put("M", "there")
			},
			env:        "export V_K='one'\n",
			conditions: []string{"store regression"},
			read:       true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
				slow := &lagging{Store: m}
				n.store = slow
				n.put("M", "there")
				n.manifest("app", requires("app", "", "K"))
				n.up()
				synctest.Wait()
				w := &world{node: n, m: m}
				c.before(w)
				synctest.Wait()
				slow.lag.Store(int64(time.Second))
				n.manifest("more", requires("more", `"command": false`, "M")) // another key to follow
				n.reload()
				c.meanwhile(w)
				runs := -1
				for i := range 40 {
					time.Sleep(100 * time.Millisecond)
					if i > 20 || !c.read {
						n.wantConditions(c.conditions...)
					}
					if got := n.env("app"); got != c.env {
						t.Fatalf("the file is %q, want %q", got, c.env)
					}
					if got := len(n.steps()); runs >= 0 && got != runs {
						t.Fatalf("%d runs, there were %d", got, runs)
					} else {
						runs = got
					}
				}
				n.put("K", "at last")
				n.wantEnv("at last")
				n.wantConditions()
			})
		})
	}
}

// replica = "all": what no service names is there, too, while the store is away.
func TestTheWholeFederationIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		n := newNode(t, m, func(c *config.Config) { c.Store.Replica = "all" })
		n.manifest("app", requires("app", "", "K"))
		n.put("K", "one")
		n.put("LATER", "later")
		n.put("GONE", "gone")
		n.put("ODD", "a line\nand more") // nobody needs it, nobody is told
		n.up()
		n.wantEnv("one")
		n.wantConditions()
		p := n.unpublished("default", "a", "http://a").says(store.Up)
		n.del("GONE")
		synctest.Wait()
		for restarted := range 2 {
			m.Cut()
			synctest.Wait()
			if restarted == 1 {
				n.stop()
				n.up()
				time.Sleep(time.Minute)
			}
			if kv, age, ok := n.agent.Replica(t.Context(), "", "LATER"); !ok || string(kv.Value) != "later" || age == 0 {
				t.Errorf("LATER is %q, %v old, %v", kv.Value, age, ok)
			}
			if _, _, ok := n.agent.Replica(t.Context(), "", "GONE"); ok {
				t.Error("GONE is there")
			}
			id := []string{"late", "later"}[restarted]
			n.manifest(id, requires(id, "", "LATER"))
			n.reload()
			if got := n.env(id); got != "export V_LATER='later'\n" {
				t.Errorf("a service that comes while the store is away has %q", got)
			}
			m.Heal()
			synctest.Wait()
			n.put("LATER", "later")
		}
		p.session.Orphan()
		n.put("K", "two")
		n.wantEnv("two")
		m.Wipe()
		time.Sleep(time.Minute)
		n.wantConditions("store regression")
		if w := n.agent.watch; w.gen > 2 {
			t.Errorf("%d watches were begun", w.gen)
		}
	})
}
