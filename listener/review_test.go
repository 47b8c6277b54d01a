package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

func TestANewKeyIsNotDecidedOverBeforeTheStoreWasAsked(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.put("B", "b")
		n.up()
		synctest.Wait()
		n.manifest("app", `{"id": "app", "requires": {"V_A": "{A}", "V_B": "{B}"}}`)
		n.manifest("opt", `{"id": "opt", "requires": {"V_B": "{B:-default}"}}`)
		n.manifest("loose", `{"id": "loose", "binding": "relaxed", "requires": {"V_B": "{B}"}}`)
		n.reload()
		synctest.Wait()
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"node", "node"}, n.steps()); diff != "" {
			t.Errorf("steps: %s", diff)
		}
		for id, want := range map[string]string{
			"app": "export V_A='a'\nexport V_B='b'\n", "opt": "export V_B='b'\n", "loose": "export V_B='b'\n",
		} {
			if got := n.env(id); got != want {
				t.Errorf("%s: %q, want %q", id, got, want)
			}
		}
	})
}

func TestANewKeyIsAwaitedForBootWaitAtMost(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		m.Cut()
		n.manifest("loose", `{"id": "loose", "binding": "relaxed", "requires": {"V_B": "{B}"}}`)
		n.manifest("opt", `{"id": "opt", "requires": {"V_B": "{B:-default}"}}`)
		n.reload()
		if st := n.status(); st.Synced {
			t.Error("synced while the store is being asked")
		}
		time.Sleep(n.cfg.Store.BootWait - time.Second)
		n.wantSteps("node")
		time.Sleep(2 * time.Second)
		n.wantSteps("node", "node")
		if n.env("opt") != "export V_B='default'\n" || n.env("loose") != "" {
			t.Errorf("opt %q, loose %q: a default serves, a relaxed service waits", n.env("opt"), n.env("loose"))
		}
	})
}

func TestWaitRunAnswersForARunThatHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "test", Now: true})
		if err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node") // the run is over before anybody waits
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run, err := n.agent.WaitRun(ctx, q.Ticket)
		if err != nil || run.Result != "ok" {
			t.Errorf("%+v, %v", run, err)
		}
	})
}

func TestWaitRunSaysThatThereIsNothingToRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Provision.Command = nil
		n.manifest("app", requires("app", `"command": false`, "A"))
		n.put("A", "a")
		n.up()
		synctest.Wait()
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "test", Now: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if run, err := n.agent.WaitRun(ctx, q.Ticket); !errors.Is(err, ErrNothing) {
			t.Errorf("%+v, %v; want that nothing runs here", run, err)
		}
	})
}

func TestEveryManifestOfABurstOfChangesIsCopied(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("A", "a")
		n.manifest("one", requires("one", "", "A"))
		n.manifest("two", requires("two", "", "A"))
		n.up()
		n.wantSteps("node")
		time.Sleep(time.Second)
		for _, id := range []string{"one", "two", "three"} { // each within the delay of slow writes
			n.manifest(id, requires(id, `"environment": {"NEW": "1"}`, "A"))
			n.reload()
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		for _, id := range []string{"one", "two", "three"} {
			if data, _ := os.ReadFile(filepath.Join(n.cfg.StateDir, "manifests", id+".json")); !strings.Contains(string(data), "NEW") {
				t.Errorf("the copy of %s is %q", id, data)
			}
		}
	})
}

