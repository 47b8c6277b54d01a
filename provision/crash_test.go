package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/provision/supervisor"
)

// standInAgent is an agent without the rest: on dir/state and dir/run it adopts
// what is left and runs dir/job.json, if that exists. Then it does nothing (mode
// "idle"), or runs one loop job after the other ("loop"). It notes results in
// dir/ledger.
func standInAgent(dir, mode string) int {
	ctx := context.Background()
	p, err := New(Options{StateDir: dir + "/state", RunDir: dir + "/run"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	left, err := p.Left()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, ref := range left {
		res, err := p.Adopt(ctx, ref, 50*time.Millisecond)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		conclude(p, dir, res)
	}
	p.Warm()
	if data, err := os.ReadFile(dir + "/job.json"); err == nil {
		var job Job
		if err := json.Unmarshal(data, &job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if _, err := p.Run(ctx, job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	for mode == "idle" {
		fmt.Println("idle")
		pause(time.Minute) // until it is killed
	}
	for {
		res, err := p.Run(ctx, loopJob(dir))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		conclude(p, dir, res)
	}
}

// conclude notes a result. When a run was given up nothing of it may act any
// more: what it held is free.
func conclude(p *Provisioner, dir string, res Result) {
	note(dir, "result %s %s %d", res.Run, res.Outcome, res.Exit)
	if res.Outcome == Lost {
		_ = os.Remove(dir + "/exclusive")
	}
	if err := p.Forget(Ref{res.Run, res.Step}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func note(dir, format string, args ...any) {
	f, err := os.OpenFile(dir+"/ledger", os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, format+"\n", args...); err != nil {
		panic(err)
	}
}

func TestSupervisorKilled(t *testing.T) {
	p := newProvisioner(t)
	gate := newGate(t)
	dir := t.TempDir()
	// One descendant has left session, parent and all but the run id behind, one ignores TERM.
	job := sh(`echo so far
		(setsid env -i LISTENER_RUN_ID=$LISTENER_RUN_ID sh -c 'echo $$ >"$1/daemon"; exec /bin/sleep 1000' sh "$1" >/dev/null 2>&1 &)
		sh -c 'trap "" TERM; echo $$ >"$1/stubborn"; while :; do sleep 0.05; done' sh "$1" &
		`+gate.wait(), dir)
	job.KillAfter = 100 * time.Millisecond
	done := make(chan Result, 1)
	go func() { done <- mustRun(t, p, job) }()
	procs := []supervisor.Proc{gate.awaitStart(t), awaitPID(t, dir+"/daemon"), awaitPID(t, dir+"/stubborn")}
	eventually(t, "output in the log", func() bool {
		data, _ := os.ReadFile(p.o.StateDir + "/runs/" + job.Run + ".log")
		return string(data) == "so far\n"
	})
	if err := supervisorOf(t, p, job).Supervisor.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	res := <-done
	if res.Outcome != Lost || !strings.Contains(res.Error, "supervisor") {
		t.Errorf("%+v", res)
	}
	for _, proc := range procs {
		if proc.Alive() {
			t.Errorf("process %d of the run lives on", proc.PID)
		}
	}
	if _, err := os.Stat(supervisor.JobPath(p.o.RunDir, job.Run, job.Step)); err == nil {
		t.Error("the job is still there")
	}
	again, err := supervisor.ReadResult(p.o.RunDir, job.Run, job.Step)
	if err != nil || again.Outcome != Lost {
		t.Errorf("recorded: %+v %v", again, err)
	}
	if got := logText(t, p, job.Run); got != "so far\n" {
		t.Errorf("log %q", got)
	}
	if res := mustRun(t, p, sh("exit 2")); res.Exit != 2 {
		t.Errorf("the next run: %+v", res)
	}
}

// crashed starts an agent that runs job and is killed once the gate is reached.
func crashed(t *testing.T, job Job, g gate) (dir string, main supervisor.Proc) {
	t.Helper()
	dir = t.TempDir()
	writeJob(t, dir, job)
	a := startAgent(t, dir, "idle")
	main = g.awaitStart(t)
	a.kill()
	return dir, main
}

func adopter(t *testing.T, dir string) *Provisioner {
	t.Helper()
	return openProvisioner(t, Options{StateDir: dir + "/state", RunDir: dir + "/run"})
}

func TestAgentKilledStepGoesOn(t *testing.T) {
	g := newGate(t)
	job := sh(g.wait() + "; echo more; exit 5")
	dir, main := crashed(t, job, g)
	p := adopter(t, dir)
	ref := Ref{job.Run, job.Step}
	if left, err := p.Left(); err != nil || len(left) != 1 || left[0] != ref {
		t.Fatalf("left %v %v", left, err)
	}
	done := make(chan Result, 1)
	go func() { done <- mustAdopt(t, p, ref) }()
	select {
	case res := <-done:
		t.Fatalf("adopted while it runs: %+v", res)
	case <-time.After(100 * time.Millisecond):
	}
	if !main.Alive() {
		t.Fatal("the command died with the agent")
	}
	g.open(t)
	if res := <-done; res.Outcome != Exited || res.Exit != 5 {
		t.Errorf("%+v", res)
	}
	if got := logText(t, p, job.Run); got != "more\n" {
		t.Errorf("log %q", got)
	}
}

func TestAgentKilledStepEnded(t *testing.T) {
	g := newGate(t)
	job := sh(g.wait() + "; exit 5")
	dir, main := crashed(t, job, g)
	g.open(t)
	eventually(t, "the end of the command", func() bool { return !main.Alive() })
	p := adopter(t, dir)
	if res := mustAdopt(t, p, Ref{job.Run, job.Step}); res.Outcome != Exited || res.Exit != 5 {
		t.Errorf("%+v", res)
	}
}

func TestAgentAndSupervisorKilled(t *testing.T) {
	g := newGate(t)
	// The main process has dropped its environment: the noted process tells.
	job := sh("exec env -i " + testPath + " sh -c '" + g.wait() + "'")
	dir, main := crashed(t, job, g)
	p := adopter(t, dir)
	if err := supervisorOf(t, p, job).Supervisor.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ref := Ref{job.Run, job.Step}
	if res := mustAdopt(t, p, ref); res.Outcome != Lost || res.Exit == 0 {
		t.Errorf("%+v", res)
	}
	if main.Alive() {
		t.Error("the command lives on")
	}
	if res := mustAdopt(t, p, ref); res.Outcome != Lost {
		t.Errorf("adopted again: %+v", res)
	}
}

func TestAdoptedStepIsCancelled(t *testing.T) {
	g := newGate(t)
	job := sh(g.wait())
	dir, main := crashed(t, job, g)
	p := adopter(t, dir)
	supervisorOf(t, p, job)
	if err := p.Cancel(job.Run, job.Step); err != nil {
		t.Fatal(err)
	}
	if res := mustAdopt(t, p, Ref{job.Run, job.Step}); res.Outcome != Cancelled {
		t.Errorf("%+v", res)
	}
	if main.Alive() {
		t.Error("the command lives on")
	}
}

// TestStandbyOfDeadAgentEnds: fresh or used before, it cannot be handed a job
// any more, and goes.
func TestStandbyOfDeadAgentEnds(t *testing.T) {
	for _, jobs := range []int{0, 1} {
		dir := t.TempDir()
		if jobs > 0 {
			writeJob(t, dir, sh("true"))
		}
		a := startAgent(t, dir, "idle")
		a.awaitLine(t, "idle")
		var standby []supervisor.Proc
		eventually(t, "a standby", func() bool {
			standby = a.supervisors()
			return len(standby) == 1
		})
		a.kill()
		eventually(t, "the end of the standby", func() bool { return !standby[0].Alive() })
	}
}

// TestJobTakenAway: a supervisor that was handed a job by an agent that then
// died must not begin it once it was given up.
func TestJobTakenAway(t *testing.T) {
	p := newProvisioner(t)
	marker := t.TempDir() + "/ran"
	job := sh(`: >"$1"`, marker)
	data, err := supervisor.EncodeJob(job, p.o.StateDir, p.o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	path := supervisor.JobPath(p.o.RunDir, job.Run, job.Step)
	if err := atomicfile.WriteNew(path, data); err != nil {
		t.Fatal(err)
	}
	lock, err := supervisor.TryAcquire(p.o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", supervisor.Arg, path)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Holding the lock, the adopter gives the job up, and it is forgotten.
	res, err := p.giveUp(context.Background(), Ref{job.Run, job.Step}, time.Second, Lost, "test")
	if err != nil || res.Outcome != Lost {
		t.Fatal(res, err)
	}
	if err := p.Forget(Ref{job.Run, job.Step}); err != nil {
		t.Fatal(err)
	}
	lock.Release()
	_ = cmd.Wait()
	if !strings.HasPrefix(out.String(), string(supervisor.Refused)) {
		t.Errorf("it said %q", out.String())
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a job that was given up was run")
	}
}

func TestSuperviseByArgument(t *testing.T) {
	p := newProvisioner(t)
	job := sh("echo hello; exit 3")
	data, err := supervisor.EncodeJob(job, p.o.StateDir, p.o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	path := supervisor.JobPath(p.o.RunDir, job.Run, job.Step)
	if err := atomicfile.WriteNew(path, data); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/proc/self/exe", supervisor.Arg, path).Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if res := mustAdopt(t, p, Ref{job.Run, job.Step}); res.Outcome != Exited || res.Exit != 3 {
		t.Errorf("%+v", res)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/proc/self/exe", supervisor.Arg, path).Output()
	if err == nil || !strings.Contains(string(out), "not a whole job file") {
		t.Errorf("a torn job: %v %s", err, out)
	}
}
