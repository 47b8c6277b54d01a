package listener

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// act is one thing that happens to the node of the state machine.
type act struct {
	Op   string
	Key  string
	N    int
	Wait time.Duration
}

func (a act) String() string { return fmt.Sprintf("{%s %s %d %s}", a.Op, a.Key, a.N, a.Wait) }

// script draws what happens. Everything is drawn before it is played, as rapid
// must not panic inside a bubble.
func script() *rapid.Generator[[]act] {
	ops := []string{
		"put", "put", "put", "put", "flap", "delete", "crash", "crash", "reboot", "off", "on",
		"fail", "mend", "slow", "quick", "provision", "edit", "remove", "restore", "reload",
		"cut", "heal", "restart store", "wipe", "set back", "accept", "garbage state", "garbage throttle",
		"garbage replica", "drift",
		"provide", "provide", "provide", "fall", "leave", "die", "expire all", "garble",
		"drain", "undrain", "accept key", "lane drift", "lane off", "balance",
		"lag", "lag", "block", "block", "unblock", "lose", "lose", "forget fails", "forget works",
	}
	one := rapid.Custom(func(t *rapid.T) act {
		return act{
			Op:   rapid.SampledFrom(ops).Draw(t, "op"),
			Key:  rapid.SampledFrom([]string{"A", "B", "C", "P", "Q"}).Draw(t, "key"),
			N:    rapid.IntRange(0, 5).Draw(t, "n"),
			Wait: rapid.SampledFrom([]time.Duration{0, 0, 0, time.Millisecond, time.Second, 7 * time.Second, time.Minute, 20 * time.Minute}).Draw(t, "wait"),
		}
	})
	return rapid.SliceOfN(one, 1, 40)
}

func (w *world) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// command is what every step does: it takes its time and remembers what the
// files said when it began.
func (w *world) command(job provision.Job) provision.Result {
	saw := map[string]string{}
	for id := range strings.SplitSeq(jobEnv(job, "LISTENER_SERVICES"), ",") {
		if id != "" {
			saw[id] = w.env(id)
		}
	}
	fail := w.fail.Load()
	time.Sleep(time.Duration(w.slow.Load()))
	if w.lose.CompareAndSwap(true, false) {
		return provision.Result{Outcome: "lost"}
	}
	if fail {
		return provision.Result{Outcome: "exited", Exit: 1}
	}
	w.runner.mu.Lock()
	maps.Copy(w.seen, saw)
	w.runner.mu.Unlock()
	return provision.Result{Outcome: "exited"}
}

func (w *world) ignore(error) {}

