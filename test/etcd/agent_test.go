package etcd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// binary builds the real program once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "listener-etcd-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "listener")
	out, err := exec.Command("go", "build", "-C", "../..", "-o", bin, "./cmd/listener").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// agent is the real program on a node of its own, whose command notes each run.
type agent struct {
	t    *testing.T
	dir  string
	bin  string
	args []string
	proc *exec.Cmd

	launch func(*exec.Cmd) error // starts the program
}

func newAgent(t *testing.T, storeSettings string, args ...string) *agent {
	t.Helper()
	return newAgentAt(t, (*exec.Cmd).Start, storeSettings, args...)
}

func newAgentAt(t *testing.T, launch func(*exec.Cmd) error, storeSettings string, args ...string) *agent {
	t.Helper()
	bin, err := binary()
	must(t, err)
	dir, err := os.MkdirTemp("", "le") //nolint:usetesting // short: a socket's path must fit
	must(t, err)
	a := &agent{t: t, dir: dir, bin: bin, args: args, launch: launch}
	t.Cleanup(func() {
		a.stop()
		if log, err := os.ReadFile(a.path("log")); t.Failed() && err == nil {
			t.Logf("the agent's log:\n%s", log)
		}
		os.RemoveAll(dir)
	})
	must(t, os.Mkdir(a.path("service"), 0o755))
	a.write("service/web.json", `{"id": "web", "requires": {"URL": "{URL}"}}`, 0o644)
	a.write("provision.sh", "#!/bin/sh\necho run >>"+a.path("runs")+"\n", 0o755)
	a.write("listener.toml", fmt.Sprintf(`
node = "n1"
host = "10.0.0.1"
manifests = [%q]
attributes = []
state_dir = %q
run_dir = %q
[provision]
command = [%q]
[env]
dir = %q
[throttle]
settle = "0s"
settle_max = "0s"
min_interval = "0s"
burst = 0
[api]
socket = %q
%s`, a.path("service"), a.path("state"), a.path("run"), a.path("provision.sh"), a.path("env"), a.path("s"), storeSettings), 0o644)
	a.start()
	return a
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

func (a *agent) write(name, text string, mode os.FileMode) {
	a.t.Helper()
	// A process that is forked meanwhile holds the file open for writing.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	must(a.t, os.WriteFile(a.path(name), []byte(text), mode))
}

func (a *agent) start() {
	a.t.Helper()
	log, err := os.OpenFile(a.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(a.t, err)
	defer log.Close()
	a.proc = exec.Command(a.bin, append([]string{"agent", "--config", a.path("listener.toml")}, a.args...)...)
	a.proc.Stderr = log
	a.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(a.t, a.launch(a.proc))
}

func (a *agent) stop() {
	if a.proc != nil {
		_ = a.proc.Process.Signal(syscall.SIGTERM)
		_ = a.proc.Wait()
		a.proc = nil
	}
}

func (a *agent) status() (st status.Status, err error) {
	c, err := api.Dial(a.path("s"))
	if err != nil {
		return st, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(a.t.Context(), limit)
	defer cancel()
	return c.Status(ctx)
}

// condition waits for one, with words in its text.
func (a *agent) condition(name string, words ...string) {
	a.t.Helper()
	until(a.t, "the condition "+name, func() bool {
		st, err := a.status()
		if err != nil {
			return false
		}
		for _, c := range st.Conditions {
			if c.Name == name && !containsNot(c.Text, words) {
				return true
			}
		}
		return false
	})
}

func containsNot(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// synced waits until nothing is wrong and nothing to be done.
func (a *agent) synced() {
	a.t.Helper()
	until(a.t, "an agent without conditions", func() bool {
		st, err := a.status()
		return err == nil && st.Synced && len(st.Conditions) == 0
	})
}

func (a *agent) env() string {
	data, _ := os.ReadFile(a.path("env/web.conf"))
	return string(data)
}

func (a *agent) runs() int {
	data, _ := os.ReadFile(a.path("runs"))
	return strings.Count(string(data), "\n")
}

func (a *agent) hasURL(value string) {
	a.t.Helper()
	until(a.t, "URL="+value, func() bool { return strings.Contains(a.env(), "'"+value+"'") })
}

// cli runs a command against the agent.
func (a *agent) cli(args ...string) string {
	a.t.Helper()
	out, err := a.try(args)
	if err != nil {
		a.t.Fatalf("listener %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// cliFails runs one that must fail.
func (a *agent) cliFails(args ...string) string {
	a.t.Helper()
	out, err := a.try(args)
	if err == nil {
		a.t.Fatalf("listener %s did not fail:\n%s", strings.Join(args, " "), out)
	}
	return out
}

func (a *agent) try(args []string) (string, error) {
	c := exec.Command(a.bin, args...)
	c.Env = append(os.Environ(), "LISTENER_SOCKET="+a.path("s"))
	out, err := c.CombinedOutput()
	return string(out), err
}

const urlKey = "/listener/v1/default/values/URL"

func putURL(t *testing.T, c *clientv3.Client, value string) {
	t.Helper()
	_, err := c.Put(t.Context(), urlKey, value)
	must(t, err)
}

// The whole agent: a value is acted on; an outage of any kind changes nothing,
// a store that lost its data neither, until somebody accepts or writes.
func TestAgent(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	operator := s.bare(t)
	for _, v := range []string{"zero", "one"} {
		putURL(t, operator, v)
	}
	a := newAgent(t, "", "--store", "etcd://"+s.client)
	a.hasURL("one")
	a.synced()
	a.cli("put", "URL", "two")
	a.hasURL("two")
	a.synced()
	env, runs := a.env(), a.runs()

	unchanged := func(when string) {
		t.Helper()
		if got, n := a.env(), a.runs(); got != env || n != runs {
			t.Errorf("%s: %d runs, was %d; the file is\n%s\nand was\n%s", when, n, runs, got, env)
		}
	}
	s.kill()
	a.condition("store unreachable", "etcd", "unavailable")
	unchanged("while the store is away")
	s.start(t)
	a.synced()
	unchanged("when the store is back")

	s.kill()
	s.wipe(t)
	a.condition("store regression", "URL")
	unchanged("after the store was wiped")
	a.stop()
	a.start()
	a.condition("store regression", "URL")
	if out := a.cli("accept"); !strings.Contains(out, "URL") {
		t.Errorf("accept says %q", out)
	}
	a.condition("missing")
	if a.env() != env {
		t.Errorf("accepted: the file is\n%s\nand was\n%s", a.env(), env)
	}
	putURL(t, operator, "three")
	a.hasURL("three")
	a.synced()
}

// A wrong password stops nobody: it is told at once, and the right one ends it.
func TestAgentPassword(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	grant(t, root, "/listener/v1/default/", clientv3.PermissionType(clientv3.PermReadWrite))
	putURL(t, root, "one")
	file := password(t, "wrong")
	if _, err := binary(); err != nil { // not part of what is measured
		t.Fatal(err)
	}
	began := time.Now()
	a := newAgent(t, fmt.Sprintf("[store]\nkind = \"etcd\"\n[store.etcd]\nendpoints = [%q]\nusername = \"node\"\npassword_file = %q\n", s.url(), file))
	a.condition("permission denied", "wrong user or password")
	within(t, "the condition", time.Since(began), 2*time.Second)
	if log, _ := os.ReadFile(a.path("log")); !strings.Contains(string(log), "wrong user or password") {
		t.Errorf("the log has no word of it:\n%s", log)
	}
	must(t, os.WriteFile(file, []byte("right"), 0o600))
	a.hasURL("one")
	a.synced()
}