// TestAtRestTheLoopSleeps counts how often the loop looks in a day in which
// nothing happens, in states that hold something back.
func TestAtRestTheLoopSleeps(t *testing.T) {
	states := map[string]func(n *node, m *storetest.Memory){
		"applied":     func(*node, *storetest.Memory) {},
		"missing key": func(n *node, _ *storetest.Memory) { n.del("A") },
		"waiting":     func(n *node, _ *storetest.Memory) { n.manifest("b", requires("b", "", "B")); n.reload() },
		"store cut":   func(_ *node, m *storetest.Memory) { m.Cut() },
		"store wiped": func(_ *node, m *storetest.Memory) { m.Wipe() },
		"failing": func(n *node, _ *storetest.Memory) {
			n.runner.use(failing)
			n.put("A", "b")
		},
		"off and due": func(n *node, _ *storetest.Memory) {
			_ = n.agent.Off(n.t.Context(), api.OffRequest{Who: "test"})
			n.put("A", "b")
		},
		"off for 12h": func(n *node, _ *storetest.Memory) {
			_ = n.agent.Off(n.t.Context(), api.OffRequest{Who: "test", For: 12 * time.Hour})
			n.put("A", "b")
		},
		"manifests gone": func(n *node, _ *storetest.Memory) {
			_ = os.Remove(filepath.Join(n.cfg.Manifests[0], "app.json"))
			_ = os.Remove(filepath.Join(n.cfg.Manifests[0], "decl.json"))
			n.reload()
		},
		"one manifest gone": func(n *node, _ *storetest.Memory) {
			_ = os.Remove(filepath.Join(n.cfg.Manifests[0], "decl.json"))
			n.reload()
		},
		"manifest broken": func(n *node, _ *storetest.Memory) { n.manifest("app", "{"); n.reload() },
		"no directory": func(n *node, _ *storetest.Memory) {
			_ = os.RemoveAll(n.cfg.Manifests[0])
			n.reload()
		},
		"file cannot be written": func(n *node, _ *storetest.Memory) {
			n.block("decl")
			n.put("B", "b")
		},
		"run cannot be staged": func(n *node, _ *storetest.Memory) {
			n.block("app")
			n.put("A", "b")
		},
		"file cannot be removed": func(n *node, _ *storetest.Memory) {
			n.block("decl")
			_ = os.Remove(filepath.Join(n.cfg.Manifests[0], "decl.json"))
			n.reload()
		},
		"step of another agent": func(n *node, _ *storetest.Memory) {
			n.runner.mu.Lock()
			n.runner.going[provision.Ref{Run: "x", Step: "y"}] = make(chan struct{})
			n.runner.mu.Unlock()
			n.put("A", "b")
			n.t.Cleanup(func() { n.runner.overlap = false })
		},
	}
	// Each run that is tried again takes some looks.
	most := map[string]int{"step of another agent": 24 * 3600, "failing": 24 * 60}
	writes := map[string]bool{"failing": true, "run cannot be staged": true, "off for 12h": true}
	for name, enter := range states {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
				n.cfg.Throttle = config.Default().Throttle
				n.put("A", "a")
				n.put("B", "a")
				n.manifest("app", requires("app", "", "A"))
				n.manifest("decl", requires("decl", `"command": false`, "B"))
				n.up()
				time.Sleep(time.Hour + 30*time.Second) // not when drift is looked for
				n.wantSteps("node")
				enter(n, m)
				time.Sleep(time.Hour)
				synctest.Wait()
				before, saves := n.looks(), n.stateWritten()
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				// A look a minute is the check for drift, one for the rescan.
				if looks, limit := n.looks()-before, 24*60*5/2+most[name]; looks > limit {
					t.Errorf("%d looks in a day, at most %d", looks, limit)
				}
				if !writes[name] && n.stateWritten() != saves {
					t.Error("state.json was written although nothing happened")
				}
			})
		})
	}
}

// looks is how often the loop has looked.
func (n *node) looks() (looks int) {
	n.t.Helper()
	if err := n.agent.do(n.t.Context(), func() { looks = n.agent.looks }); err != nil {
		n.t.Fatal(err)
	}
	return looks
}

// block puts a directory where the environment of id is, so that it can be
// neither written nor removed.
func (n *node) block(id string) {
	n.t.Helper()
	path := filepath.Join(n.cfg.Env.Dir, id+".conf")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		n.t.Fatal(err)
	}
}

// stateWritten changes whenever state.json is written.
func (n *node) stateWritten() fileSig {
	n.t.Helper()
	fi, err := os.Stat(filepath.Join(n.cfg.StateDir, "state.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	return sigOf(fi)
}

func TestAStateThatContradictsItselfIsUnreadable(t *testing.T) {
	_, err := decodeState([]byte(`{"boot": "b", "run": {"run": {"id": "r", "steps": []}, "steps": [{"step": "_node"}]}}`))
	if err == nil {
		t.Error("it would be taken over with a panic")
	}
}

func TestAHistoryThatCannotBeOpenedStopsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(filepath.Join(n.cfg.StateDir, "runs"), "not a directory")
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		n.wantConditions("history")
		if _, err := n.agent.Runs(t.Context(), 0); err == nil {
			t.Error("runs of a history that is not there")
		}
	})
}

