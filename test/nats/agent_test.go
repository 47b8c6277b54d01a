package nats_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtBinary builds the agent, once.
var builtBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "listener-nats-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "listener")
	build := exec.Command("go", "build", "-o", path, "./cmd/listener")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// node is an agent with its files.
type node struct {
	t    *testing.T
	dir  string
	exe  string
	args []string
	cmd  *exec.Cmd

	launch func(*exec.Cmd) error // starts the program
}

const manifestJSON = `{"id": "app", "command": true, "requires": {"URL": "{DATABASE_URL}", "OTHER": "{OTHER_URL}", "EXTRA": "{EXTRA?}"}}`

// newNode prepares one whose command appends a line per run.
func newNode(t *testing.T, url, extra string) *node {
	t.Helper()
	exe, err := builtBinary()
	must(t, err)
	n := &node{t: t, dir: t.TempDir(), exe: exe, launch: (*exec.Cmd).Start}
	settings := fmt.Sprintf(`
node = "n1"
host = "127.0.0.1"
manifests = ["services"]
attributes = []
state_dir = "state"
run_dir = "run"
[store]
kind = "nats"
boot_wait = "2s"
[store.nats]
servers = [%q]
%s
[provision]
command = ["/bin/sh", "-c", "cat env/app.conf | tr '\\n' ' ' >>%s; echo >>%s"]
runner = "direct"
[env]
dir = "env"
[throttle]
settle = "0s"
min_interval = "0s"
burst = 0
[api]
socket = "run/s.sock"
`, url, extra, n.path("runs"), n.path("runs"))
	for _, d := range []string{"services", "state", "run", "env"} {
		must(t, os.Mkdir(n.path(d), 0o755))
	}
	must(t, os.WriteFile(n.path("listener.toml"), []byte(strings.ReplaceAll(settings, "env/app.conf", n.path("env/app.conf"))), 0o600))
	must(t, os.WriteFile(n.path("services/app.json"), []byte(manifestJSON), 0o600))
	n.args = []string{"--config", n.path("listener.toml")}
	t.Cleanup(n.stop)
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command(n.exe, append([]string{"agent"}, n.args...)...)
	n.cmd.Dir = n.dir
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(n.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(n.t, err)
	defer log.Close()
	n.cmd.Stderr = log
	must(n.t, n.launch(n.cmd))
}

func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	_ = n.cmd.Wait()
	n.cmd = nil
	if n.t.Failed() {
		log, _ := os.ReadFile(n.path("log"))
		n.t.Logf("the agent's log:\n%s", log)
	}
}

// crash ends the agent as kill -9 does.
func (n *node) crash() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// run runs a command of the binary against the agent's socket.
func (n *node) run(args ...string) (string, error) {
	var out, fault bytes.Buffer
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, n.exe, append(args, "--socket", n.path("run/s.sock"))...)
	c.Stdout, c.Stderr = &out, &fault
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%v: %w: %s", args, err, fault.String())
	}
	return out.String(), nil
}

func (n *node) must(args ...string) string {
	n.t.Helper()
	var out string
	eventually(n.t, strings.Join(args, " "), func() (err error) {
		out, err = n.run(args...)
		return err
	})
	return out
}

func (n *node) runs() []string {
	b, _ := os.ReadFile(n.path("runs"))
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
}

// ran waits until the command has run n times, the last time with text.
func (n *node) ran(times int, text string) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("run %d with %s", times, text), func() error {
		all := n.runs()
		if len(all) != times || !strings.Contains(all[len(all)-1], text) {
			return fmt.Errorf("%d runs: %q", len(all), all)
		}
		return nil
	})
}

type condition struct{ Name, Text string }

func (n *node) conditions() (all []condition) {
	out, err := n.run("status", "-o", "json")
	if err != nil {
		return nil
	}
	var s struct{ Conditions []condition }
	must(n.t, json.Unmarshal([]byte(out), &s))
	return s.Conditions
}

// says waits for a condition, and returns its text.
func (n *node) says(name string) (text string) {
	n.t.Helper()
	eventually(n.t, "the condition "+name, func() error {
		all := n.conditions()
		for _, c := range all {
			if c.Name == name {
				text = c.Text
				return nil
			}
		}
		return fmt.Errorf("%+v", all)
	})
	return text
}

func (n *node) saysNot(name string) {
	n.t.Helper()
	eventually(n.t, "no condition "+name, func() error {
		if _, err := n.run("status"); err != nil {
			return err
		}
		for _, c := range n.conditions() {
			if c.Name == name {
				return errors.New(c.Text)
			}
		}
		return nil
	})
}

// The whole agent: a change makes a run, an outage makes none, a bucket that
// was made again is held until somebody accepts it.
func TestAgent(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	n := newNode(t, s.url(), "")
	n.start()
	n.must("put", "DATABASE_URL", "db1")
	n.must("put", "OTHER_URL", "o1")
	n.ran(1, "URL='db1'")
	n.must("put", "DATABASE_URL", "db2")
	n.ran(2, "URL='db2'")
	n.says("store durability")

	s.stop()
	n.says("store unreachable")
	s.start(t)
	n.saysNot("store unreachable")
	n.must("put", "DATABASE_URL", "db3")
	n.ran(3, "URL='db3'") // and none before

	s.wipe(t)
	n.says("store regression")
	if all := n.runs(); len(all) != 3 {
		t.Fatalf("runs after the bucket was made again: %q", all)
	}
	n.must("put", "OTHER_URL", "o2") // a new value counts, the other one stays
	n.ran(4, "URL='db3'")
	if all := n.runs(); !strings.Contains(all[3], "OTHER='o2'") {
		t.Errorf("the last run: %q", all[3])
	}
	n.must("accept")
	n.saysNot("store regression")
	n.says("missing")
	if all := n.runs(); len(all) != 4 {
		t.Errorf("runs after accept: %q", all)
	}
}

// An agent starts with a credential that the server does not know, says so,
// and works as soon as it is right.
func TestAgentWrongCredentials(t *testing.T) {
	t.Parallel()
	good, bad := newUser(t), newUser(t)
	s := startServer(t, `authorization { users = [ { nkey: `+good.public+` } ] }`)
	seed := filepath.Join(t.TempDir(), "seed")
	must(t, os.WriteFile(seed, bad.seed, 0o600))
	n := newNode(t, s.url(), fmt.Sprintf("nkey_file = %q", seed))
	n.start()
	began := time.Now()
	if text := n.says("permission denied"); !strings.Contains(text, "uthorization") {
		t.Errorf("the condition says %s", text)
	}
	within(t, "status said so", began, 2*time.Second)
	must(t, os.WriteFile(seed, good.seed, 0o600))
	n.saysNot("permission denied")
	n.must("put", "DATABASE_URL", "db1")
	n.must("put", "OTHER_URL", "o1")
	n.ran(1, "URL='db1'")
}
