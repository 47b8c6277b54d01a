package listener

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

func failing(provision.Job) provision.Result {
	return provision.Result{Outcome: "exited", Exit: 3}
}

func (n *node) status() status.Status {
	n.t.Helper()
	st, err := n.agent.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return st
}

// conditions are the names of the conditions that hold, with the key.
func (n *node) conditions() []string {
	var out []string
	for _, c := range n.status().Conditions {
		out = append(out, strings.TrimSpace(c.Name+" "+c.Key))
	}
	slices.Sort(out)
	return out
}

func (n *node) wantSteps(want ...string) {
	n.t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, n.steps()); diff != "" {
		n.t.Fatalf("steps (-want +got):\n%s", diff)
	}
}

func (n *node) wantConditions(want ...string) {
	n.t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, n.conditions()); diff != "" {
		n.t.Fatalf("conditions (-want +got):\n%s", diff)
	}
}

// reload reads the manifests now, as the directory watch is off in fake time.
func (n *node) reload() {
	n.t.Helper()
	if err := n.agent.Reload(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
}

func TestFailedStepIsTriedAgainAndANewValueResetsTheBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "one")
		n.runner.use(failing)
		n.up()
		n.wantSteps("node")
		f := n.status().Failures
		if len(f) != 1 || f[0].Count != 1 || !strings.Contains(f[0].Text, "exit code 3") || f[0].NextTry.IsZero() {
			t.Fatalf("failures %+v", f)
		}
		if p := n.status().Pending; p == nil || p.Gate != "back-off" || p.Kind != "retry" {
			t.Fatalf("pending %+v", p)
		}
		time.Sleep(9 * time.Second)
		n.wantSteps("node") // base is 10 s
		n.put("DB", "two")
		n.wantSteps("node", "node")
		n.runner.use(nil)
		time.Sleep(time.Hour)
		n.wantSteps("node", "node", "node")
		if len(n.status().Failures) != 0 || !n.status().Synced {
			t.Errorf("status after success: %+v", n.status())
		}
	})
}

func TestAFlapBeforeTheRunCostsNoRunAndAfterTheSwapOneMore(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle.Settle, n.cfg.Throttle.SettleMax = time.Second, 10*time.Second
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "one")
		n.up()
		time.Sleep(time.Minute)
		n.wantSteps("node")
		n.put("DB", "two")
		time.Sleep(500 * time.Millisecond)
		n.put("DB", "one")
		time.Sleep(time.Minute)
		n.wantSteps("node")

		n.runner.use(failing) // swaps the file, then fails
		n.put("DB", "two")
		time.Sleep(2 * time.Second)
		n.wantSteps("node", "node")
		n.runner.use(nil)
		n.put("DB", "one") // what was applied, but the files are in between
		time.Sleep(time.Minute)
		n.wantSteps("node", "node", "node")
		if got := n.env("app"); got != "export V_DB='one'\n" {
			t.Errorf("env %q", got)
		}
	})
}

func TestOwnStepsRunProvidersFirstAndSkipWhatRequiresAFailedOne(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("a-www", requires("a-www", `"command": "www"`, "API"))
		n.manifest("b-other", requires("b-other", `"command": "other"`))
		n.manifest("z-api", requires("z-api", `"command": "api", "local_port": 80, "provides": {"API": "http://{HOST}:{PORT}"}`))
		n.cfg.Provision.Command = nil
		n.runner.command = func(j provision.Job) provision.Result {
			if j.Step == "z-api" {
				return failing(j)
			}
			return provision.Result{Outcome: "exited"}
		}
		n.up()
		n.wantSteps("z-api", "b-other")
		run := n.status().LastRun
		if got := run.Steps[1]; got.Name != "a-www" || got.Result != "skipped" {
			t.Fatalf("%+v", run.Steps)
		}
		n.runner.use(nil)
		time.Sleep(time.Hour)
		n.wantSteps("z-api", "b-other", "z-api", "a-www") // not before what it requires
		if got := n.env("a-www"); got != "export V_API='http://10.0.0.1:80'\n" {
			t.Errorf("env %q", got)
		}
	})
}

