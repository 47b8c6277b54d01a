package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// TestKill kills the agent, the supervisor or both, hundreds of times at
// random instants, while values change through the socket and in the store's
// file, and while the agent is switched off and on. No change may be lost and
// no two runs may overlap.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 200
	if testing.Short() {
		kills = 40
	}
	testKill(t, func(k *killer) bool { return k.kills >= kills })
}

// TestSoakKill is TestKill for the time that SOAK says.
func TestSoakKill(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Skip("SOAK says no time, such as 10m")
	}
	end := time.Now().Add(d)
	testKill(t, func(*killer) bool { return time.Now().After(end) })
}

func testKill(t *testing.T, enough func(*killer) bool) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LISTENER_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LISTENER_TEST_SEED=%d", seed)
	k := newKiller(t, rand.New(rand.NewPCG(seed, 0)))
	started := time.Now()
	for !enough(k) && !t.Failed() {
		k.round()
	}
	t.Logf("%d kills in %s: %d of the agent alone, %d of a supervisor alone, %d of both; %d commits", k.kills,
		time.Since(started).Round(time.Second), k.agents, k.supervisors, k.kills-k.agents-k.supervisors, k.commits)
	k.finish()
}

// killScript is the command of the kill loop. It proves that no other run of
// its node is going on: whatever a run leaves behind holds the lock, too. It
// notes what it saw, and then succeeds, fails, is slow, or leaves a daemon.
const killScript = `
exec 9>>"$D/lock"
if ! flock -n 9; then
	echo "$(date +%T.%N) $LISTENER_RUN_ID $1 overlaps $(cat "$D/holder"), still there:" >>"$D/overlaps"
	for p in /proc/[0-9]*; do
		[ "$(readlink $p/fd/9)" = "$D/lock" ] && [ $p != /proc/$$ ] && echo "$p $(tr '\0' ' ' <$p/cmdline) $(cut -d' ' -f3-7 $p/stat) $(tr '\0' '\n' <$p/environ | grep RUN_ID)" >>"$D/overlaps"
	done
	exit 9
fi
echo "$LISTENER_RUN_ID $1" >"$D/holder"
trap 'sleep 0.05; exit 7' TERM
mkdir "$D/seen/$LISTENER_RUN_ID.$1"
cp "$LISTENER_NODE_JSON" "$D/seen/$LISTENER_RUN_ID.$1/node.json"
cp "$D/env/"*.conf "$D/seen/$LISTENER_RUN_ID.$1/" 2>/dev/null
echo "run $LISTENER_RUN_ID step $1"
n=$(od -An -N2 -tu2 /dev/urandom)
case $((n % 10)) in
0) exit 3 ;;
1 | 2) sleep 0.2 ;;
3) (trap '' TERM; sleep 0.15) & sleep 0.1; wait ;;
4)
	exec 9>&- # a daemon does not belong to the run any more
	setsid sleep 0.3 >/dev/null 2>&1 &
	;;
esac
echo ok >"$D/seen/$LISTENER_RUN_ID.$1/end"
`

var (
	nodeKeys = []string{"K1", "K2", "K3"} // of the node step's services
	ownKeys  = []string{"K2", "K4"}       // of the service with its own step
	allKeys  = []string{"K1", "K2", "K3", "K4", "K5"}
)

type killer struct {
	*system
	rng *rand.Rand

	kills, agents, supervisors int
	commits, ons               int
	next                       int            // the next value to put, of any key
	acked                      map[string]int // the last value whose put was answered
	tried                      map[string]int // the last value whose put was begun
	off                        bool           // as far as is known
}

func newKiller(t *testing.T, rng *rand.Rand) *killer {
	k := &killer{system: newSystem(t), rng: rng, acked: map[string]int{}, tried: map[string]int{}}
	k.settings["history.keep"] = "10000"
	if err := os.Mkdir(k.path("seen"), 0o755); err != nil {
		t.Fatal(err)
	}
	k.command(killScript)
	k.settings["provision.command"] = quoteList(k.path("provision.sh"), "_node")
	k.manifest("app1", "", "K1", "K2")
	k.manifest("app2", "", "K3")
	k.manifest("own", `"command": `+quoteList(k.path("provision.sh"), "own"), ownKeys...)
	k.manifest("decl", `"command": false`, "K5")
	for _, key := range allKeys {
		k.commitOffline(key)
	}
	k.start()
	return k
}

