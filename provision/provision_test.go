package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

func TestOutcomes(t *testing.T) {
	notExec := t.TempDir() + "/plain"
	if err := os.WriteFile(notExec, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	noFormat := t.TempDir() + "/noformat"
	writeProgram(t, noFormat, "hello")
	noInterpreter := t.TempDir() + "/nointerpreter"
	writeProgram(t, noInterpreter, "#!/no/such/sh\n")
	for _, c := range []struct {
		name    string
		argv    []string
		dir     string
		outcome string
		exit    int
		signal  string
		text    string
	}{
		{"success", []string{"true"}, "", Exited, 0, "", ""},
		{"exit code", []string{"sh", "-c", "exit 7"}, "/", Exited, 7, "", ""},
		{"signal", []string{"sh", "-c", "kill -SEGV $$"}, "/", Exited, 139, "SIGSEGV", ""},
		{"kill", []string{"sh", "-c", "kill -KILL $$"}, "/", Exited, 137, "SIGKILL", ""},
		{"not in PATH", []string{"no-such-command"}, "/", NotStarted, 127, "", `command "no-such-command" was not found in PATH`},
		{"no such file", []string{"/no/such/command"}, "/", NotStarted, 127, "", `command "/no/such/command" does not exist`},
		{"not executable", []string{notExec}, "/", NotStarted, 126, "", "is not executable (mode 0644)"},
		{"directory", []string{"/etc"}, "/", NotStarted, 126, "", "is a directory"},
		{"no format", []string{noFormat}, "/", NotStarted, 126, "", "#!/bin/sh"},
		{"no interpreter", []string{noInterpreter}, "/", NotStarted, 127, "", "interpreter"},
		{"bad directory", []string{"true"}, "/no/such/dir", NotStarted, 126, "", "working directory"},
		{"directory is a file", []string{"true"}, notExec, NotStarted, 126, "", "is not a directory"},
		{"too large", []string{"true", strings.Repeat("x", 200<<10)}, "/", NotStarted, 126, "", "larger than the system allows"},
		{"far too large", []string{"true", strings.Repeat("x", 5<<20)}, "/", NotStarted, 126, "", "larger than the system allows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProvisioner(t)
			job := Job{Run: NewRunID(time.Now()), Step: "node", Argv: c.argv, Dir: c.dir, Env: []string{testPath}}
			res := mustRun(t, p, job)
			if res.Outcome != c.outcome || res.Exit != c.exit || res.Signal != c.signal || !strings.Contains(res.Error, c.text) {
				t.Errorf("got %+v", res)
			}
			if (c.text == "") != (res.Error == "") {
				t.Errorf("error text %q", res.Error)
			}
			if res.Run != job.Run || res.Step != job.Step || res.Started.IsZero() || res.Ended.Before(res.Started) {
				t.Errorf("got %+v", res)
			}
		})
	}
}

func TestArgumentsAndEnvironmentAreExact(t *testing.T) {
	p := newProvisioner(t)
	odd := []string{"", " ", "-n", "a b", "'", `"`, "$HOME", "`id`", "new\nline", "\xff\xfe not UTF-8", "ä", "{KEY}", "\\", "*"}
	job := sh(`printf '%s\0' "$@"`, odd...)
	res := mustRun(t, p, job)
	if got, want := logText(t, p, job.Run), strings.Join(odd, "\x00")+"\x00"; res.Exit != 0 || got != want {
		t.Errorf("arguments: %+v\n got %q\nwant %q", res, got, want)
	}

	job = Job{
		Run: NewRunID(time.Now()), Step: "node", Argv: []string{"env", "-0"},
		Env: []string{testPath, "EMPTY=", "EQ=a=b", "NL=a\nb", "RAW=\xff\x01", "Q='\"", "DUP=1"},
	}
	want := append(slices.Clone(job.Env), "LISTENER_RUN_ID="+job.Run)
	res = mustRun(t, p, job)
	if got := logText(t, p, job.Run); res.Exit != 0 || got != strings.Join(want, "\x00")+"\x00" {
		t.Errorf("environment: %+v\n got %q\nwant %q", res, got, want)
	}

	job.Run = NewRunID(time.Now())
	job.Env = []string{"LISTENER_RUN_ID=" + job.Run, testPath}
	mustRun(t, p, job)
	if got := logText(t, p, job.Run); got != strings.Join(job.Env, "\x00")+"\x00" {
		t.Errorf("environment: got %q, want %q", got, job.Env)
	}
}

