package provision

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// TestMain lets the test binary stand in for an agent; as a supervisor it
// never gets here.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PROVISION_TEST_AGENT"); dir != "" {
		os.Exit(standInAgent(dir, os.Getenv("PROVISION_TEST_MODE")))
	}
	os.Exit(m.Run())
}

// newProvisioner returns one on fresh directories; the test binary itself is
// the supervisor.
func newProvisioner(t testing.TB) *Provisioner {
	t.Helper()
	return openProvisioner(t, Options{StateDir: t.TempDir(), RunDir: t.TempDir()})
}

func openProvisioner(t testing.TB, o Options) *Provisioner {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

const testPath = "PATH=/usr/local/bin:/usr/bin:/bin"

// sh is a job that runs a shell script.
func sh(script string, args ...string) Job {
	return Job{
		Run: NewRunID(time.Now()), Step: "node", Env: []string{testPath},
		Argv: append([]string{"sh", "-c", script, "sh"}, args...), Dir: "/",
	}
}

func mustRun(t testing.TB, p *Provisioner, job Job) Result {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	res, err := p.Run(ctx, job)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return res
}

func logText(t testing.TB, p *Provisioner, run string) string {
	t.Helper()
	data, err := os.ReadFile(p.o.StateDir + "/runs/" + run + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustAdopt(t testing.TB, p *Provisioner, ref Ref) Result {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	res, err := p.Adopt(ctx, ref, time.Second)
	if err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	return res
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func standbyPID(t testing.TB, p *Provisioner) (pid int) {
	t.Helper()
	eventually(t, "a standby", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.standby != nil {
			pid = p.standby.proc.Pid
		}
		return p.standby != nil
	})
	return pid
}

// gate lets a script say that it started, and wait.
type gate struct{ dir string }

func newGate(t testing.TB) gate { return gate{t.TempDir()} }

func (g gate) wait() string {
	return fmt.Sprintf("echo $$ >%[1]s/tmp; mv %[1]s/tmp %[1]s/started; while ! test -e %[1]s/open; do sleep 0.005; done", g.dir)
}

// awaitStart returns the process id of the script.
func (g gate) awaitStart(t testing.TB) supervisor.Proc {
	t.Helper()
	return awaitPID(t, g.dir+"/started")
}

func (g gate) open(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(g.dir+"/open", nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitPID waits until a file holds the number of a living process.
func awaitPID(t testing.TB, path string) (p supervisor.Proc) {
	t.Helper()
	eventually(t, "a process id in "+path, func() bool {
		data, _ := os.ReadFile(path)
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || !strings.HasSuffix(string(data), "\n") {
			return false
		}
		p, err = supervisor.ReadProc(pid)
		return err == nil
	})
	t.Cleanup(func() { _ = p.Signal(9) })
	return p
}

// supervisorOf waits for the noted processes of a step.
func supervisorOf(t testing.TB, p *Provisioner, job Job) (pids supervisor.PIDs) {
	t.Helper()
	eventually(t, "the noted processes", func() bool {
		pids = supervisor.ReadPIDs(p.o.RunDir, job.Run, job.Step)
		return pids.Supervisor.PID != 0
	})
	return pids
}

// agent is a process that stands in for an agent; see standInAgent.
type agent struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// startAgent starts one on dir.
func startAgent(t testing.TB, dir, mode string) *agent {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PROVISION_TEST_AGENT="+dir, "PROVISION_TEST_MODE="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &agent{cmd, bufio.NewScanner(out)}
	t.Cleanup(a.kill)
	return a
}

// awaitLine blocks until the agent says line.
func (a *agent) awaitLine(t testing.TB, line string) {
	t.Helper()
	for a.lines.Scan() {
		if a.lines.Text() == line {
			return
		}
	}
	t.Fatalf("the agent ended without saying %q", line)
}

func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// supervisors are the living ones that the agent started.
func (a *agent) supervisors() (found []supervisor.Proc) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, _ := os.ReadFile(dir + "/stat")
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 || f[1] != strconv.Itoa(a.cmd.Process.Pid) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if p, err := supervisor.ReadProc(pid); err == nil && strings.Contains(commandLine(pid), supervisor.Arg) {
			found = append(found, p)
		}
	}
	return found
}

func writeJob(t testing.TB, dir string, job Job) {
	t.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/job.json", data, 0o600); err != nil {
		t.Fatal(err)
	}
}
