// Package fleettest plays what several nodes do for each other, with real
// agents on a real store. It is for the tests of the stores, in test/.
package fleettest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// patience is how long a step may take; each takes a few seconds.
const patience = 90 * time.Second

// ttl of the nodes' sessions: the least that all stores take.
const ttl = 2 * time.Second

// Play plays two regions and two federations on one store: providers come,
// fail over, come back, are drained, and their agents restart. exe is the
// listener binary, settings the [store] tables of the settings file.
func Play(t *testing.T, exe, settings string) {
	t.Helper()
	f := &fleet{T: t, exe: exe, settings: settings}
	usAPI := f.node("us-api", "us", "shop", api("us"))
	euAPI := f.node("eu-api", "eu", "shop", api("eu"))
	usWeb, euWeb := f.node("us-web", "us", "shop", web), f.node("eu-web", "eu", "shop", web)
	other := f.node("other-web", "us", "other", web)
	for _, n := range []*node{usWeb, euWeb, other} {
		n.start()
		n.until("it waits for API_URL", func(s status.Status) bool { return has(s, "waiting") })
	}
	usAPI.start()
	euAPI.start()
	usWeb.uses("http://us")
	euWeb.uses("http://eu")

	runs := usWeb.runs()
	for range 3 { // who restarts flaps for nobody
		usAPI.stop()
		usAPI.start()
		usAPI.until("it answers", func(status.Status) bool { return true })
	}
	if again := usWeb.runs(); again != runs {
		t.Errorf("restarts of a provider's agent cost a consumer %d runs", again-runs)
	}

	usAPI.crash()
	usWeb.uses("http://eu") // the other region, in the configured order
	usAPI.start()
	usAPI.until("it is published again", func(s status.Status) bool { return published(s, store.Up) })
	usWeb.uses("http://us") // and back, after the delay

	euAPI.crash()
	euWeb.uses("http://us")
	usAPI.crash() // nobody is left
	euWeb.until("its last good value stays", func(s status.Status) bool { return has(s, "degraded") })
	euWeb.uses("http://us")
	usAPI.start()
	euAPI.start()
	euWeb.uses("http://eu")
	euWeb.until("its provider is back", func(s status.Status) bool { return !has(s, "degraded") && s.Synced })
	usWeb.uses("http://us")

	usAPI.command("drain", "-m", "test")
	euAPI.command("drain", "-m", "test")
	usWeb.until("every provider was withdrawn", func(s status.Status) bool { return has(s, "missing") })
	euAPI.command("undrain")
	usWeb.until("one is back", func(s status.Status) bool { return !has(s, "missing") && s.Synced })
	usWeb.uses("http://eu")

	f.exclusive()
	other.until("another federation sees nothing", func(s status.Status) bool { return has(s, "waiting") && s.RunsTotal == 0 })
}

// exclusive plays an exclusive key: one publishes it, the other stands by and
// takes over when the first one dies, or lets go.
func (f *fleet) exclusive() {
	f.Helper()
	const leader = `{"id": "leader", "provides": {"LEADER_URL": "http://{NODE}"}, "exclusive": ["LEADER_URL"], "command": "true"}`
	one, two := f.node("one", "us", "shop", leader), f.node("two", "us", "shop", leader)
	client := f.node("client", "us", "shop", `{"id": "web", "requires": {"API_URL": "{LEADER_URL}"}, "command": "true"}`)
	client.start()
	one.start()
	one.until("it holds the claim", func(s status.Status) bool { return published(s, store.Up) })
	two.start()
	two.until("it stands by", func(s status.Status) bool { return published(s, store.Standby) })
	client.uses("http://one")
	one.crash()
	two.until("it takes over", func(s status.Status) bool { return published(s, store.Up) })
	client.uses("http://two")
	one.start()
	one.until("it stands by", func(s status.Status) bool { return published(s, store.Standby) })
	two.command("drain")
	one.until("it takes over", func(s status.Status) bool { return published(s, store.Up) })
	client.uses("http://one")
}

// api provides API_URL; web requires it.
func api(region string) string {
	return fmt.Sprintf(`{"id": "api", "provides": {"API_URL": "http://%s"}, "command": "true"}`, region)
}