// TestSurroundings: what else a command inherits.
func TestSurroundings(t *testing.T) {
	p := newProvisioner(t)
	job := sh(`readlink /proc/$$/fd/0; for f in /proc/$$/fd/*; do test -e "$f" && printf '%s ' "${f##*/}"; done; echo; pwd
		cut -d' ' -f1,5,6 /proc/$$/stat; exec grep -E '^Sig(Blk|Ign)' /proc/self/status`)
	job.Dir = t.TempDir()
	mustRun(t, p, job)
	lines := strings.Split(strings.TrimSpace(logText(t, p, job.Run)), "\n")
	if len(lines) != 6 {
		t.Fatalf("%q", lines)
	}
	if lines[0] != "/dev/null" {
		t.Errorf("standard input is %s", lines[0])
	}
	if lines[1] != "0 1 2 " {
		t.Errorf("open descriptors: %s", lines[1])
	}
	if lines[2] != job.Dir {
		t.Errorf("working directory %s", lines[2])
	}
	if ids := strings.Fields(lines[3]); ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("not the leader of its own session and process group: %v", ids)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines[4:] {
		// Ignored by whom started the tests (nohup, make) is none of our business.
		if got, own := signals(t, l, l[:6]), signals(t, string(status), l[:6]); got&^own != 0 {
			t.Errorf("signals: %s, the tests have %x", l, own)
		}
	}
}

// signals is the set that a line of /proc/PID/status has.
func signals(t *testing.T, status, name string) (set uint64) {
	t.Helper()
	_, rest, _ := strings.Cut(status, name+":")
	if _, err := fmt.Sscanf(rest, "%x", &set); err != nil {
		t.Fatalf("%s in %q: %v", name, status, err)
	}
	return set
}

func TestRefused(t *testing.T) {
	p := newProvisioner(t)
	ok := sh("true")
	for name, spoil := range map[string]func(*Job){
		"run with a slash": func(j *Job) { j.Run = "../x" },
		"run with a dot":   func(j *Job) { j.Run = "a.b" },
		"no step":          func(j *Job) { j.Step = "" },
		"no command":       func(j *Job) { j.Argv = nil },
		"empty command":    func(j *Job) { j.Argv = []string{""} },
		"NUL in argument":  func(j *Job) { j.Argv = []string{"echo", "a\x00b"} },
		"NUL in variable":  func(j *Job) { j.Env = []string{"TOKEN=se\x00cret"} },
		"NUL in directory": func(j *Job) { j.Dir = "/\x00" },
	} {
		job := ok
		spoil(&job)
		_, err := p.Run(context.Background(), job)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: the error shows the value: %v", name, err)
		}
	}
	if left, err := p.Left(); err != nil || len(left) != 0 {
		t.Errorf("left %v %v", left, err)
	}
	if _, err := New(Options{StateDir: "relative", RunDir: "/tmp"}); err == nil {
		t.Error("a relative directory was accepted")
	}
}