// play does one act.
func (w *world) play(a act) {
	ctx := w.t.Context()
	space := machineSpace
	id := machineServices[a.N%len(machineServices)]
	before := len(w.runner.started())
	off := w.agent.off.holds()
	key := a.Key
	if key == "P" || key == "Q" { // that nodes provide
		key = "A"
	}
	switch a.Op {
	case "put":
		_, err := w.m.Commit(ctx, nil, store.Put(space.Value("", key), []byte(fmt.Sprint(a.N))))
		w.ignore(err) // a cut store refuses: then nothing changed
	case "flap":
		for i := range 5 {
			_, err := w.m.Commit(ctx, nil, store.Put(space.Value("", key), []byte(fmt.Sprint(i%2))))
			w.ignore(err)
			time.Sleep(100 * time.Millisecond)
		}
	case "delete":
		_, err := w.m.Commit(ctx, nil, store.Delete(space.Value("", key)))
		w.ignore(err)
	case "crash":
		w.stop()
		w.up()
	case "reboot":
		w.stop()
		w.powerCycle()
		w.up()
	case "off":
		w.must(w.agent.Off(ctx, api.OffRequest{Who: "test"}))
	case "on":
		_, err := w.agent.On(ctx, "")
		w.must(err)
	case "fail":
		w.fail.Store(true)
	case "mend":
		w.fail.Store(false)
	case "lose": // the supervisor of the next step that ends
		w.lose.Store(true)
	case "forget fails":
		w.runner.failForget(errors.New("the disk is read-only"))
	case "forget works":
		w.runner.failForget(nil)
	case "block":
		// Not during a run: its next step would be right not to see the file.
		if busy, _ := w.runner.Busy(); !busy && w.env(id) != "" {
			w.block(id)
		}
	case "unblock":
		w.unblock()
	case "slow":
		w.slow.Store(int64(a.N) * int64(10*time.Second))
	case "quick":
		w.slow.Store(0)
	case "provision":
		_, err := w.agent.Provision(ctx, api.ProvisionRequest{Who: "test", Now: a.N%2 == 0})
		if err != nil && !errors.Is(err, ErrOff) {
			w.must(err)
		}
	case "edit":
		w.edits[id]++
		w.writeManifest(id)
		w.there[id] = true
		w.must(w.agent.Reload(ctx))
	case "remove":
		w.must(os.RemoveAll(filepath.Join(w.cfg.Manifests[0], id+".json")))
		w.there[id] = false
		w.must(w.agent.Reload(ctx))
	case "restore":
		w.writeManifest(id)
		w.there[id] = true
		w.must(w.agent.Reload(ctx))
	case "reload":
		w.must(w.agent.Reload(ctx))
	case "cut":
		w.m.Cut()
	case "heal":
		w.m.Heal()
	case "restart store":
		w.m.Restart()
	case "lag": // of the Watches to come
		w.lag.Store(int64(a.N) * int64(400*time.Millisecond))
	case "wipe":
		w.m.Wipe()
	case "set back":
		if w.setBack != nil {
			w.setBack()
		}
		w.setBack = w.m.Snapshot()
	case "accept":
		_, err := w.agent.Accept(ctx, "")
		w.must(err)
	case "accept key":
		_, err := w.agent.Accept(ctx, a.Key)
		w.must(err)
	case "drain":
		w.must(w.agent.Drain(ctx, "test", ""))
	case "undrain":
		_, err := w.agent.Undrain(ctx)
		w.must(err)
	case "lane off":
		w.must(w.agent.Off(ctx, api.OffRequest{Who: "test", Lane: "balancer"}))
	case "lane drift":
		w.write(w.cfg.Balancers[0].Path, "by hand")
	case "balance": // other settings
		next := *w.cfg
		next.Balancers = slices.Clone(next.Balancers)
		next.Balancers[0].MinInterval = time.Duration(a.N) * time.Second
		w.cfg = &next
		w.must(w.agent.Reload(ctx))
	case "garble":
		w.garble(a.N)
	case "provide":
		w.provide(a.N, store.Up)
	case "fall":
		w.provide(a.N, store.Down)
	case "leave":
		w.die(a.N)
		w.provide(a.N, store.Left)
	case "die":
		w.die(a.N)
	case "expire all":
		w.m.ExpireSessions()
	case "garbage state":
		w.orphans = true
		w.garbage("state.json", a.N)
	case "garbage throttle":
		w.garbage("last_provision", a.N)
	case "garbage replica":
		w.garbage("replica.json", a.N)
	case "drift":
		if w.env(id) != "" {
			w.write(filepath.Join(w.cfg.Env.Dir, id+".conf"), "export EDITED='by hand'\n")
		}
	}
	time.Sleep(a.Wait)
	synctest.Wait()
	if off && w.agent.off.holds() && a.Op != "crash" && a.Op != "reboot" && len(w.runner.started()) > before && !w.planned() {
		w.problem("%v: a step started while off", a)
	}
}

// planned reports whether the newest step belongs to a run that had begun
// before: off lets a run in progress end by itself.
func (w *world) planned() bool {
	jobs := w.runner.started()
	newest := jobs[len(jobs)-1]
	return newest.Step != nodeStep
}

func (w *world) must(err error) {
	if err != nil {
		w.problem("%v", err)
	}
}

