package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// box is a container without an engine: namespaces of its own for processes,
// mounts and the network, and for a root what the image holds, as
// packaging/container/rootfs.sh makes it for the Containerfile too.
type box struct {
	t    *testing.T
	root string
}

// staticBuild builds a package without cgo, as the image has it.
func staticBuild(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "static")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// newBox makes a box with the settings and the manifest of examples/container.
func newBox(t *testing.T) *box {
	t.Helper()
	for _, tool := range []string{"unshare", "chroot"} {
		if _, err := exec.LookPath(tool); os.Geteuid() != 0 || err != nil {
			t.Skipf("needs root and %s, for a container without an engine", tool)
		}
	}
	b := &box{t: t, root: filepath.Join(t.TempDir(), "image")}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	err := os.WriteFile(ca, []byte("# no authorities\n"), 0o600)
	out, failed := exec.Command("../../packaging/container/rootfs.sh", b.root, staticBuild(t, "."), ca).CombinedOutput()
	if err = errors.Join(err, failed); err != nil {
		t.Fatalf("rootfs.sh: %v\n%s", err, out)
	}
	// An engine gives these to every container.
	err = errors.Join(os.Mkdir(b.path("proc"), 0o555), os.Mkdir(b.path("dev"), 0o755),
		syscall.Mknod(b.path("dev/null"), syscall.S_IFCHR, 1<<8|3), os.Chmod(b.path("dev/null"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	// Mounts, as in the README.
	b.copy("../../examples/container/listener.toml", "etc/listener/listener.toml", 0o644)
	b.copy("../../examples/container/service/app.json", "etc/listener/data_bags/service/app.json", 0o644)
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.root, name) }

func (b *box) copy(from, to string, mode os.FileMode) {
	b.t.Helper()
	data, err := os.ReadFile(from)
	syscall.ForkLock.RLock() // see system.writeMode
	defer syscall.ForkLock.RUnlock()
	if err = errors.Join(err, os.WriteFile(b.path(to), data, mode)); err != nil {
		b.t.Fatal(err)
	}
}

// boxed is a listener that is process 1 of a box.
type boxed struct {
	*box
	cmd   *exec.Cmd
	pid   int // as the test sees it
	log   string
	ended chan struct{}
	once  sync.Once
}

// start starts listener as process 1, as the image's user, with an environment
// of nothing but PATH and env.
func (b *box) start(env []string, args ...string) *boxed {
	b.t.Helper()
	line := append([]string{
		"-pfn", "--mount-proc=" + b.path("proc"), "chroot",
		"--userspec=65532:65532", "--groups=", b.root, "/usr/bin/listener",
	}, args...)
	p := &boxed{box: b, cmd: exec.Command("unshare", line...), log: filepath.Join(b.t.TempDir(), "log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...), log, log
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() { defer close(p.ended); _ = p.cmd.Wait() }()
	b.t.Cleanup(p.end)
	return p
}

// child is the process that unshare started, process 1; 0: there is none. (With
// --kill-child it would outlive unshare: a change of the user undoes that.)
func (p *boxed) child() int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.cmd.Process.Pid))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(children)))
	return pid
}

// running waits until there is a process 1, in its root.
func (p *boxed) running() *boxed {
	p.t.Helper()
	p.until("listener is process 1", func() bool {
		p.pid = p.child()
		root, _ := os.Readlink(fmt.Sprintf("/proc/%d/root", p.pid))
		return root == p.root
	})
	return p
}

func (p *boxed) end() {
	p.once.Do(func() {
		if pid := p.child(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // all of its namespace goes with it
		}
		_ = p.cmd.Process.Kill()
		<-p.ended
		if p.t.Failed() {
			data, _ := os.ReadFile(p.log)
			p.t.Logf("log of process 1:\n%s", data)
		}
	})
}

func (p *boxed) until(what string, done func() bool) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.ended:
			p.t.Fatalf("process 1 ended (%v) before this: %s", p.cmd.ProcessState, what)
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// inside is a path as process 1 sees it.
func (p *boxed) inside(name string) string { return fmt.Sprintf("/proc/%d/root/%s", p.pid, name) }