func TestStandbyIsUsedAgain(t *testing.T) {
	p := newProvisioner(t)
	p.Warm()
	p.Warm()
	first := standbyPID(t, p)
	for range 3 {
		if res := mustRun(t, p, sh("true")); res.Outcome != Exited || res.Exit != 0 {
			t.Fatalf("%+v", res)
		}
	}
	if now := standbyPID(t, p); now != first {
		t.Errorf("standby was %d, is %d", first, now)
	}
	killed, err := supervisor.ReadProc(standbyPID(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if res := mustRun(t, p, sh("exit 4")); res.Outcome != Exited || res.Exit != 4 {
		// Killed before it read the job it is lost; dead already, it is replaced.
		if res.Outcome != Lost {
			t.Errorf("after its standby was killed: %+v", res)
		}
	}
	if res := mustRun(t, p, sh("exit 4")); res.Outcome != Exited || res.Exit != 4 {
		t.Errorf("%+v", res)
	}
}

func TestContextEndsAndStepGoesOn(t *testing.T) {
	p := newProvisioner(t)
	gate := newGate(t)
	job := sh(gate.wait() + "; exit 6")
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		gate.awaitStart(t)
		stop()
	}()
	if _, err := p.Run(ctx, job); !errors.Is(err, context.Canceled) {
		t.Fatalf("err %v", err)
	}
	if busy, err := p.Busy(); err != nil || !busy {
		t.Errorf("busy %v %v", busy, err)
	}
	if _, err := p.Run(context.Background(), sh("true")); !errors.Is(err, ErrLeft) {
		t.Errorf("a second run: %v", err)
	}
	gate.open(t)
	ref := Ref{job.Run, job.Step}
	if res := mustAdopt(t, p, ref); res.Outcome != Exited || res.Exit != 6 {
		t.Errorf("%+v", res)
	}
	if left, _ := p.Left(); !slices.Equal(left, []Ref{ref}) {
		t.Errorf("left %v", left)
	}
	for range 2 {
		if err := p.Forget(ref); err != nil {
			t.Error(err)
		}
	}
	if names, _ := os.ReadDir(p.o.RunDir); len(names) != 0 {
		t.Errorf("forgotten, but there is %v", names)
	}
	if res := mustRun(t, p, sh("true")); res.Exit != 0 {
		t.Errorf("%+v", res)
	}
}

func TestNeverTwoAtOnce(t *testing.T) {
	state := t.TempDir()
	a := openProvisioner(t, Options{StateDir: state, RunDir: t.TempDir()})
	b := openProvisioner(t, Options{StateDir: state, RunDir: t.TempDir()})
	gate := newGate(t)
	done := make(chan Result, 1)
	go func() { done <- mustRun(t, a, sh(gate.wait())) }()
	gate.awaitStart(t)
	marker := t.TempDir() + "/ran"
	begin := time.Now()
	_, err := b.Run(context.Background(), sh(`: >"$1"`, marker))
	if !errors.Is(err, ErrBusy) {
		t.Errorf("err %v", err)
	}
	if d := time.Since(begin); d < supervisor.LockWait {
		t.Errorf("waited only %v for the lock", d)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("two ran at once")
	}
	if left, _ := b.Left(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	second := make(chan Result, 1)
	go func() { second <- mustRun(t, b, sh(`: >"$1"`, marker)) }()
	gate.open(t)
	if res := <-done; res.Exit != 0 {
		t.Errorf("%+v", res)
	}
	if res := <-second; res.Outcome != Exited { // it waited for the lock
		t.Errorf("%+v", res)
	}
}

func TestResultIsNotRunAgain(t *testing.T) {
	p := newProvisioner(t)
	marker := t.TempDir() + "/ran"
	job := sh(`: >"$1"`, marker)
	want := Result{Run: job.Run, Step: job.Step, Outcome: Exited, Exit: 9}
	if err := supervisor.WriteResult(p.o.RunDir, want); err != nil {
		t.Fatal(err)
	}
	if res := mustRun(t, p, job); res.Exit != 9 {
		t.Errorf("%+v", res)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a step with a result was run")
	}
}

func TestCloseLeavesTheStepAlone(t *testing.T) {
	o := Options{StateDir: t.TempDir(), RunDir: t.TempDir()}
	p := openProvisioner(t, o)
	gate := newGate(t)
	job := sh(gate.wait() + "; exit 8")
	failed := make(chan error, 1)
	go func() {
		_, err := p.Run(context.Background(), job)
		failed <- err
	}()
	gate.awaitStart(t)
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", supervisorOf(t, p, job).Supervisor.PID))
	if err != nil || string(name) != "listener-step\n" {
		t.Errorf("it is called %q, %v", name, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if _, err := p.Run(context.Background(), sh("true")); err == nil {
		t.Error("a closed one started a step")
	}
	gate.open(t)
	next := openProvisioner(t, o)
	if res := mustAdopt(t, next, Ref{job.Run, job.Step}); res.Exit != 8 {
		t.Errorf("%+v", res)
	}
}
