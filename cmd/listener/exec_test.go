package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
)

// execWorld is a node with an agent and a service whose environment is one
// value, X.
type execWorld struct {
	t   *testing.T
	exe string
	dir string
}

func newExecWorld(t *testing.T) *execWorld {
	t.Helper()
	built, err := buildListener()
	if err != nil {
		t.Fatal(err)
	}
	w := &execWorld{t: t, dir: t.TempDir()}
	w.exe = w.file("listener-under-test", string(built), 0o755)
	w.file("services/app.json", `{"id": "app", "command": false, "requires": {"X": "{X:-none}"}}`, 0o644)
	w.file("listener.toml", `node = "web1"
host = "10.0.0.1"
manifests = ["services"]
attributes = []
state_dir = "state"
run_dir = "run"
env.dir = "env"
api.socket = "run/s"
[throttle]
settle = "300ms"
min_interval = "0s"
`, 0o644)
	return w
}

func (w *execWorld) file(name, text string, mode os.FileMode) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	syscall.ForkLock.RLock() // see system.writeMode
	defer syscall.ForkLock.RUnlock()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// command is one of listener, not started.
func (w *execWorld) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.exe, append([]string{"--config", "listener.toml"}, args...)...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	// A file: what a command leaves behind would keep a pipe open.
	out, err := os.CreateTemp(w.dir, "stderr")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = out.Close() })
	cmd.Stderr = out
	return cmd
}

func (w *execWorld) start(args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := w.command(args...)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if w.t.Failed() {
			w.t.Logf("%v:\n%s", args, w.said(cmd))
		}
	})
	return cmd
}