func TestAChangeBetweenTheFirstReadingAndTheWatchIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		a, err := New(Options{Config: n.cfg, Store: m, Runner: n.runner, NoFileWatch: true, Clock: n.clock})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		files := newFileWatch(n.cfg) // as Run does
		a.load()
		n.manifest("late", requires("late", "", "A"))
		a.startWatching(ctx, files)
		select {
		case <-a.scans:
		case <-time.After(time.Hour):
			t.Error("the manifest is never read")
		}
		cancel()
		a.wg.Wait()
	})
}

func TestAttributesThatVanishCountAfterQuiet(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		path := n.cfg.Attributes[0]
		n.write(path, "A = \"a\"\n")
		n.manifest("app", `{"id": "app", "requires": {"V_A": "{A:-default}"}}`)
		n.up()
		n.wantSteps("node")
		for range 3 { // an editor, or a checkout, that takes its time
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			n.reload()
			time.Sleep(4 * time.Second)
			n.write(path, "A = \"a\"\n")
			n.reload()
			time.Sleep(time.Minute)
		}
		n.wantSteps("node")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // the rescan, and the quiet
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_A='default'\n" {
			t.Error(got)
		}
	})
}

func TestReloadWithBadAttributesChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "A = \"a\"\n")
		n.manifest("app", requires("app", "", "A"))
		next := *n.cfg
		next.Provision.Command = []string{"other"}
		n.reloadConfig = func() (*config.Config, error) { return &next, nil }
		n.up()
		n.wantSteps("node")
		n.write(n.cfg.Attributes[0], "A = \n")
		if err := n.agent.Reload(t.Context()); err == nil {
			t.Error("reload took a bad attributes file")
		}
		time.Sleep(time.Minute)
		n.wantSteps("node") // neither the command nor a value is another one
	})
}

func TestBrokenAttributesLeaveTheLastOnesInForceAlsoAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.write(n.cfg.Attributes[0], "A = \"a\"\n")
		n.manifest("app", `{"id": "app", "requires": {"V_A": "{A:-default}"}}`)
		n.up()
		n.wantSteps("node")
		time.Sleep(time.Second)
		n.stop()
		n.write(n.cfg.Attributes[0], "A = \n")
		n.up()
		time.Sleep(time.Hour)
		n.wantSteps("node")
		n.wantConditions("attributes")
	})
}

func TestAReloadWithOtherFormatsMovesTheFilesWithoutARun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.manifest("decl", requires("decl", `"command": false`, "A"))
		next := *n.cfg
		next.Env.Formats, next.Env.Mode = []string{"shell", "json"}, 0o600
		n.reloadConfig = func() (*config.Config, error) { return &next, nil }
		n.up()
		n.wantSteps("node")
		mode := func(name string) fs.FileMode {
			fi, err := os.Stat(filepath.Join(n.cfg.Env.Dir, name))
			if err != nil {
				return 0
			}
			return fi.Mode().Perm()
		}
		n.reload()
		for _, f := range []string{"app.conf", "app.json", "decl.conf", "decl.json"} {
			if m := mode(f); m != 0o600 {
				t.Errorf("%s has mode %v", f, m)
			}
		}
		last := next
		last.Env.Formats = []string{"json"}
		n.reloadConfig = func() (*config.Config, error) { return &last, nil }
		n.stop()
		n.up() // with the settings of the first start
		n.reload()
		if mode("app.conf") != 0 || mode("decl.conf") != 0 || mode("app.json") != 0o600 {
			t.Error("the files of a format that is not written any more are still there")
		}
		n.wantSteps("node")
	})
}

func TestFilesThatCannotBeWrittenAreNotApplied(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("B", "a")
		n.manifest("decl", requires("decl", `"command": false`, "B"))
		n.up()
		time.Sleep(30 * time.Second) // not when drift is looked for
		n.block("decl")
		n.put("B", "b")
		synctest.Wait()
		if st := n.status(); st.Synced {
			t.Error("synced although the file could not be written")
		}
		path := filepath.Join(n.cfg.Env.Dir, "decl.conf")
		n.wantConditions("files of decl")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(n.cfg.Retry.Max)
		n.wantConditions()
		if got := n.env("decl"); got != "export V_B='b'\n" {
			t.Error(got)
		}
		if st := n.status(); !st.Synced {
			t.Error("not synced")
		}
	})
}

