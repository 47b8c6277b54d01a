package listener

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// ownAPI is a service of this node behind local port 9000; its edits replace text.
func ownAPI(edits ...string) string {
	text := `{"id": "api", "provides": {"K": "http://{HOST}:{PORT}"}, "environment": {"PORT": 8080}, "local_port": 9000, "command": ["api"]}`
	return strings.NewReplacer(edits...).Replace(text)
}

// Killed, the agent still knows what it offers, although at the next start the
// service is due.
func TestAKilledAgentKnowsWhatItOffers(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		heavy := strings.Replace(apiManifest, `{"id"`, `{"weight": 7, "id"`, 1) // needs no run
		n.manifest("api", heavy)
		n.reload()
		n.wantState(store.Up)
		state := filepath.Join(n.cfg.StateDir, "state.json")
		killed, err := os.ReadFile(state)
		if err != nil {
			t.Fatal(err)
		}
		n.stop()
		n.write(state, string(killed))
		n.runner.use(failing)
		n.manifest("api", strings.Replace(heavy, "8080", "9090", 1))
		n.up()
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:8080" || p.Weight != 7 {
			t.Errorf("published %+v before the step succeeded", p)
		}
	})
}

// A service that is kept is not provisioned, so it goes on offering what it did.
func TestAKeptServiceOffersWhatItDid(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.put("DB", "one")
		api := `{"id": "api", "requires": {"DB": "{DB}"}, "provides": {"K": "http://{HOST}:{PORT}"}, "environment": {"PORT": 8080}, "command": ["api"]}`
		n.manifest("api", api)
		n.manifest("app", requires("app", "", "K"))
		n.up()
		n.wantState(store.Up)
		n.wantEnv("http://10.0.0.1:8080")
		n.del("DB")
		n.wantConditions("missing DB")
		n.manifest("api", strings.Replace(api, "8080", "9090", 1))
		n.reload()
		n.wantConditions("missing DB")
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:8080" || p.Port != 8080 {
			t.Errorf("published %+v although the service was not provisioned", p)
		}
		n.wantEnv("http://10.0.0.1:8080")
		n.wantSteps("node", "api")
		n.stop()
		n.up()
		time.Sleep(time.Minute)
		n.wantEnv("http://10.0.0.1:8080")
		n.wantSteps("node", "api")
		n.put("DB", "two")
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:9090" {
			t.Errorf("published %+v", p)
		}
		n.wantEnv("http://10.0.0.1:9090")
	})
}

// What a step that succeeded was run with is offered, although the service is
// due again, or kept, by then.
func TestAServiceOffersWhatItsLastStepWasRunWith(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		ports := []string{"8080", "9090", "9191"}
		n.runner.use(func(provision.Job) provision.Result {
			time.Sleep(time.Minute)
			return provision.Result{Outcome: "exited"}
		})
		n.manifest("api", strings.Replace(apiManifest, ports[0], ports[1], 1))
		n.reload()
		time.Sleep(10 * time.Second)
		n.manifest("api", strings.Replace(apiManifest, ports[0], ports[2], 1))
		n.reload()
		time.Sleep(time.Minute)
		for _, port := range ports[1:] {
			n.wantState(store.Up)
			if _, _, p := n.entry(); p.Value != "http://10.0.0.1:"+port {
				t.Errorf("published %q, want %s", p.Value, port)
			}
			time.Sleep(time.Minute)
		}
	})
}

// What a manifest offered before it offered nothing is not offered when it
// offers something again.
func TestAnOfferThatWentIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", apiManifest)
		n.up()
		n.wantState(store.Up)
		n.manifest("api", strings.Replace(apiManifest, `"K": "http://{HOST}:{PORT}"`, "", 1))
		n.reload()
		n.wantState(store.Left)
		time.Sleep(time.Hour)
		n.wantState("")
		n.runner.use(failing)
		n.manifest("api", strings.Replace(apiManifest, "8080", "9090", 1))
		n.reload()
		n.wantState("")
		n.runner.use(nil)
		time.Sleep(20 * time.Minute)
		n.wantState(store.Up)
		if _, _, p := n.entry(); p.Value != "http://10.0.0.1:9090" {
			t.Errorf("published %+v", p)
		}
	})
}