// said is what a command wrote to standard error.
func (w *execWorld) said(cmd *exec.Cmd) string {
	data, err := os.ReadFile(cmd.Stderr.(*os.File).Name())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (w *execWorld) agent() *exec.Cmd {
	w.t.Helper()
	cmd := w.start("agent")
	w.until("the agent answers", func() bool { return w.command("status", "--check").Run() == nil })
	return cmd
}

func (w *execWorld) run(args ...string) {
	w.t.Helper()
	if out, err := w.command(args...).Output(); err != nil {
		w.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// put writes values of X one after the other, without a pause.
func (w *execWorld) put(values ...string) {
	w.t.Helper()
	c, err := api.Dial(filepath.Join(w.dir, "run/s"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	for _, v := range values {
		if _, err := c.Commit(w.t.Context(), "", []api.ValueOp{{Key: "X", Value: v}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *execWorld) until(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it does not come to this: %s; log: %q", what, w.log())
		}
	}
}

// log is what commands wrote to the file log.
func (w *execWorld) log() string {
	data, _ := os.ReadFile(filepath.Join(w.dir, "log"))
	return string(data)
}

func (w *execWorld) logged(want string) {
	w.t.Helper()
	w.until("log is "+want, func() bool { return w.log() == want })
}

// ends waits for the command's end, and wants its exit code.
func (w *execWorld) ends(cmd *exec.Cmd, code int) {
	w.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%v does not end", cmd.Args)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Errorf("%v: exit code %d, want %d\n%s", cmd.Args, got, code, w.said(cmd))
	}
}

// loop logs what a command is started with, and waits.
const loop = `echo "start $X" >> log; while [ -e listener.toml ]; do sleep 0.02; done`

// Without flags the command takes the place of listener.
func TestExecReplaces(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	cmd := w.command("exec", "app", "--", "sh", "-c", "echo $$")
	out := &bytes.Buffer{}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, w.said(cmd))
	}
	if strings.TrimSpace(out.String()) != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the command is process %s, listener was %d", out, cmd.Process.Pid)
	}
}

// A burst of changes is one restart, with the newest value; a value that flaps
// back is none.
func TestExecRestartsOnce(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	w.agent()
	cmd := w.start("exec", "app", "--restart", "--", "sh", "-c", loop)
	w.logged("start none\n")
	w.put("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	w.logged("start none\nstart 9\n")
	w.put("flap", "9")
	w.run("put", "Y", "of nobody")
	w.put("10")
	w.logged("start none\nstart 9\nstart 10\n")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.ends(cmd, 143)
}

// A command that does not heed SIGTERM is killed, with all of its group.
func TestExecKillsAfter(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	w.agent()
	cmd := w.start("exec", "app", "--restart", "--kill-after", "200ms", "--", "sh", "-c",
		`trap "" TERM; sh -c 'echo $$ > grandchild.pid; while [ -e listener.toml ]; do sleep 0.02; done' & `+loop)
	w.logged("start none\n")
	first := w.pid("grandchild.pid")
	w.run("put", "X", "1")
	w.logged("start none\nstart 1\n")
	if syscall.Kill(first, 0) == nil {
		t.Errorf("process %d of the group of the first command lives", first)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.ends(cmd, 137)
}

func (w *execWorld) pid(name string) (pid int) {
	w.t.Helper()
	w.until(name+" is there", func() bool {
		data, _ := os.ReadFile(filepath.Join(w.dir, name))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return pid > 0
	})
	return pid
}

// What a command leaves of its group is ended before it starts anew.
func TestExecEndsLeftovers(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	w.agent()
	w.start("exec", "app", "--restart", "--", "sh", "-c",
		`[ "$X" = none ] && sh -c 'trap "echo helper ended >> log; exit" TERM; echo $$ > helper.pid; while [ -e listener.toml ]; do sleep 0.02; done' & `+
			`[ "$X" = none ] && until [ -s helper.pid ]; do sleep 0.02; done; `+loop)
	w.logged("start none\n")
	w.run("put", "X", "1")
	w.logged("start none\nhelper ended\nstart 1\n")
}

// --signal tells the command, which lives on.
func TestExecSignals(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	w.agent()
	cmd := w.start("exec", "app", "--signal", "HUP", "--", "sh", "-c", `trap 'echo hup >> log' HUP; `+loop)
	w.logged("start none\n")
	w.run("put", "X", "1")
	w.logged("start none\nhup\n")
	w.run("put", "X", "2")
	w.logged("start none\nhup\nhup\n")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.ends(cmd, 143)
}

// While the agent is away the command lives on; what changed meanwhile is told
// when it is back.
func TestExecAgentAway(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	agent := w.agent()
	cmd := w.start("exec", "app", "--restart", "--", "sh", "-c", loop)
	w.logged("start none\n")
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	w.until("exec says so", func() bool {
		return strings.Contains(w.said(cmd), "the environment is not followed, the command goes on")
	})
	w.run("put", "X", "1", "--store", "local:"+filepath.Join(w.dir, "state"))
	w.logged("start none\n")
	w.agent()
	w.logged("start none\nstart 1\n")
}

// An exec that is killed lets go of its hold, although its command lives on.
func TestExecHoldEndsWithIt(t *testing.T) {
	t.Parallel()
	w := newExecWorld(t)
	w.agent()
	cmd := w.start("exec", "app", "--hold", "--", "sh", "-c", `echo $$ > child.pid; while [ ! -e end ] && [ -e listener.toml ]; do sleep 0.02; done`)
	child := w.pid("child.pid")
	w.run("put", "X", "1")
	w.until("it is held", func() bool {
		out, _ := w.command("explain").Output()
		return strings.Contains(string(out), "runs are kept away by sh of app") && strings.Contains(string(out), fmt.Sprint("pid ", cmd.Process.Pid))
	})
	if data, _ := os.ReadFile(filepath.Join(w.dir, "env/app.conf")); strings.Contains(string(data), "'1'") {
		t.Errorf("a file was written under the hold: %s", data)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.ends(cmd, -1)
	w.until("the file is written", func() bool {
		data, _ := os.ReadFile(filepath.Join(w.dir, "env/app.conf"))
		return strings.Contains(string(data), "'1'")
	})
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the command did not live on: %v", err)
	}
	w.file("end", "", 0o644)
}

// As process 1 of a container: orphans are reaped, signals passed on, the exit
// code is the command's.
func TestExecAsInit(t *testing.T) {
	t.Parallel()
	unshare, err := exec.LookPath("unshare")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root and unshare: a process 1 is in a namespace of its own")
	}
	w := newExecWorld(t)
	inside := `trap 'echo term >> log; exit 9' TERM
		sh -c 'sh -c "sleep 0.05; echo orphan >> log" & echo $! > orphan.pid' # it ends, and leaves one
		until grep -q orphan log; do sleep 0.02; done
		while [ -e /proc/$(cat orphan.pid) ]; do sleep 0.02; done # a zombie stays there
		echo "reaped, pid of listener is $PPID" >> log
		kill -TERM 1
		while [ -e listener.toml ]; do sleep 0.02; done`
	cmd := w.command("exec", "app", "--restart", "--", "sh", "-c", inside)
	cmd.Args = append([]string{unshare, "-pf", "--mount-proc", "--kill-child"}, cmd.Args...)
	cmd.Path = unshare
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	w.ends(cmd, 9)
	if want := "orphan\nreaped, pid of listener is 1\nterm\n"; w.log() != want {
		t.Errorf("log %q, want %q\n%s", w.log(), want, w.said(cmd))
	}
}
