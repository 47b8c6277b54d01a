package provision

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// standInSystemdRun starts a "unit" as far as can be seen from here: not our
// child, in a session of its own, output to the file that is named. The true
// systemd-run is in scripts/test-systemd.sh.
const standInSystemdRun = `#!/bin/sh
out=/dev/null
printf '%s\n' "$@" >>"$(dirname "$0")/args"
while [ "$1" != -- ]; do
  case $1 in
  --property=StandardOutput=file:*) out=${1#*file:} ;;
  --setenv=*) export "${1#--setenv=}" ;;
  esac
  shift
done
shift
exec 3>"$out"
setsid "$@" </dev/null >&3 2>/dev/null &
`

// writeProgram writes a file that can be executed at once: who is forked in
// between would hold it open for writing until its exec (ETXTBSY).
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// unitProvisioner has program as systemd-run; troubles are what was told.
func unitProvisioner(t *testing.T, program string) (p *Provisioner, dir string, troubles *[]string) {
	t.Helper()
	dir, troubles = t.TempDir(), new([]string)
	path := filepath.Join(dir, "systemd-run")
	writeProgram(t, path, program)
	return openProvisioner(t, Options{
		StateDir: t.TempDir(), RunDir: t.TempDir(), Units: true, SystemdRun: path,
		UnitTrouble: func(err error) {
			if err != nil {
				*troubles = append(*troubles, err.Error())
			}
		},
	}), dir, troubles
}

func TestUnit(t *testing.T) {
	t.Parallel()
	p, dir, troubles := unitProvisioner(t, standInSystemdRun)
	job := sh("echo hello; exit 3", "a secret")
	job.KillAfter = 30 * time.Second
	res := mustRun(t, p, job)
	unit := "listener-run-" + job.Run + "-node.service"
	if res.Outcome != Exited || res.Exit != 3 || res.Unit != unit || len(*troubles) > 0 {
		t.Errorf("result %+v, troubles %q", res, *troubles)
	}
	if got := logText(t, p, job.Run); got != "hello\n" {
		t.Errorf("log %q", got)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--unit=" + unit, "--collect", "--property=KillMode=process", "--property=TimeoutStopSec=45s",
		"--property=LogExtraFields=LISTENER_RUN_ID=" + job.Run,
	} {
		if !strings.Contains(string(args), want+"\n") {
			t.Errorf("systemd-run was not given %s", want)
		}
	}
	if strings.Contains(string(args), "secret") || strings.Contains(string(args), "hello") {
		t.Errorf("the command is among the arguments: %s", args)
	}
	if err := p.Forget(Ref{job.Run, job.Step}); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(p.o.RunDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in run_dir: %v, %v", left, err)
	}
}

// When the supervisor in a unit dies, that shows at once, and what it began is ended.
func TestUnitSupervisorKilled(t *testing.T) {
	t.Parallel()
	p, _, _ := unitProvisioner(t, standInSystemdRun)
	g := newGate(t)
	job := sh(g.wait())
	go func() {
		eventually(t, "the process ids", func() bool {
			s := supervisor.ReadPIDs(p.o.RunDir, job.Run, job.Step).Supervisor
			return s.PID != 0 && s.Signal(9) == nil
		})
	}()
	if res := mustRun(t, p, job); res.Outcome != Lost || !strings.Contains(res.Error, "see the journal of listener-run-") {
		t.Errorf("%+v", res)
	}
}

// A unit that cannot be started, or in which the job is refused, or that never
// says a word, leaves the step to a child process.
func TestUnitFallsBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ program, trouble string }{
		"refused by systemd": {"#!/bin/sh\necho Failed to start transient service unit: Access denied >&2\nexit 1\n", "Access denied"},
		"no such program":    {"#!/nowhere\n", "no such file"},
		"refused job":        {strings.Replace(standInSystemdRun, `setsid "$@"`, `setsid sh -c 'echo refused other version'`, 1), "other version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _, troubles := unitProvisioner(t, c.program)
			res := mustRun(t, p, sh("exit 0"))
			if res.Outcome != Exited || res.Exit != 0 || res.Unit != "" {
				t.Errorf("%+v", res)
			}
			if got := strings.Join(*troubles, "\n"); !strings.Contains(got, c.trouble) {
				t.Errorf("told %q, want %q", got, c.trouble)
			}
		})
	}
}

// A unit that was given up for one that does not start, but did: its step runs
// once, and has its result.
func TestUnitThatBeganAfterAll(t *testing.T) {
	t.Parallel()
	p, _, troubles := unitProvisioner(t, standInSystemdRun+"while ! test -e \"$LISTENER_TEST\"; do sleep 0.01; done\nexit 1\n")
	g := newGate(t)
	started := filepath.Join(g.dir, "started")
	program, err := os.ReadFile(p.o.SystemdRun)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(program), "$LISTENER_TEST", started)
	writeProgram(t, p.o.SystemdRun, text)
	job := sh("echo once; " + g.wait())
	time.AfterFunc(supervisor.LockWait+time.Second, g.opens(t)) // the child gives up before
	res := mustRun(t, p, job)
	if res.Outcome != Exited || res.Exit != 0 || res.Unit == "" || len(*troubles) != 1 {
		t.Errorf("%+v, told %q", res, *troubles)
	}
	if got := logText(t, p, job.Run); got != "once\n" {
		t.Errorf("log %q", got)
	}
}

func (g gate) opens(t *testing.T) func() {
	return func() {
		if err := os.WriteFile(filepath.Join(g.dir, "open"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// A step in a unit outlives the Provisioner and is adopted by the next one.
func TestUnitIsAdopted(t *testing.T) {
	t.Parallel()
	p, _, _ := unitProvisioner(t, standInSystemdRun)
	g := newGate(t)
	job := sh(g.wait())
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the start", func() bool { _, err := os.Stat(filepath.Join(g.dir, "started")); return err == nil })
		stop()
	}()
	if _, err := p.Run(ctx, job); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run: %v", err)
	}
	next := openProvisioner(t, Options{StateDir: p.o.StateDir, RunDir: p.o.RunDir})
	time.AfterFunc(50*time.Millisecond, g.opens(t))
	if res := mustAdopt(t, next, Ref{job.Run, job.Step}); res.Outcome != Exited || res.Unit == "" {
		t.Errorf("%+v", res)
	}
}