func TestNodeStepFailureSkipsOwnSteps(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.manifest("own", requires("own", `"command": "x"`, "DB"))
		n.put("DB", "one")
		n.runner.use(failing)
		n.up()
		n.wantSteps("node")
		n.runner.use(nil)
		time.Sleep(time.Hour)
		n.wantSteps("node", "node", "own")
	})
}

func TestOffHoldsEverythingAndOnForcesARun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "one")
		n.up()
		n.wantSteps("node")
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "ann", Reason: "upgrade"}); err != nil {
			t.Fatal(err)
		}
		n.put("DB", "two")
		if _, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "ann"}); !errors.Is(err, api.ErrOff) {
			t.Errorf("provision while off: %v", err)
		}
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		n.wantSteps("node")
		if p := n.status().Pending; p == nil || p.Gate != "on" || !strings.Contains(p.Why, "by ann") || !strings.Contains(p.Why, "upgrade") {
			t.Errorf("pending %+v", p)
		}
		if _, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "ann", EvenIfOff: true}); err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node")
		if changed, err := n.agent.On(t.Context(), ""); err != nil || !changed {
			t.Fatal(changed, err)
		}
		n.wantSteps("node", "node", "node") // on forces, even though nothing changed
		if changed, err := n.agent.On(t.Context(), ""); err != nil || changed {
			t.Fatal(changed, err)
		}
		time.Sleep(time.Hour)
		n.wantSteps("node", "node", "node")
	})
}

func TestReloadTakesTheHostAndSaysThatTheRegionNeedsARestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", `{"id": "app", "requires": {"URL": "http://{HOST}/"}}`)
		n.up()
		n.wantSteps("node")
		n.reloadConfig = func() (*config.Config, error) {
			cfg := *n.cfg
			cfg.Host, cfg.Region = "10.0.0.2", "eu"
			return &cfg, nil
		}
		n.stop()
		n.up()
		if err := n.agent.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node")
		if env := n.env("app"); !strings.Contains(env, "10.0.0.2") {
			t.Errorf("the environment is %q", env)
		}
		n.wantConditions("restart needed")
		if st := n.status(); st.Host != "10.0.0.2" || st.Region == "eu" {
			t.Errorf("host %s, region %s", st.Host, st.Region)
		}
	})
}

func TestOffForOneLaneLeavesTheOtherOneOff(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.put("DB", "one")
		n.up()
		n.wantSteps("node")
		for _, r := range []api.OffRequest{
			{Who: "ann", For: 2 * time.Hour},
			{Who: "bob", Lane: "balancer", For: time.Hour},
		} {
			if err := n.agent.Off(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		n.put("DB", "two")
		time.Sleep(90 * time.Minute)
		n.wantSteps("node")
		time.Sleep(time.Hour)
		n.wantSteps("node", "node") // when the longer of the two is over
		if !n.status().On {
			t.Error("still off")
		}
	})
}

func TestOffForEndsByItselfAlsoAcrossAReboot(t *testing.T) {
	for _, reboot := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
			n.manifest("app", requires("app", "", "DB"))
			n.put("DB", "one")
			n.up()
			n.wantSteps("node")
			if err := n.agent.Off(t.Context(), api.OffRequest{Who: "ann", For: 2 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if reboot {
				n.stop()
				n.boot, n.start = "boot-2", time.Now()
				n.up()
			}
			time.Sleep(59 * time.Minute)
			n.wantSteps("node")
			time.Sleep(2 * time.Minute)
			n.wantSteps("node", "node")
			if !n.status().On {
				t.Error("still off")
			}
		})
	}
}

func TestAProvenDeleteKeepsTheLastGoodValuesAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A", "B"))
		n.put("A", "1")
		n.put("B", "1")
		n.up()
		n.wantSteps("node")
		n.del("A")
		n.put("B", "2")
		n.wantConditions("missing A")
		n.wantSteps("node") // the service keeps everything as it was
		if got := n.env("app"); got != "export V_A='1'\nexport V_B='1'\n" {
			t.Errorf("env %q", got)
		}
		n.put("A", "1")
		n.wantSteps("node", "node")
		n.wantConditions()
		if got := n.env("app"); got != "export V_A='1'\nexport V_B='2'\n" {
			t.Errorf("env %q", got)
		}
	})
}

