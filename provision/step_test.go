package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

func TestTimeoutEndsTheWholeTree(t *testing.T) {
	p := newProvisioner(t)
	gate, dir := newGate(t), t.TempDir()
	// A daemon without session, parent and environment; one that ignores TERM; one that is stopped.
	job := sh(`(setsid env -i sh -c 'echo $$ >"$1/daemon"; exec /bin/sleep 1000' sh "$1" &)
		sh -c 'trap "" TERM; echo $$ >"$1/stubborn"; while :; do sleep 0.02; done' sh "$1" &
		sh -c 'echo $$ >"$1/stopped"; kill -STOP $$; sleep 1000' sh "$1" &
		`+gate.wait(), dir)
	job.Timeout, job.KillAfter = 700*time.Millisecond, 200*time.Millisecond
	done := make(chan Result, 1)
	go func() { done <- mustRun(t, p, job) }()
	procs := []supervisor.Proc{
		gate.awaitStart(t), awaitPID(t, dir+"/daemon"), awaitPID(t, dir+"/stubborn"), awaitPID(t, dir+"/stopped"),
	}
	res := <-done
	if res.Outcome != Timeout || res.Signal != "SIGTERM" || res.Exit != 143 {
		t.Errorf("%+v", res)
	}
	if d := res.Ended.Sub(res.Started); d < job.Timeout+job.KillAfter {
		t.Errorf("took %v: no time between TERM and KILL", d)
	}
	for _, proc := range procs {
		if proc.Alive() {
			t.Errorf("process %d lives on", proc.PID)
		}
	}
}

func TestTermIsHeard(t *testing.T) {
	p := newProvisioner(t)
	job := sh(`trap 'echo bye; exit 3' TERM; while :; do sleep 0.01; done`)
	job.Timeout, job.KillAfter = 300*time.Millisecond, 20*time.Second
	res := mustRun(t, p, job)
	if res.Outcome != Timeout || res.Exit != 3 || res.Signal != "" {
		t.Errorf("%+v", res)
	}
	if res.Ended.Sub(res.Started) > 15*time.Second {
		t.Error("waited for KILL though all had ended")
	}
	if got := logText(t, p, job.Run); !strings.HasSuffix(got, "bye\n") {
		t.Errorf("log %q", got)
	}
}

func TestCancel(t *testing.T) {
	p := newProvisioner(t)
	if err := p.Cancel("none", "node"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("err %v", err)
	}
	for range 3 {
		gate := newGate(t)
		job := sh(gate.wait())
		job.KillAfter = 10 * time.Second
		done := make(chan Result, 1)
		go func() { done <- mustRun(t, p, job) }()
		main := gate.awaitStart(t)
		if err := errors.Join(p.Cancel(job.Run, job.Step), p.Cancel(job.Run, job.Step)); err != nil {
			t.Fatal(err)
		}
		if res := <-done; res.Outcome != Cancelled || main.Alive() {
			t.Errorf("%+v", res)
		}
		if err := p.Cancel(job.Run, job.Step); err == nil {
			t.Error("cancelled after its end")
		}
		// A cancel never reaches the step after.
		if res := mustRun(t, p, sh("exit 1")); res.Outcome != Exited {
			t.Errorf("the next: %+v", res)
		}
	}
}

// TestDaemonLivesOn: one that holds the pipe neither holds up the result nor
// dies of writing later; one that has closed it is not even noticed.
func TestDaemonLivesOn(t *testing.T) {
	p := newProvisioner(t)
	dir := t.TempDir()
	job := sh(`sh -c 'echo $$ >"$1/talking"; while :; do echo talk; date +%N >"$1/beat"; sleep 0.01; done' sh "$1" &
		setsid sh -c 'echo $$ >"$1/quiet"; exec sleep 1000' sh "$1" >/dev/null 2>&1 &
		while ! test -s "$1/talking" || ! test -s "$1/quiet"; do sleep 0.005; done; exit 4`, dir)
	res := mustRun(t, p, job)
	if res.Outcome != Exited || res.Exit != 4 {
		t.Errorf("%+v", res)
	}
	talking, quiet := awaitPID(t, dir+"/talking"), awaitPID(t, dir+"/quiet")
	if busy, err := p.Busy(); busy || err != nil {
		t.Errorf("busy %v %v", busy, err)
	}
	log := logText(t, p, job.Run)
	if err := p.Forget(Ref{job.Run, job.Step}); err != nil {
		t.Fatal(err)
	}
	if res := mustRun(t, p, sh("exit 1")); res.Exit != 1 { // the supervisor is not free: another one
		t.Errorf("%+v", res)
	}
	beat, _ := os.ReadFile(dir + "/beat")
	for range 3 {
		last := string(beat)
		eventually(t, "the daemon to talk on", func() bool {
			beat, _ = os.ReadFile(dir + "/beat")
			return string(beat) != last
		})
	}
	if !talking.Alive() || !quiet.Alive() {
		t.Error("a daemon died")
	}
	if now := logText(t, p, job.Run); now != log {
		t.Error("output after the result is in the log")
	}
	_ = talking.Signal(syscall.SIGKILL)
	eventually(t, "the end of the supervisor that read for it", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.handles) <= 1
	})
}