func TestAnotherOwnerIsPutRightWithoutARun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("A", "a")
		n.manifest("app", requires("app", `"user": "no-such-user"`, "A"))
		n.up()
		n.wantSteps("node")
		n.wantConditions("owner of app")
		n.manifest("app", requires("app", `"user": "nobody"`, "A"))
		n.reload()
		n.wantSteps("node")
		n.wantConditions()
		fi, err := os.Stat(filepath.Join(n.cfg.Env.Dir, "app.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if sig := sigOf(fi); sig.uid == 0 || fi.Mode().Perm() != fs.FileMode(n.cfg.Env.Mode) {
			t.Errorf("uid %d, mode %v", sig.uid, fi.Mode())
		}
	})
}

func TestOneFoughtFileDoesNotKeepTheOthersFromRepair(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Env.Formats = []string{"shell", "json"}
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.up()
		n.wantSteps("node")
		time.Sleep(driftEvery / 2)
		conf, js := filepath.Join(n.cfg.Env.Dir, "app.conf"), filepath.Join(n.cfg.Env.Dir, "app.json")
		for range driftLimit + 1 {
			n.write(conf, "fought over")
			time.Sleep(driftEvery)
		}
		n.write(js, "edited once")
		time.Sleep(driftEvery)
		n.wantConditions("drift " + conf)
		if data, _ := os.ReadFile(js); string(data) == "edited once" {
			t.Error("the other file is not repaired")
		}
		for range 20 { // two hours later, and again and again
			time.Sleep(2 * time.Hour)
			n.write(conf, "fought over")
			time.Sleep(driftEvery)
		}
		synctest.Wait()
		if kept := len(n.agent.drift.repairs[conf]); kept > driftLimit {
			t.Errorf("%d repairs are remembered", kept)
		}
	})
}

func TestDatastoresPreferThePlainValue(t *testing.T) {
	for range 20 { // the order of maps
		bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
			n.manifest("a", `{"id": "a", "provides": {"K": "a:1"}}`)
			n.manifest("b", `{"id": "b", "provides": {"K": "b:1"}}`)
			n.manifest("c", `{"id": "c", "requires": {"ALL": "{K[]}", "ONE": "{K}", "B": "{b/K}"}}`)
			var doc string
			n.runner.command = func(j provision.Job) provision.Result {
				data, _ := os.ReadFile(jobEnv(j, "LISTENER_NODE_JSON"))
				doc = string(data)
				return provision.Result{Outcome: "exited"}
			}
			n.up()
			n.wantSteps("node")
			_, one, _ := strings.Cut(n.env("c"), "ONE='")
			one, _, _ = strings.Cut(one, "'")
			if !strings.Contains(doc, `"K": "`+one+`"`) || one == "" {
				t.Errorf("K is not %q in %s", one, doc)
			}
		})
	}
}

func TestStatusRightAfterAReloadIsNotSynced(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.up()
		n.wantSteps("node")
		n.manifest("more", requires("more", `"command": false`, "A"))
		if err := n.agent.do(t.Context(), func() {
			n.agent.takeScan(readScan(n.cfg.Manifests))
			if n.agent.status().Synced { // asked before the loop looked again
				t.Error("synced although a service is new")
			}
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAcceptWithoutAKeyMakesNoAbsenceProven(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.put("A", "a")
		n.manifest("app", `{"id": "app", "requires": {"V_A": "{A:-default}"}}`)
		n.up()
		n.wantSteps("node")
		n.stop()
		m.Cut()
		if err := os.Remove(n.agent.replicaPath()); err != nil {
			t.Fatal(err)
		}
		n.up()
		time.Sleep(time.Minute)
		n.wantConditions("degraded A", "store unreachable")
		for _, key := range []string{"", "A"} {
			if _, err := n.agent.Accept(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if key == "" {
				n.wantSteps("node") // it is an outage, not a decision over A
			}
		}
		n.wantSteps("node", "node")
	})
}

func TestPendingDuringARunSaysSinceWhen(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Throttle.Settle, n.cfg.Throttle.SettleMax = time.Minute, time.Hour
		n.runner.command = func(provision.Job) provision.Result {
			time.Sleep(time.Hour)
			return provision.Result{Outcome: "exited"}
		}
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.up()
		time.Sleep(2 * time.Minute)
		n.wantSteps("node")
		n.put("A", "b")
		at := time.Now()
		time.Sleep(10 * time.Minute)
		if p := n.status().Pending; p == nil || p.Since.Sub(at).Abs() > time.Second {
			t.Errorf("pending %+v, since %v", p, at)
		}
		time.Sleep(49*time.Minute + time.Second) // the run ends; changes have long been quiet
		n.wantSteps("node", "node")
		time.Sleep(2 * time.Hour)
	})
}