func TestADeleteFallsThroughToAttributes(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "A = \"fallback\"\n")
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		n.del("A")
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_A='fallback'\n" {
			t.Errorf("env %q", got)
		}
	})
}

func TestAnOutageOfAnyLengthChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "A = \"fallback\"\n")
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		m.Cut()
		time.Sleep(24 * time.Hour)
		n.wantConditions("store unreachable")
		n.stop()
		n.up() // starts without the store: the replica serves
		time.Sleep(time.Hour)
		n.wantConditions("replica serves")
		n.stop()
		if err := os.Remove(filepath.Join(n.cfg.StateDir, "replica.json")); err != nil {
			t.Fatal(err)
		}
		n.up() // not even a replica: the last good value stands against the attributes
		time.Sleep(time.Hour)
		n.wantConditions("degraded A", "store unreachable")
		n.wantSteps("node")
		if got := n.env("app"); got != "export V_A='1'\n" {
			t.Errorf("env %q", got)
		}
		m.Heal()
		time.Sleep(time.Hour)
		n.wantConditions()
		n.wantSteps("node")
	})
}

// wantWhy checks what resolve says of a key of the service app.
func (n *node) wantWhy(key, want string) {
	n.t.Helper()
	vars, err := n.agent.Resolve(n.t.Context(), "app", false)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, v := range vars {
		for _, k := range v.Keys {
			if k.Key == key && k.Why != want {
				n.t.Errorf("%s: %q, not %q", key, k.Why, want)
			}
		}
	}
}

func TestAWipedStoreChangesNothingUntilAcceptOrAWrite(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A", "B"))
		n.put("A", "1")
		n.put("B", "1")
		n.up()
		n.wantSteps("node")
		m.Wipe()
		time.Sleep(time.Hour)
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		n.wantSteps("node")
		if c := n.conditions(); !slices.Contains(c, "store regression") {
			t.Errorf("conditions %v", c)
		}
		n.wantWhy("A", "held: the store went back")
		n.put("A", "2") // a new write takes that key; the other stays
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_A='2'\nexport V_B='1'\n" {
			t.Errorf("env %q", got)
		}
		if acc, err := n.agent.Accept(t.Context(), "B"); err != nil || len(acc.Changed) == 0 {
			t.Fatal(acc, err)
		}
		n.wantConditions("missing B")
		n.wantSteps("node", "node")
	})
}

func TestManifestsGoneAtOnceStayInForceUntilAccept(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.manifest("decl", requires("decl", `"command": false`, "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		for _, id := range []string{"app", "decl"} {
			if err := os.Remove(filepath.Join(n.cfg.Manifests[0], id+".json")); err != nil {
				t.Fatal(err)
			}
		}
		n.reload()
		time.Sleep(time.Hour)
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		n.wantConditions("manifests gone")
		n.wantSteps("node")
		if n.env("app") == "" || n.env("decl") == "" {
			t.Error("a file went")
		}
		if _, err := n.agent.Accept(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node")
		if n.env("app") != "" || n.env("decl") != "" {
			t.Error("a file of a removed service is still there")
		}
	})
}

func TestARemovedManifestCountsAfterQuietAndItsFileGoesAfterSuccess(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.manifest("other", requires("other", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		if err := os.Remove(filepath.Join(n.cfg.Manifests[0], "other.json")); err != nil {
			t.Fatal(err)
		}
		n.runner.use(failing)
		n.reload()
		time.Sleep(4 * time.Second)
		n.wantSteps("node")
		time.Sleep(2 * time.Second)
		n.wantSteps("node", "node")
		if n.env("other") == "" {
			t.Error("the file went before success")
		}
		n.runner.use(nil)
		time.Sleep(time.Minute)
		if n.env("other") != "" {
			t.Error("the file is still there")
		}
	})
}

func TestABrokenManifestLeavesTheLastGoodOneInForce(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		n.manifest("app", `{"id": "app", "requires": {`)
		n.reload()
		n.stop()
		n.up()
		n.put("A", "2")
		n.wantSteps("node", "node")
		n.wantConditions("manifest refused")
		if got := n.env("app"); got != "export V_A='2'\n" {
			t.Errorf("env %q", got)
		}
	})
}

