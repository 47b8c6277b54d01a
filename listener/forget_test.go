package listener

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/store/storetest"
)

// A disk that is full when a step ends keeps its result where the step left it:
// an agent that is started before there is room again would run it once more.
func TestAStepWhoseEndIsNotWrittenIsNotForgotten(t *testing.T) {
	for _, broken := range []string{"node", "api"} {
		t.Run(broken, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
				away := n.cfg.StateDir + ".away"
				n.manifest("api", requires("api", `"command": ["api"]`, "A"))
				n.manifest("app", requires("app", "", "A"))
				n.put("A", "1")
				n.up()
				n.wantSteps("node", "api")
				time.Sleep(time.Second) // another run, another id
				n.runner.use(func(j provision.Job) provision.Result {
					if stepName(j.Step) == broken {
						if err := errors.Join(os.Rename(n.cfg.StateDir, away), os.WriteFile(n.cfg.StateDir, nil, 0o600)); err != nil {
							t.Error(err)
						}
					}
					return provision.Result{Outcome: "exited"}
				})
				n.put("A", "2")
				n.wantSteps("node", "api", "node", "api")
				back := func() {
					if err := errors.Join(os.Remove(n.cfg.StateDir), os.Rename(away, n.cfg.StateDir)); err != nil {
						t.Fatal(err)
					}
				}
				n.stop()
				back()
				n.runner.use(nil)
				n.up()
				time.Sleep(time.Hour)
				n.wantSteps("node", "api", "node", "api")
				runs, err := n.agent.Runs(t.Context(), 0)
				if err != nil || len(runs) != 2 || runs[0].Result != "ok" {
					t.Errorf("%+v %v", runs, err)
				}
				if left, _ := n.runner.Left(); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// Steps whose result could not be removed when they ended are forgotten as soon
// as that can be, while the same agent runs.
func TestStepsAreForgottenLater(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		away := n.cfg.StateDir + ".away"
		n.manifest("app", requires("app", "", "A"))
		n.put("A", "1")
		n.up()
		n.wantSteps("node")
		n.runner.use(func(provision.Job) provision.Result {
			if err := errors.Join(os.Rename(n.cfg.StateDir, away), os.WriteFile(n.cfg.StateDir, nil, 0o600)); err != nil {
				t.Error(err)
			}
			return provision.Result{Outcome: "exited"}
		})
		time.Sleep(time.Second)
		n.put("A", "2")
		n.wantSteps("node", "node")
		n.runner.use(nil)
		for _, v := range []string{"3", "4", "5"} { // state.json knows nothing of these
			time.Sleep(time.Second)
			n.put("A", v)
		}
		n.wantSteps("node", "node", "node", "node", "node")
		if left, _ := n.runner.Left(); len(left) != 1 {
			t.Errorf("left on a full disk: %v", left)
		}
		if err := errors.Join(os.Remove(n.cfg.StateDir), os.Rename(away, n.cfg.StateDir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(driftEvery + time.Second)
		n.wantConditions()
		if left, _ := n.runner.Left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}

		n.runner.failForget(errors.New("read-only file system"))
		n.put("A", "6")
		n.wantSteps("node", "node", "node", "node", "node", "node")
		n.wantConditions("run_dir")
		n.runner.failForget(nil)
		time.Sleep(driftEvery + time.Second)
		n.wantConditions()
		if left, _ := n.runner.Left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