const web = `{"id": "web", "requires": {"API_URL": "{API_URL}"}, "command": "true"}`

type fleet struct {
	*testing.T
	exe, settings string
}

type node struct {
	*fleet
	name, dir string
	agent     *exec.Cmd
}

// node makes one with a single manifest.
func (f *fleet) node(name, region, federation, manifest string) *node {
	f.Helper()
	dir, err := os.MkdirTemp("", "fl") //nolint:usetesting // short: a socket's path must fit
	f.must(err)
	f.Cleanup(func() { os.RemoveAll(dir) })
	n := &node{fleet: f, name: name, dir: dir}
	settings := fmt.Sprintf(`
node = %q
host = "127.0.0.1"
region = %q
region_order = ["us", "eu"]
federation = %q
manifests = ["service"]
attributes = []
state_dir = "state"
run_dir = "run"
[env]
dir = "env"
[throttle]
settle = "0s"
min_interval = "0s"
burst = 0
[publish]
ttl = %q
drain_wait = "1s"
[protect]
failback_delay = "1s"
[api]
socket = "s"
[provision]
runner = "direct"
%s`, name, region, federation, ttl, f.settings)
	_, rest, _ := strings.Cut(manifest, `"id": "`)
	id, _, _ := strings.Cut(rest, `"`)
	for _, d := range []string{"service", "state", "run", "env"} {
		f.must(os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	f.must(os.WriteFile(filepath.Join(dir, "listener.toml"), []byte(settings), 0o600))
	f.must(os.WriteFile(filepath.Join(dir, "service", id+".json"), []byte(manifest), 0o600))
	f.Cleanup(n.stop)
	return n
}

func (f *fleet) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (n *node) start() {
	n.Helper()
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	n.must(err)
	defer log.Close()
	n.agent = exec.Command(n.exe, "agent", "--config", filepath.Join(n.dir, "listener.toml"))
	n.agent.Stderr = log
	n.agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n.must(n.agent.Start())
}

// stop ends the agent as an upgrade does, crash as kill -9.
func (n *node) stop()  { n.end(syscall.SIGTERM) }
func (n *node) crash() { n.end(syscall.SIGKILL) }

func (n *node) end(how syscall.Signal) {
	if n.agent == nil {
		return
	}
	_ = n.agent.Process.Signal(how)
	_ = n.agent.Wait()
	n.agent = nil
	if n.Failed() {
		log, _ := os.ReadFile(filepath.Join(n.dir, "log"))
		n.Logf("%s:\n%s", n.name, log)
	}
}

func (n *node) command(args ...string) {
	n.Helper()
	if out, err := n.run(args...); err != nil {
		n.Fatalf("%s: listener %v: %v: %s", n.name, args, err, out)
	}
}

func (n *node) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	return exec.CommandContext(ctx, n.exe, append(args, "--socket", filepath.Join(n.dir, "s"))...).Output()
}

func (n *node) status() (s status.Status, err error) {
	out, err := n.run("status", "-o", "json")
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

func (n *node) until(what string, is func(status.Status) bool) {
	n.Helper()
	var s status.Status
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s, err = n.status(); err == nil && is(s) {
			return
		}
	}
	n.Fatalf("%s: not within %s: %s; %v %+v", n.name, patience, what, err, s.Conditions)
}

// uses waits until the environment file has value.
func (n *node) uses(value string) {
	n.Helper()
	want, got := "export API_URL='"+value+"'\n", []byte(nil)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, _ = os.ReadFile(filepath.Join(n.dir, "env", "web.conf")); string(got) == want {
			return
		}
	}
	n.Fatalf("%s: its environment is %q, not %q", n.name, got, want)
}

// runs is how many runs there were, once the node is in step.
func (n *node) runs() (total uint64) {
	n.Helper()
	n.until("it is in step", func(s status.Status) bool { total = s.RunsTotal; return s.Synced })
	return total
}

func has(s status.Status, condition string) bool {
	return slices.ContainsFunc(s.Conditions, func(c status.Condition) bool { return c.Name == condition })
}

func published(s status.Status, state store.State) bool {
	return s.Publishing != nil && len(s.Publishing.Published) > 0 &&
		!slices.ContainsFunc(s.Publishing.Published, func(p status.Published) bool { return p.State != string(state) })
}
