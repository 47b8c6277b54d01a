package main_test

import (
	"maps"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// badCommands end in a failure that says what happened; the agent goes on, and
// the value that they were to provision gets there once they are repaired.
var badCommands = []struct {
	name     string
	settings map[string]string
	script   string // "": as it is
	want     string // in the failure's text
	tail     string // in the last lines of its output
}{
	{name: "does not exist", settings: map[string]string{"provision.command": `["/nowhere/provision"]`}, want: "does not exist"},
	{name: "is not executable", settings: map[string]string{"provision.command": `["/etc/passwd"]`}, want: "is not executable"},
	{name: "fails", script: "echo sorry >&2; exit 3", want: "exit code 3", tail: "sorry"},
	{name: "hangs", settings: map[string]string{"provision.timeout": `"100ms"`}, script: "echo started; sleep 1000", want: "timed out", tail: "started"},
	{
		name: "ignores TERM", settings: map[string]string{"provision.timeout": `"100ms"`, "provision.kill_after": `"100ms"`},
		script: `trap "" TERM; while :; do sleep 1000; done`, want: "timed out",
	},
	{name: "hangs in a daemon's child", settings: map[string]string{"provision.timeout": `"100ms"`}, script: "setsid sh -c 'sleep 1000 & sleep 1000' & sleep 1000", want: "timed out"},
	{name: "is killed", script: "kill -9 $$", want: "SIGKILL"},
	{name: "fails after much output", script: "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 4", want: "exit code 4", tail: "the end"},
}

func TestBadCommands(t *testing.T) {
	t.Parallel()
	for _, tc := range badCommands {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newNode(t)
			good := s.settings["provision.command"]
			maps.Copy(s.settings, tc.settings)
			s.settings["retry.base"], s.settings["retry.max"] = `"200ms"`, `"200ms"`
			if tc.script != "" {
				s.command(tc.script)
			}
			s.write(s.config(), s.toml())
			if out, code := s.listener("reload"); code != 0 {
				t.Fatalf("reload: %s", out)
			}
			s.put("K", "second")
			s.until("a failure with "+tc.want, func() bool {
				f := s.must().Failures
				return len(f) == 1 && strings.Contains(f[0].Text, tc.want) && strings.Contains(strings.Join(f[0].LastTail, "\n"), tc.tail)
			})
			// A run that is over leaves no process.
			s.again(syscall.SIGKILL) // and the failure is not forgotten
			if f := s.must().Failures; len(f) != 1 || f[0].Count < 1 {
				t.Errorf("after a restart: failures %+v", f)
			}
			s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"`)
			s.settings["provision.command"] = good
			s.settings["provision.timeout"] = `"20s"`
			s.write(s.config(), s.toml())
			if out, code := s.listener("reload"); code != 0 {
				t.Fatalf("reload: %s", out)
			}
			s.applied("app", "K='second'")
			s.goesOn()
			if f := s.must().Failures; len(f) != 0 {
				t.Errorf("failures are left: %+v", f)
			}
			s.nothingRuns()
		})
	}
}

// nothingRuns waits until no command is left.
func (s *system) nothingRuns() {
	s.t.Helper()
	s.until("the end of all commands", func() bool {
		for _, p := range s.processes() {
			if p.pid != s.agent.cmd.Process.Pid && !p.supervisor {
				return false
			}
		}
		return true
	})
}

func TestMuchOutput(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	mb := 200
	if testing.Short() {
		mb = 20
	}
	s.command(`echo the beginning; head -c ` + strconv.Itoa(mb) + `000000 /dev/zero; echo; echo the end; echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.goesOn()
	run := s.must().LastRun.ID
	out, code := s.listener("logs", run)
	if code != 0 || !hasAll(out, []string{"the beginning", "the end"}) || len(out) > 2<<20 {
		t.Errorf("logs: exit %d, %d bytes, wants both ends of the output", code, len(out))
	}
	size := int64(0)
	entries, _ := os.ReadDir(s.path("state", "runs"))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	if size > 2<<20 {
		t.Errorf("the history of runs has %d bytes", size)
	}
}

// A daemon that a successful command started lives on: through the next run,
// the agent's end and its output.
func TestDaemon(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.command("export D\n" + `
[ -e "$D/daemon" ] || setsid sh -c 'echo $$ >"$D/daemon.new"; mv "$D/daemon.new" "$D/daemon"; while :; do echo alive; echo x >>"$D/alive"; sleep 0.02; done' &
echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start()
	s.applied("app", "K='first'")
	s.until("the daemon", func() bool { return len(s.lines("daemon")) == 1 })
	s.goesOn()
	s.goesOn()
	s.again(syscall.SIGKILL)
	s.goesOn()
	s.again(syscall.SIGTERM)
	s.goesOn()
	before := len(s.lines("alive"))
	s.until("a daemon that goes on", func() bool { return len(s.lines("alive")) > before+2 })
	pid, err := strconv.Atoi(s.lines("daemon")[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon has gone: %v", err)
	}
}

// The agent and the supervisor are killed while a command runs that ignores
// TERM: the next agent ends it before it runs anything.
func TestKilledInRun(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.command(`exec 9>>"$D/lock"
flock -n 9 || { echo overlap >>"$D/overlaps"; exit 1; }
[ -e "$D/hung" ] || { touch "$D/hung"; trap "" TERM; while :; do sleep 0.1; done; }
echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.put("K", "second")
	s.until("a run that hangs", func() bool { _, err := os.Stat(s.path("hung")); return err == nil })
	pid := s.agent.cmd.Process.Pid
	for _, p := range s.processes() {
		if p.pid == pid || p.supervisor {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	s.over(s.agent)
	s.start()
	s.applied("app", "K='second'")
	if got := s.lines("overlaps"); len(got) > 0 {
		t.Errorf("overlaps: %q", got)
	}
	s.nothingRuns()
	s.goesOn()
}