func TestAnAgentRestartRunsNothingAndARebootOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		for range 20 {
			n.stop()
			n.up()
			time.Sleep(time.Minute)
		}
		n.wantSteps("node")
		n.stop()
		n.boot, n.start = "boot-2", time.Now()
		n.up()
		time.Sleep(time.Hour)
		n.wantSteps("node", "node")
	})
}

func TestAStepThatOutlivesTheAgentIsAdoptedOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.runner.command = func(provision.Job) provision.Result {
			time.Sleep(10 * time.Minute)
			return provision.Result{Outcome: "exited"}
		}
		n.up()
		n.wantSteps("node")
		n.stop()
		n.up()
		n.put("A", "2") // while it is being adopted: exactly one more, after it
		time.Sleep(5 * time.Minute)
		n.wantSteps("node")
		if r := n.status().Running; r == nil {
			t.Error("status does not show the adopted run")
		}
		time.Sleep(time.Hour)
		n.wantSteps("node", "node")
		runs, err := n.agent.Runs(t.Context(), 0)
		if err != nil || len(runs) != 2 || runs[0].Result != "ok" || runs[1].Result != "ok" {
			t.Errorf("%+v %v", runs, err)
		}
	})
}

// A run ended when its last step did, however much later an agent learns it.
func TestAnAdoptedRunTookAsLongAsItsSteps(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.runner.command = func(provision.Job) provision.Result {
			time.Sleep(10 * time.Minute)
			return provision.Result{Outcome: "exited", Ended: time.Now()}
		}
		n.up()
		n.wantSteps("node")
		n.stop()
		time.Sleep(time.Hour)
		n.up()
		synctest.Wait()
		runs, err := n.agent.Runs(t.Context(), 0)
		if err != nil || len(runs) != 1 || runs[0].Result != "ok" {
			t.Fatalf("%+v %v", runs, err)
		}
		if took := runs[0].Ended.Sub(runs[0].Started); took != 10*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// A step's result goes when the disk has what it led to; killed in between, the
// next agent runs nothing again and removes it.
func TestAStepIsForgottenOnceItIsRecorded(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", requires("api", `"command": ["api"]`, "A"))
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		forgotten := 0
		n.runner.forgetting = func(ref provision.Ref) bool {
			forgotten++
			st, _, err := loadState(filepath.Join(n.cfg.StateDir, "state.json"))
			if err != nil {
				t.Error(err)
			}
			recorded := st.Run == nil
			for i := 0; !recorded && i < len(st.Run.Steps); i++ {
				recorded = st.Run.Steps[i].Step == ref.Step && st.Run.Steps[i].Done
			}
			if !recorded {
				t.Errorf("%v is forgotten before it is recorded", ref)
			}
			return true
		}
		n.up()
		n.wantSteps("node", "api")
		if forgotten != 2 {
			t.Errorf("%d steps were forgotten", forgotten)
		}
		n.stop()
		n.runner.forgetting = nil
		n.up()
		time.Sleep(time.Hour)
		n.wantSteps("node", "api")
		if left, _ := n.runner.Left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		runs, err := n.agent.Runs(t.Context(), 0)
		if err != nil || len(runs) != 1 || runs[0].Result != "ok" {
			t.Errorf("%+v %v", runs, err)
		}
	})
}

func TestFirstManifestsBringTheFederation(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.runner.command = func(j provision.Job) provision.Result { return provision.Result{Outcome: "exited"} }
		n.up()
		n.wantSteps("node") // no manifest at all: the first run may bring them
		s := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "blue"}
		if _, err := m.Commit(t.Context(), nil, store.Put(s.Value("", "A"), []byte("sky\n"))); err != nil {
			t.Fatal(err)
		}
		n.manifest("app", requires("app", `"federation": "blue"`, "A"))
		n.reload()
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_A='sky'\n" {
			t.Errorf("env %q", got)
		}
		n.manifest("red", requires("red", `"federation": "red"`, "A"))
		n.reload()
		n.wantConditions("manifest refused")
		if st := n.status(); st.Federation != "blue" || !strings.Contains(st.Conditions[0].Text, "app.json") || !strings.Contains(st.Conditions[0].Text, "red.json") {
			t.Errorf("%q %+v", st.Federation, st.Conditions)
		}
	})
}