func TestAFailureIsOverWhenNothingIsDue(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.up()
		n.wantSteps("node")
		time.Sleep(30 * time.Second)
		n.block("app")
		n.put("A", "b")
		synctest.Wait()
		if len(n.status().Failures) != 1 {
			t.Error("the run did not fail")
		}
		if err := os.Remove(filepath.Join(n.cfg.Env.Dir, "app.conf")); err != nil {
			t.Fatal(err)
		}
		n.put("A", "a")
		synctest.Wait()
		if st := n.status(); len(st.Failures) != 0 || !st.Synced {
			t.Errorf("nothing is due, but %+v", st.Failures)
		}
	})
}

func TestASecondManifestOfAServiceNeverTakesOver(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		other := filepath.Join(n.dir, "zz")
		n.cfg.Manifests = append(n.cfg.Manifests, other)
		if err := os.Mkdir(other, 0o700); err != nil {
			t.Fatal(err)
		}
		n.put("A", "a")
		n.manifest("app", requires("app", "", "A"))
		n.write(filepath.Join(other, "app.json"), requires("app", `"environment": {"SECOND": "1"}`, "A"))
		n.up()
		n.wantSteps("node")
		n.manifest("app", "{")
		n.reload()
		time.Sleep(time.Minute)
		n.wantSteps("node")
	})
}

// lockedText collects text from several goroutines.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestNoValueIsEverTold plays what goes wrong with a value and looks for it in
// everything that the agent says.
func TestNoValueIsEverTold(t *testing.T) {
	const secret = "s3cr3t"
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.cfg.Env.Formats = []string{"shell", "systemd"}
		n.write(n.cfg.Attributes[0], "ATTR = \""+secret+"\"\n")
		n.manifest("app", requires("app", "", "A", "ATTR"))
		n.manifest("own", requires("own", `"command": "own", "provides": {"P": "x"}`, "B", "P2"))
		n.manifest("decl", requires("decl", `"command": false`, "A"))
		for _, k := range []string{"A", "B", "P2"} {
			n.put(k, secret+k)
		}
		said := &lockedText{}
		a, err := New(Options{
			Config: n.cfg, Store: m, Runner: n.runner, NoFileWatch: true, Clock: n.clock,
			Log:     slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})),
			OnEvent: func(e status.Event) { fmt.Fprintf(said, "%+v\n", e) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		n.agent = a
		look := func() {
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			st, err1 := a.Status(ctx)
			ex, err2 := a.Explain(ctx)
			runs, err3 := a.Runs(ctx, 0)
			var resolved []status.Resolved
			for _, id := range []string{"app", "own", "decl"} {
				r, err := a.Resolve(ctx, id, false)
				err1 = errors.Join(err1, err)
				resolved = append(resolved, r...)
			}
			text, err4 := json.Marshal([]any{st, ex, runs, resolved})
			if err := errors.Join(err1, err2, err3, err4); err != nil {
				t.Error(err)
			}
			fmt.Fprintf(said, "%s\n", text)
		}
		look()
		n.put("A", secret+"\nsecond line")
		look()
		n.put("A", secret+"\ufffe") // which the systemd format refuses
		look()
		n.write(n.cfg.Attributes[0], "ATTR = "+secret+"\n")
		if err := a.Reload(ctx); err != nil {
			fmt.Fprintln(said, err)
		}
		look()
		n.write(n.cfg.Attributes[0], "ATTR = \""+secret+"\\n\"\n")
		if err := a.Reload(ctx); err != nil {
			fmt.Fprintln(said, err)
		}
		n.runner.use(failing)
		n.put("A", secret+"2")
		n.block("decl")
		look()
		n.del("A")
		m.Wipe()
		look()
		m.Cut()
		look()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(said.String()) {
			if strings.Contains(line, secret) {
				t.Errorf("a value is told: %s", line)
			}
		}
	})
}

func TestAnOutageDoesNotBringBackAnOlderAcceptedValue(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		for range 20 {
			n.put("A", "old")
		}
		n.manifest("app", requires("app", "", "A"))
		n.up()
		n.wantSteps("node")
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "test"}); err != nil {
			t.Fatal(err)
		}
		m.Wipe()
		synctest.Wait()
		n.put("A", "new") // at a lower revision than the last run used
		synctest.Wait()
		m.Cut()
		if _, err := n.agent.On(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		n.wantSteps("node", "node")
		if got := n.env("app"); got != "export V_A='new'\n" {
			t.Errorf("%q: the last picture stays in force", got)
		}
	})
}