// round does a few things, kills something, and brings the agent up again.
func (k *killer) round() {
	for range k.rng.IntN(3) {
		k.disturb()
	}
	if k.rng.IntN(4) == 0 && k.on() {
		k.synced()
	} else {
		k.sleep()
	}
	k.kill()
	alive := func() bool {
		select {
		case <-k.agent.ended:
			return false
		default:
			return true
		}
	}
	if alive() {
		return
	}
	for range k.rng.IntN(2) {
		k.commitOffline(allKeys[k.rng.IntN(len(allKeys))])
	}
	k.agent = k.spawn()
	if k.rng.IntN(4) > 0 { // else kill it before it answers, too
		k.until("an agent that answers", func() bool { _, err := k.status(); return err == nil || !alive() })
	}
}

// sleep waits for a random time, short ones as likely as long ones.
func (k *killer) sleep() {
	time.Sleep(time.Millisecond << k.rng.IntN(8) * time.Duration(1+k.rng.IntN(8)) / 8)
}

// disturb changes a value, or switches off or on; the agent may be dead already.
func (k *killer) disturb() {
	switch n := k.rng.IntN(12); {
	case n == 0:
		k.off = true // even if the answer is lost, it may be off
		_ = k.client(func(ctx context.Context, c *api.Client) error {
			return c.Off(ctx, api.OffRequest{Who: "killer"})
		})
	case n <= 2 && k.off:
		k.on()
	default:
		k.next++
		key := allKeys[k.rng.IntN(len(allKeys))]
		k.tried[key] = k.next
		k.commits++
		if k.tryPut(key, strconv.Itoa(k.next)) == nil {
			k.acked[key] = k.next
		}
	}
	if k.rng.IntN(2) == 0 {
		k.sleep()
	}
}

func (k *killer) on() bool {
	k.ons++
	err := k.client(func(ctx context.Context, c *api.Client) error {
		_, err := c.On(ctx, "")
		return err
	})
	if err == nil {
		k.off = false
	}
	return err == nil
}

func (k *killer) commitOffline(key string) {
	k.next++
	k.commits++
	k.tried[key], k.acked[key] = k.next, k.next
	k.putOffline(key, strconv.Itoa(k.next))
}

// kill ends what it finds of its random choice with SIGKILL.
func (k *killer) kill() {
	var supervisors []int
	what := k.rng.IntN(5) // agent 0 1 2, supervisors 2 3, all that belongs to a command 4
	if what >= 2 {
		for _, p := range k.processes() {
			if p.supervisor || what == 4 && p.pid != k.agent.cmd.Process.Pid {
				supervisors = append(supervisors, p.pid)
			}
		}
		k.rng.Shuffle(len(supervisors), func(i, j int) {
			supervisors[i], supervisors[j] = supervisors[j], supervisors[i]
		})
	}
	killed := false
	for _, pid := range supervisors {
		killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
	}
	if what <= 2 {
		k.end(syscall.SIGKILL)
		k.kills++
		if !killed {
			k.agents++
		}
	} else if killed {
		k.kills++
		k.supervisors++
	}
}