func TestDriftIsRepairedThreeTimesAndThenReported(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		path := filepath.Join(n.cfg.Env.Dir, "app.conf")
		for i := range 4 {
			n.write(path, "by hand")
			time.Sleep(2 * time.Minute)
			if repaired := n.env("app") == "export V_A='1'\n"; repaired != (i < 3) {
				t.Errorf("round %d: %q", i, n.env("app"))
			}
		}
		n.wantConditions("drift " + path)
		n.wantSteps("node")
	})
}

func TestThrottleSpacesAutomaticRuns(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle = config.Throttle{MinInterval: 10 * time.Second, Burst: 3, Window: 30 * time.Minute}
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "0")
		n.up()
		for i := range 6 * 60 { // a value that changes each 10 s for an hour
			n.put("A", strings.Repeat("x", i+1))
			time.Sleep(10 * time.Second)
			if i%60 == 30 { // and an agent that crashes
				n.stop()
				n.up()
			}
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if got := len(n.steps()); got < 6 || got > 3+9 {
			t.Errorf("%d runs in 80 minutes, want at most burst + one per 10 min", got)
		}
		if got := n.env("app"); got != "export V_A='"+strings.Repeat("x", 360)+"'\n" {
			t.Errorf("the newest value is not applied")
		}
	})
}

func TestProvisionNowPassesTheSpacing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle = config.Throttle{Settle: time.Minute, SettleMax: time.Hour, MinInterval: time.Hour, Burst: 1, Window: time.Hour, Splay: time.Hour}
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "0")
		n.up()
		time.Sleep(3 * time.Hour)
		n.wantSteps("node")
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "ann", Now: true})
		if err != nil {
			t.Fatal(err)
		}
		run, err := n.agent.WaitRun(t.Context(), q.Ticket)
		if err != nil || run.Kind != "manual" || run.Reasons[0] != "provision by ann" {
			t.Fatalf("%+v %v", run, err)
		}
		n.wantSteps("node", "node")
	})
}

func TestOnceRunsWhatIsDueAndEnds(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.manifest("later", requires("later", "", "NOWHERE"))
		n.put("A", "1")
		once := func() OnceResult {
			a, err := New(Options{Config: n.cfg, Store: m, Runner: n.runner, NoFileWatch: true, Clock: n.clock})
			if err != nil {
				t.Fatal(err)
			}
			r, err := a.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := once(); len(r.Runs) != 1 || r.Held != "" || r.NoStore || !slices.Equal(r.Waiting, []string{"later"}) {
			t.Errorf("first: %+v", r)
		}
		if r := once(); len(r.Runs) != 0 || r.Held != "" {
			t.Errorf("second: %+v", r)
		}
		n.cfg.Throttle.MinInterval = time.Hour
		n.put("A", "2")
		if r := once(); len(r.Runs) != 0 || !strings.HasPrefix(r.Held, "min_interval") {
			t.Errorf("third: %+v", r)
		}
	})
}

func TestReloadKeepsTheOldSettingsWhenTheNewOnesAreBad(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		bad := errors.New("listener.toml:3:1: no such setting")
		next := *n.cfg
		next.Provision.Command = []string{"other"}
		fail := true
		n.reloadConfig = func() (*config.Config, error) {
			if fail {
				return nil, bad
			}
			return &next, nil
		}
		n.up()
		n.wantSteps("node")
		if err := n.agent.Reload(t.Context()); !errors.Is(err, bad) {
			t.Errorf("reload: %v", err)
		}
		fail = false
		n.reload()
		n.wantSteps("node", "node") // another command is another input
		if got := n.runner.started()[1].Argv; !slices.Equal(got, []string{"other"}) {
			t.Errorf("argv %v", got)
		}
	})
}

func TestAnAcceptedRegressionIsNoneAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.manifest("decl", requires("decl", `"command": false`, "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		n.runner.use(failing)
		n.put("A", "2") // decl has it, app is in between
		n.wantSteps("node", "node")
		m.Wipe()
		synctest.Wait()
		if _, err := n.agent.Accept(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.runner.use(nil)
		time.Sleep(time.Hour)
		steps := len(n.steps())
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		if more := n.steps()[steps:]; len(more) > 0 {
			t.Errorf("after the restart: %v", more)
		}
		n.wantConditions("missing A", "missing A")
	})
}