func (w *world) garbage(name string, n int) {
	w.stop()
	text := []string{"", "garbage\n", "{", "\x00\x00\x00", "[]", "null"}[n]
	w.write(filepath.Join(w.cfg.StateDir, name), text)
	w.up()
}

// powerCycle ends all processes and empties the run directory.
func (w *world) powerCycle() {
	w.boots++
	w.boot = fmt.Sprint("boot-", w.boots)
	time.Sleep(time.Hour) // whatever ran is over
	w.runner.mu.Lock()
	defer w.runner.mu.Unlock()
	clear(w.runner.results)
	clear(w.runner.going)
}

// settle lets everything come to rest and checks the promise: the newest
// values are applied by a successful step, and nothing runs any more.
func (w *world) settle() {
	ctx := w.t.Context()
	w.fail.Store(false)
	w.slow.Store(0)
	w.lose.Store(false)
	w.runner.failForget(nil)
	w.unblock()
	w.m.Heal()
	_, err := w.agent.On(ctx, "")
	w.must(err)
	_, err = w.agent.Undrain(ctx)
	w.must(err)
	w.must(w.agent.Reload(ctx))
	time.Sleep(time.Minute)
	_, err = w.agent.Accept(ctx, "")
	w.must(err)
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	for _, id := range machineServices {
		want, ready := w.want(id)
		switch got := w.env(id); {
		case !w.there[id]:
			if got != "" && !w.orphans {
				w.problem("%s has no manifest, but its file is %q", id, got)
			}
		case ready && got != want:
			w.problem("%s: file is %q, want %q", id, got, want)
		case ready && id != "s4" && w.seen[id] != want:
			w.problem("%s: its last successful step saw %q, want %q", id, w.seen[id], want)
		}
	}
	w.lanes()
	w.published()
	n := len(w.runner.started())
	w.stop()
	w.up()
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	w.lanes()
	w.published()
	if more := len(w.runner.started()) - n; more != 0 {
		w.problem("%d steps ran although nothing changed", more)
	}
	st, err := w.agent.Status(ctx)
	w.must(err)
	if !st.Synced && len(w.problems) == 0 {
		w.problem("not synced at rest: %+v", st.Pending)
	}
}

// TestMachine plays any interleaving of changes, crashes, reboots, on and
// off, failures, flapping values, reloads, store faults and damaged files.
func TestMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		acts := script().Draw(rt, "acts")
		replica := rapid.SampledFrom([]string{"needed", "all"}).Draw(rt, "replica")
		var problems []string
		synctest.Test(t, func(t *testing.T) {
			m := storetest.NewMemory()
			n := newNode(t, m, func(c *config.Config) {
				c.RegionOrder = []string{"far"}
				c.Store.Replica = replica
				c.Throttle = config.Throttle{Settle: time.Second, SettleMax: 10 * time.Second, MinInterval: 10 * time.Second, Burst: 6, Window: 10 * time.Minute}
			})
			slow := &lagging{Store: m}
			n.store = slow
			w := &world{node: n, m: m, lag: &slow.lag, edits: map[string]int{}, there: map[string]bool{}, seen: map[string]string{}, sessions: map[int]store.Session{}, garbled: map[int]bool{}}
			n.balance("local", func(b *config.Balancer) { b.Check, b.Reload = nil, nil })
			n.reloadConfig = func() (*config.Config, error) { return w.cfg, nil }
			n.runner.use(w.command)
			for _, id := range machineServices {
				w.writeManifest(id)
				w.there[id] = true
			}
			w.up()
			synctest.Wait()
			for _, a := range acts {
				w.play(a)
			}
			w.settle()
			w.runner.mu.Lock()
			if w.runner.overlap {
				w.problem("two steps ran at once")
				w.runner.overlap = false
			}
			w.runner.mu.Unlock()
			for n := range 6 {
				w.die(n)
			}
			problems = w.problems
		})
		if len(problems) > 0 {
			rt.Fatalf("%v\n%s", acts, strings.Join(problems, "\n"))
		}
	})
}