func TestANewWatchThatLagsIsNoRegression(t *testing.T) {
	now := time.Now()
	v := newView(store.Space{Prefix: "/p", Federation: "f"}, "r", config.Default().Protect, now)
	a := v.space.Value("", "A")
	v.apply(store.Update{Kind: store.Reset, Rev: 10, KVs: []store.KV{{Key: a, Value: []byte("old"), Rev: 5}}}, []string{"A"}, now)
	v.apply(store.Update{Kind: store.Change, Rev: 11, KVs: []store.KV{{Key: a, Value: []byte("new"), Rev: 11}}}, []string{"A"}, now)
	// The Reset of a Watch that began before revision 11 and arrives after it.
	v.apply(store.Update{Kind: store.Reset, Rev: 10, KVs: []store.KV{{Key: a, Value: []byte("old"), Rev: 5}}}, []string{"A", "B"}, now)
	if e, _ := v.value("", "A"); e.Text != "new" {
		t.Errorf("A is %q", e.Text)
	}
	v.apply(store.Update{Kind: store.Change, Rev: 11, KVs: []store.KV{{Key: a, Value: []byte("new"), Rev: 11}}}, []string{"A", "B"}, now)
	if len(v.held) > 0 || v.rev != 11 {
		t.Errorf("held %v at revision %d", v.held, v.rev)
	}
}

// A disk that has room again is noticed without a change, and what happened
// meanwhile is written: a restart after that knows of it.
func TestWhatCouldNotBeWrittenIsWrittenWhenTheDiskIsBack(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "a")
		n.up()
		n.wantSteps("node")
		away := n.cfg.StateDir + ".away"
		if err := os.Rename(n.cfg.StateDir, away); err != nil {
			t.Fatal(err)
		}
		n.write(n.cfg.StateDir, "no directory")
		n.put("A", "b")
		n.wantSteps("node", "node")
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "somebody"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		n.wantConditions("attributes copy", "history", "history prune", "last_provision", "off file", "replica", "state_dir")
		if err := errors.Join(os.Remove(n.cfg.StateDir), os.Rename(away, n.cfg.StateDir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(driftEvery + time.Second)
		n.wantConditions()
		n.stop()
		n.up()
		st, err := n.agent.Status(t.Context())
		if err != nil || st.On || st.Off.Who != "somebody" {
			t.Errorf("%v, on %v, off %+v", err, st.On, st.Off)
		}
		if st.Pending != nil {
			t.Errorf("pending after a restart: %+v", st.Pending)
		}
		n.wantSteps("node", "node")
	})
}

// Own steps that were skipped because the node's command fails do not make its
// retries count as new runs.
func TestARetryOfTheNodeStepStaysOneWithOwnStepsBehindIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.cfg.Retry.Base, n.cfg.Retry.Max = time.Second, time.Second
		n.manifest("app", requires("app", "", "A"))
		n.manifest("own", requires("own", `"command": "true"`, "A"))
		n.put("A", "a")
		n.runner.use(func(provision.Job) provision.Result { return provision.Result{Outcome: "failed", Exit: 1} })
		n.up()
		time.Sleep(10 * time.Second)
		runs, err := n.agent.Runs(t.Context(), 0)
		if err != nil || len(runs) < 3 {
			t.Fatalf("%d runs, %v", len(runs), err)
		}
		for i, r := range runs {
			if want := map[bool]string{true: "auto", false: "retry"}[i == len(runs)-1]; r.Kind != want {
				t.Errorf("run %d is %s, want %s: %v", i, r.Kind, want, r.Reasons)
			}
		}
	})
}

// A node that lacks all values says so in a log of some lines.
func TestManyConditionsAtOnceAreToldInAFewLines(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		for i := range 100 {
			id := fmt.Sprintf("s%d", i)
			n.manifest(id, requires(id, "", fmt.Sprintf("A%d", i)))
		}
		events := 0
		n.onEvent = func(e status.Event) {
			if e.Name == "condition" {
				events++
			}
		}
		n.up()
		time.Sleep(time.Second)
		st, err := n.agent.Status(t.Context())
		if err != nil || len(st.Conditions) != 100 {
			t.Errorf("%d conditions, %v", len(st.Conditions), err)
		}
		n.stop()
		if events != conditionsAtOnce+1 {
			t.Errorf("%d lines", events)
		}
	})
}