func (p *boxed) read(name string) string {
	data, _ := os.ReadFile(p.inside(name))
	return string(data)
}

// stat is the state and the parent of a process of the box; false: there is none.
func (p *boxed) stat(pid string) (state, parent string, ok bool) {
	text := p.read("proc/" + pid + "/stat")
	_, rest, ok := strings.Cut(text, ") ")
	if fields := strings.Fields(rest); ok && len(fields) > 1 {
		return fields[0], fields[1], true
	}
	return "", "", false
}

// orphan waits for the process that was left, sees it come to process 1, ends
// it, and sees that it is gone: a zombie would stay.
func (p *boxed) orphan() {
	p.t.Helper()
	p.until("a process is left to process 1", func() bool {
		_, parent, _ := p.stat(p.read("tmp/left"))
		return parent == "1"
	})
	left := p.read("tmp/left")
	if err := os.WriteFile(p.inside("tmp/end"), nil, 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.until("what was left is reaped", func() bool { _, _, ok := p.stat(left); return !ok })
}

// noZombies sees no process of the box stay a zombie.
func (p *boxed) noZombies() {
	p.t.Helper()
	p.until("there are no zombies", func() bool {
		entries, err := os.ReadDir(p.inside("proc"))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, e := range entries {
			if state, _, _ := p.stat(e.Name()); state == "Z" {
				return false
			}
		}
		return true
	})
}

// terminate sends SIGTERM to process 1 and wants its exit code.
func (p *boxed) terminate(code int) {
	p.t.Helper()
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Fatal("process 1 does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("process 1 ended with %d, want %d", got, code)
	}
}

// ask runs listener as the operator does, on the agent in the box.
func (p *boxed) ask(args ...string) (string, error) {
	cmd := exec.Command(p.path("usr/bin/listener"), append([]string{"--socket", p.inside("run/listener/listener.sock")}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The agent as process 1 of the image: without systemd, users or a shell it
// starts, writes environments, runs commands, reaps what they leave, and ends
// when it is told to.
func TestContainerAgent(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.copy(staticBuild(t, "./testdata/orphan"), "usr/bin/orphan", 0o755)
	p := b.start([]string{
		"LISTENER_CFG_PROVISION__COMMAND=/usr/bin/orphan", "LISTENER_CFG_THROTTLE__MIN_INTERVAL=0s", "LISTENER_CFG_THROTTLE__BURST=0",
	}, "agent").running()
	p.until("the agent answers", func() bool { _, err := p.ask("status"); return err == nil })
	p.until("the environment is written", func() bool { return strings.Contains(p.read("etc/services.d/app.conf"), "GREETING='hello'") })
	if out, err := p.ask("provision", "--now", "--wait"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.orphan()
	// Nobody takes from the agent how its own commands ended.
	for range 10 {
		if out, err := p.ask("provision", "--now", "--wait"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	p.noZombies()
	p.terminate(0)
}

// An agent that cannot start says why, also as process 1.
func TestContainerAgentFails(t *testing.T) {
	t.Parallel()
	p := newBox(t).start([]string{"LISTENER_CFG_PROVISION__RUNNER=none-such"}, "agent")
	<-p.ended
	if data, _ := os.ReadFile(p.log); p.cmd.ProcessState.ExitCode() != 78 || !strings.Contains(string(data), "none-such") {
		t.Errorf("%v, %s", p.cmd.ProcessState, data)
	}
}

// exec as process 1 of an application's container, without an agent.
func TestContainerExec(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.copy(staticBuild(t, "./testdata/orphan"), "usr/bin/orphan", 0o755)
	p := b.start([]string{"LISTENER_CFG_NODE=box2"}, "exec", "--restart", "app", "--", "/usr/bin/orphan", "serve").running()
	p.until("the application runs", func() bool { return p.read("tmp/greeting") == "hello" })
	p.orphan()
	p.noZombies()
	p.terminate(9)
}