// finish lets the node come to rest and checks all that was promised.
func (k *killer) finish() {
	t := k.t
	k.until("a switched-on agent", func() bool { return k.on() })
	st := k.synced()
	if !st.On {
		t.Errorf("the agent is off")
	}
	for _, c := range st.Conditions {
		t.Errorf("condition left: %s: %s", c.Name, c.Text)
	}
	var runs []status.Run
	if err := k.client(func(ctx context.Context, c *api.Client) (err error) {
		runs, err = c.Runs(ctx, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(runs, func(a, b status.Run) int { return a.Started.Compare(b.Started) })
	final := k.finalValues()
	k.checkSeen(runs, final)
	k.checkRuns(runs)
	if ps := k.end(syscall.SIGTERM); ps.ExitCode() != 0 {
		t.Errorf("the agent ended with %v", ps)
	}
	k.checkLeft()
	for _, key := range allKeys {
		if v := final[key]; v != k.acked[key] && (v < k.acked[key] || v > k.tried[key]) {
			t.Errorf("%s is %d in the store; %d was acknowledged, %d tried", key, v, k.acked[key], k.tried[key])
		}
	}
	if data, err := os.ReadFile(k.path("overlaps")); err == nil {
		log, _ := os.ReadFile(k.path("agent.log"))
		t.Errorf("runs overlapped:\n%s\nlog:\n%s", data, log)
	}
}

// finalValues are those that the store holds at the end.
func (k *killer) finalValues() map[string]int {
	final := map[string]int{}
	if err := k.client(func(ctx context.Context, c *api.Client) error {
		list, err := c.Values(ctx, "", "")
		for _, v := range list.Values {
			final[v.Key], _ = strconv.Atoi(v.Value)
		}
		return err
	}); err != nil {
		k.t.Fatal(err)
	}
	return final
}

// checkSeen checks that each step saw values that never went back, and that
// the last one that succeeded saw the final ones.
func (k *killer) checkSeen(runs []status.Run, final map[string]int) {
	for step, keys := range map[string][]string{"node": nodeKeys, "own": ownKeys} {
		last, lastOK := map[string]int{}, map[string]int{}
		for _, r := range runs {
			i := slices.IndexFunc(r.Steps, func(s status.Step) bool { return s.Name == step })
			if i < 0 {
				continue
			}
			saw, ok := k.saw(r.ID, strings.Replace(step, "node", "_node", 1), keys)
			if !ok {
				if r.Steps[i].Result == "ok" {
					k.t.Errorf("run %s step %s succeeded, but its command never ran", r.ID, step)
				}
				continue
			}
			for _, key := range keys {
				if saw[key] < last[key] {
					k.t.Errorf("run %s step %s saw %s=%d after another run had seen %d", r.ID, step, key, saw[key], last[key])
				}
			}
			last = saw
			if r.Steps[i].Result == "ok" {
				lastOK = saw
				if _, err := os.Stat(k.path("seen", r.ID+"."+strings.Replace(step, "node", "_node", 1), "end")); err != nil {
					k.t.Errorf("run %s step %s counts as a success, but its command did not come to its end: %v", r.ID, step, err)
				}
			}
		}
		for _, key := range keys {
			if lastOK[key] != final[key] {
				k.t.Errorf("step %s: %s is %d, but the last run that succeeded saw %d", step, key, final[key], lastOK[key])
			}
		}
	}
	for id, keys := range map[string][]string{"app1": {"K1", "K2"}, "app2": {"K3"}, "own": ownKeys, "decl": {"K5"}} {
		for _, key := range keys {
			if want := fmt.Sprintf("export %s='%d'\n", key, final[key]); !strings.Contains(k.env(id), want) {
				k.t.Errorf("the environment file of %s has not %s", id, want)
			}
		}
	}
}

// saw are the values that a step's command found in node.json; ok is false
// when it never ran or was killed before it had noted them.
func (k *killer) saw(run, step string, keys []string) (map[string]int, bool) {
	dir := k.path("seen", run+"."+step)
	data, err := os.ReadFile(filepath.Join(dir, "node.json"))
	var doc struct {
		Configuration struct{ Datastores map[string]string }
	}
	if err != nil || json.Unmarshal(data, &doc) != nil {
		return nil, false // killed before or within cp
	}
	saw := map[string]int{}
	for _, key := range keys {
		n, err := strconv.Atoi(doc.Configuration.Datastores[key])
		if err != nil {
			k.t.Errorf("run %s step %s saw %s=%q", run, step, key, doc.Configuration.Datastores[key])
		}
		saw[key] = n
	}
	return saw, true
}

// checkRuns checks that each run has a cause: a commit, a switch to on, the
// first start, or a run before it that did not succeed.
func (k *killer) checkRuns(runs []status.Run) {
	results := map[string]int{}
	for _, r := range runs {
		results[r.Result]++
		if r.Result == "" || r.Ended.IsZero() {
			k.t.Errorf("run %s has no end in the history: %+v", r.ID, r)
		}
	}
	k.t.Logf("%d runs: %v", len(runs), results)
	if most := k.commits + k.ons + 1 + len(runs) - results["ok"]; len(runs) > most {
		k.t.Errorf("%d runs for at most %d causes", len(runs), most)
	}
	if results["ok"] == 0 {
		k.t.Error("no run succeeded")
	}
	dirs, _ := os.ReadDir(k.path("seen"))
	known := map[string]bool{}
	for _, r := range runs {
		known[r.ID] = true
	}
	for _, d := range dirs {
		if id, _, _ := strings.Cut(d.Name(), "."); !known[id] {
			k.t.Errorf("run %s is not in the history", id)
		}
	}
}

// checkLeft checks that an agent that ended at rest leaves nothing behind.
func (k *killer) checkLeft() {
	k.until("the end of all processes", func() bool {
		return len(slices.DeleteFunc(k.processes(), func(p proc) bool { return strings.HasPrefix(p.text, "sleep 0.3") })) == 0
	})
	for _, dir := range []string{"run", "state", "env"} {
		entries, err := os.ReadDir(k.path(dir))
		if err != nil {
			k.t.Error(err)
		}
		for _, e := range entries {
			if dir == "env" && strings.HasPrefix(e.Name(), ".listener-") {
				continue // of a killed agent; they go when they are a minute old
			}
			if dir == "run" || strings.Contains(e.Name(), ".tmp") || strings.Contains(e.Name(), ".bad") || strings.Contains(e.Name(), "corrupt") {
				k.t.Errorf("left in %s: %s", dir, e.Name())
			}
		}
	}
	k.inStore(func(s store.Store) error { // the file is sound
		_, _, err := s.List(k.t.Context(), "/listener/v1/")
		return err
	})
}