// What an own service offers counts behind the local balancer from the start:
// a value that is direct first, and then is not, would be two runs.
func TestAnOwnProviderBehindTheLocalBalancerIsOneRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.manifest("api", ownAPI())
		n.up()
		n.wantEnv("http://127.0.0.1:9000")
		n.wantSteps("node", "api")
		n.wantState(store.Up)
		time.Sleep(time.Hour)
		n.wantSteps("node", "api")

		restart := func(between func()) {
			n.stop()
			between()
			n.up()
			time.Sleep(time.Hour)
			n.wantEnv("http://127.0.0.1:9000")
			n.wantSteps("node", "api")
		}
		restart(func() {})
		restart(func() { m.Cut() })
		restart(func() { n.write(filepath.Join(n.cfg.StateDir, "replica.json"), "garbage") })
		m.Heal()
		time.Sleep(time.Hour)
		n.wantEnv("http://127.0.0.1:9000")
		n.wantSteps("node", "api")
		if err := n.agent.Drain(t.Context(), "me", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		restart(func() { time.Sleep(time.Hour) }) // its session expires
		if _, err := n.agent.Undrain(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.wantState(store.Up)
		restart(func() { time.Sleep(time.Hour) })
		restart(func() { m.Wipe() })
		n.wantState(store.Up)
	})
}

// An edit that changes nothing of a service that is not published yet does not
// move its consumer off the balancer for a moment.
func TestAnEditOfAnUnpublishedProviderFlipsNothing(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		never := ownAPI(`"command": ["api"]`, `"command": false, "check": {"tcp": "127.0.0.1:1"}`)
		n.manifest("api", never)
		n.up()
		n.wantEnv("http://127.0.0.1:9000")
		n.wantSteps("node")
		n.manifest("api", strings.Replace(never, `{"id"`, `{"weight": 5, "id"`, 1))
		n.reload()
		time.Sleep(time.Hour)
		n.wantEnv("http://127.0.0.1:9000")
		n.wantSteps("node")
		n.manifest("api", strings.Replace(never, `9000`, `9001`, 1))
		n.reload()
		n.wantEnv("http://127.0.0.1:9001")
		n.wantSteps("node", "node")
	})
}

// While nothing is known of a key, an own service is no answer: an operator's
// value may outrank it.
func TestAnOwnProviderDoesNotAnswerBeforeTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, m *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		n.manifest("api", apiManifest)
		n.put("K", "http://operator")
		n.up()
		n.wantEnv("http://operator")
		n.wantSteps("node", "api")
		n.stop()
		m.Cut()
		if err := os.Remove(filepath.Join(n.cfg.StateDir, "replica.json")); err != nil {
			t.Fatal(err)
		}
		n.up()
		time.Sleep(time.Hour)
		n.wantEnv("http://operator")
		n.wantSteps("node", "api")
		m.Heal()
		time.Sleep(time.Hour)
		synctest.Wait()
		n.wantEnv("http://operator")
		n.wantSteps("node", "api")
	})
}

// What a node whose state file is damaged has published stays, also while the
// run that this forces fails: nobody took the service away.
func TestALostStateWithdrawsNothing(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"garbage": func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"gone":    os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
				n.manifest("api", apiManifest)
				n.up()
				n.wantState(store.Up)
				_, was, _ := n.entry()
				n.stop()
				if err := damage(filepath.Join(n.cfg.StateDir, "state.json")); err != nil {
					t.Fatal(err)
				}
				n.runner.use(failing)
				n.up()
				n.wantState(store.Up)
				if _, kv, _ := n.entry(); kv.Rev != was.Rev {
					t.Errorf("the entry was written again: %s", kv.Value)
				}
				if err := n.agent.Drain(t.Context(), "ann", ""); err != nil {
					t.Fatal(err)
				}
				n.wantState(store.Draining)
				time.Sleep(n.cfg.Publish.DrainWait)
				n.wantState(store.Left)
				if _, err := n.agent.Undrain(t.Context()); err != nil {
					t.Fatal(err)
				}
				n.wantState(store.Up)
				n.runner.use(nil)
				time.Sleep(20 * time.Minute)
				n.wantState(store.Up)
				if _, _, p := n.entry(); p.Value != "http://10.0.0.1:8080" {
					t.Errorf("published %+v", p)
				}
			})
		})
	}
}

// Nor does a check take it away that has lost the environment of the service.
func TestALostStateFailsNoCheck(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("api", strings.Replace(apiManifest, `{"id"`, `{"check": {"exec": ["sh", "-c", "test -n \"$PORT\""]}, "id"`, 1))
		n.up()
		time.Sleep(time.Minute)
		n.wantState(store.Up)
		n.stop()
		if err := os.Remove(filepath.Join(n.cfg.StateDir, "state.json")); err != nil {
			t.Fatal(err)
		}
		n.runner.use(failing)
		n.up()
		time.Sleep(5 * time.Minute)
		n.wantState(store.Up)
		n.runner.use(nil)
		time.Sleep(20 * time.Minute)
		n.wantState(store.Up)
	})
}