func TestMuchOutput(t *testing.T) {
	p := newProvisioner(t)
	const size = 200 << 20
	job := sh(fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x; echo; echo last line`, size))
	done := make(chan Result, 1)
	p.Warm()
	pid := standbyPID(t, p)
	go func() { done <- mustRun(t, p, job) }()
	h, err := OpenHistory(p.o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	res, most := Result{}, int64(0)
	for res.Outcome == "" {
		select {
		case res = <-done:
		case <-time.After(5 * time.Millisecond):
			most = max(most, dirSize(t, p.o.StateDir+"/runs"))
		}
	}
	if res.Outcome != Exited || res.Exit != 0 {
		t.Errorf("%+v", res)
	}
	if limit := int64(supervisor.HeadMax + 3*supervisor.TailMax); most > limit {
		t.Errorf("the log took %d bytes", most)
	}
	if kb := vmHWM(t, pid); kb > 100<<10 {
		t.Errorf("the supervisor took %d KiB", kb)
	}
	if tail := h.Tail(job.Run, 1); len(tail) != 1 || tail[0] != "last line" {
		t.Errorf("tail %q", tail)
	}
	t.Logf("took %v, log at most %d bytes, supervisor %d KiB", res.Ended.Sub(res.Started), most, vmHWM(t, pid))
}

func dirSize(t *testing.T, dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}

func vmHWM(t *testing.T, pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

func TestSecretsAreNotVisible(t *testing.T) {
	p := newProvisioner(t)
	gate := newGate(t)
	job := sh(gate.wait(), "s3cr3t-argument")
	job.Env = append(job.Env, "TOKEN=s3cr3t-variable")
	t.Setenv("AGENT_TOKEN", "s3cr3t-of-the-agent")
	done := make(chan Result, 1)
	go func() { done <- mustRun(t, p, job) }()
	gate.awaitStart(t)
	s := supervisorOf(t, p, job).Supervisor
	for _, name := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID, name))
		if err != nil || strings.Contains(string(data), "s3cr3t") {
			t.Errorf("%s of the supervisor: %q %v", name, data, err)
		}
	}
	entries, err := os.ReadDir(p.o.RunDir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	gate.open(t)
	<-done
}

// mountTmpfs gives a small file system, or skips the test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("t", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	state, run := mountTmpfs(t, "size=300k"), mountTmpfs(t, "size=64k")
	p := openProvisioner(t, Options{StateDir: state, RunDir: run})
	// The command fills both, prints more than there is room for, makes room, and prints on.
	job := sh(`while ! test -e $2/*.result.tmp; do sleep 0.005; done # room for it is reserved once it runs
		dd if=/dev/zero of=$2/fill bs=4096 2>/dev/null
		dd if=/dev/zero bs=100000 count=10 2>/dev/null | tr '\0' x
		rm $1/runs/reserve; sleep 0.3; echo after`, state, run)
	if err := os.MkdirAll(state+"/runs", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/runs/reserve", make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	res := mustRun(t, p, job)
	if res.Outcome != Exited || res.Exit != 0 || res.Unrecorded != "" {
		t.Errorf("%+v", res)
	}
	h, err := OpenHistory(state)
	if err != nil {
		t.Fatal(err)
	}
	if tail := h.Tail(job.Run, 1); len(tail) != 1 || tail[0] != "after" {
		t.Errorf("tail %.100q", tail)
	}
	all := readLog(t, h, job.Run)
	if !strings.Contains(all, "bytes of output left out]\nafter\n") {
		t.Errorf("the log does not say what it lacks: %.200q", all[max(0, len(all)-200):])
	}
}

func TestResultCannotBeRecorded(t *testing.T) {
	run := mountTmpfs(t, "nr_inodes=2") // itself and the job
	p := openProvisioner(t, Options{StateDir: t.TempDir(), RunDir: run})
	job := sh("exit 5")
	res := mustRun(t, p, job)
	if res.Outcome != Exited || res.Exit != 5 || res.Unrecorded == "" {
		t.Errorf("%+v", res)
	}
	if busy, err := p.Busy(); err != nil || !busy {
		t.Errorf("busy %v %v: nothing may start before the result is safe or taken", busy, err)
	}
	if err := p.Forget(Ref{job.Run, job.Step}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lock to be free", func() bool {
		busy, err := p.Busy()
		return err == nil && !busy
	})
	if left, _ := p.Left(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestReadOnlyStateDir(t *testing.T) {
	state := mountTmpfs(t, "size=64k")
	p := openProvisioner(t, Options{StateDir: state, RunDir: t.TempDir()})
	remount := func(flags uintptr) {
		if err := syscall.Mount("t", state, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	if res := mustRun(t, p, sh("echo nowhere to go; exit 3")); res.Outcome != Exited || res.Exit != 3 {
		t.Errorf("%+v", res)
	}
	remount(0)
	if err := os.Remove(supervisor.LockPath(state)); err != nil {
		t.Fatal(err)
	}
	remount(syscall.MS_RDONLY)
	job := sh("true")
	_, err := p.Run(context.Background(), job)
	if err == nil || errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("without a lock nothing may run: %v", err)
	}
	if left, _ := p.Left(); slices.Contains(left, Ref{job.Run, job.Step}) {
		t.Errorf("left %v", left)
	}
}
