package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// RunIDVariable marks every process of a run.
const RunIDVariable = "LISTENER_RUN_ID"

// Proc is one process; the start time tells it from a later one with its number.
type Proc struct {
	PID int `json:"pid"`
	// Start is field 22 of /proc/PID/stat: clock ticks after boot.
	Start  uint64 `json:"start"`
	parent int
	group  int
	sid    int
	state  byte // R, S, D, T, Z, X …
}

// TicksPerSecond is USER_HZ, part of Linux' interface on all its machines.
const TicksPerSecond = 100

// ReadProc reads /proc/PID/stat.
func ReadProc(pid int) (Proc, error) {
	data, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Proc{}, err
	}
	// "PID (COMM) STATE PPID PGRP SESSION …": COMM may hold anything, so count from the last ')'.
	_, rest, ok := bytes.Cut(data[max(0, bytes.LastIndexByte(data, ')')):], []byte(") "))
	f := bytes.Fields(rest)
	if !ok || len(f) < 20 {
		return Proc{}, fmt.Errorf("/proc/%d/stat: unknown format", pid)
	}
	p := Proc{PID: pid, state: f[0][0]}
	p.parent, _ = strconv.Atoi(string(f[1]))
	p.group, _ = strconv.Atoi(string(f[2]))
	p.sid, _ = strconv.Atoi(string(f[3]))
	p.Start, err = strconv.ParseUint(string(f[19]), 10, 64)
	return p, err
}

// bootTicks is now as Proc.Start counts; 0 should the kernel not tell.
func bootTicks() uint64 {
	const clockBootTime = 7 // linux/time.h
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBootTime, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0
	}
	return uint64(t.Nano()) / (1e9 / TicksPerSecond)
}

// Alive reports whether this very process still runs; a zombie does not.
func (p Proc) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := ReadProc(p.PID)
	return err == nil && now.Start == p.Start && !now.ended()
}

// Signal sends sig if p is still the same process.
func (p Proc) Signal(sig syscall.Signal) error {
	if !p.Alive() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.PID, sig)
}

func (p Proc) ended() bool { return p.state == 'Z' || p.state == 'X' || p.state == 'x' }

// UnitVariable names the systemd unit to the supervisor that runs in it.
const UnitVariable = "LISTENER_UNIT"

// UnitName is the systemd unit of a step, where steps are units. A drop-in in
// listener-run-.service.d/ is for all of them, see systemd.unit(5).
func UnitName(run, step string) string { return "listener-run-" + run + "-" + step + ".service" }

// Tree finds and ends the processes of a run: all whose environment holds
// LISTENER_RUN_ID=Run, those in the control group of Unit, Main, the
// descendants of Root, and the descendants of all these. The calling process is
// never one of them.
type Tree struct {
	Run string
	// Unit is a name of systemd's, "" for none: what runs in it belongs to the
	// run, even with an environment and a parent that do not tell.
	Unit string
	// Root is a subreaper; its descendants belong to the run, it does not. 0: none.
	Root int
	// Main is the recorded main process; it counts with its session while it lives.
	Main Proc
}

// Find returns the living processes of the run. starting is true when a process
// is just within execve, where its environment cannot be read yet.
func (t Tree) Find() (found []Proc, starting bool, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, false, err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return nil, false, err
	}
	var all []Proc
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, err := ReadProc(pid); err == nil {
				all = append(all, p)
			}
		}
	}
	in := map[int]bool{}
	mark := []byte("\x00" + RunIDVariable + "=" + t.Run + "\x00")
	self := os.Getpid()
	for _, p := range all {
		if p.PID == self || p.ended() {
			continue
		}
		has, blank := hasEnv(p, mark)
		starting = starting || blank
		ofMain := p.PID == t.Main.PID && p.Start == t.Main.Start
		in[p.PID] = has || ofMain || t.Unit != "" && inUnit(p.PID, t.Unit)
	}
	return t.descend(all, in, self), starting, nil
}

// descend adds to the processes marked in `in` the session of Main and all
// descendants, and returns those that live.
func (t Tree) descend(all []Proc, in map[int]bool, self int) (found []Proc) {
	if in[t.Main.PID] {
		for _, p := range all {
			// While its leader lives, the session's number is not given again.
			if p.sid == t.Main.PID && p.PID != self {
				in[p.PID] = true
			}
		}
	}
	for more := true; more; {
		more = false
		for _, p := range all {
			if in[p.PID] || p.PID == self {
				continue
			}
			if in[p.parent] || (t.Root != 0 && p.parent == t.Root) {
				in[p.PID], more = true, true
			}
		}
	}
	for _, p := range all {
		if in[p.PID] && !p.ended() {
			found = append(found, p)
		}
	}
	return found
}

// inUnit reports whether a process is in the control group of a unit or below
// it, whichever hierarchy says so: "0::/system.slice/UNIT", see cgroups(7).
func inUnit(pid int, unit string) bool {
	groups, err := readFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && (bytes.Contains(groups, []byte("/"+unit+"\n")) || bytes.Contains(groups, []byte("/"+unit+"/")))
}

// hasEnv looks for mark (with its NULs) in the environment of p. blank: p has
// neither an environment nor arguments and is no kernel thread, which is so
// within execve and, for a moment, at the end of a process.
func hasEnv(p Proc, mark []byte) (has, blank bool) {
	dir := "/proc/" + strconv.Itoa(p.PID)
	env, err := readFile(dir + "/environ")
	if len(env) > 0 {
		if bytes.HasPrefix(env, mark[1:]) || bytes.Contains(env, mark) {
			return true, false
		}
		// The last variable need not end in NUL (a process may rewrite its own).
		return bytes.HasSuffix(env, mark[:len(mark)-1]), false
	}
	const kthreadd = 2
	if err != nil && !errors.Is(err, syscall.ESRCH) || p.PID == kthreadd || p.parent == kthreadd || p.parent == 0 {
		return false, false
	}
	args, err := readFile(dir + "/cmdline")
	return false, (err == nil || errors.Is(err, syscall.ESRCH)) && len(args) == 0
}

// End ends the tree: TERM to all, KILL to what is left after killAfter. It
// blocks until nothing is left; when ctx ends first, it returns its error and
// processes may be left. Processes in uninterruptible sleep are waited for:
// as long as they live, the step has not ended.
func (t Tree) End(ctx context.Context, killAfter time.Duration) error {
	left, err := t.findSettled(ctx)
	if err != nil || len(left) == 0 {
		return err
	}
	if killAfter > 0 {
		for _, p := range left {
			_ = p.Signal(syscall.SIGTERM)
			_ = p.Signal(syscall.SIGCONT) // a stopped process takes TERM only then
		}
		grace, stop := context.WithTimeout(ctx, killAfter)
		left, err = t.wait(grace)
		stop()
		if ctx.Err() != nil || (err != nil && !errors.Is(err, context.DeadlineExceeded)) || len(left) == 0 {
			return errors.Join(ctx.Err(), ignoreDeadline(err))
		}
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		left, err := t.kill()
		if err == nil && left == 0 {
			var found []Proc
			found, err = t.findSettled(ctx)
			left = len(found)
		}
		if err != nil || left == 0 {
			return err
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// findSettled looks again, for at most a second, while a process is in execve
// or about to end: a supervisor that is killed just then leaves a command
// without an environment yet, and one that ends has none any more but may still
// hold files. That nothing is there must be seen twice: a process that was
// forked after the first look, by one that ended during it, shows in the second.
func (t Tree) findSettled(ctx context.Context) ([]Proc, error) {
	deadline := time.Now().Add(time.Second)
	for nothing := 0; ; {
		found, starting, err := t.Find()
		settled := !starting || t.Root != 0 || time.Now().After(deadline)
		switch {
		case err != nil || settled && len(found) > 0:
			return found, err
		case settled:
			if nothing++; nothing == 2 {
				return nil, nil
			}
			continue
		}
		nothing = 0
		if !sleep(ctx, 2*time.Millisecond) {
			return found, ctx.Err()
		}
	}
}

// wait returns when nothing of the tree is left or ctx ended.
func (t Tree) wait(ctx context.Context) ([]Proc, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left, err := t.findSettled(ctx)
		if err != nil || len(left) == 0 {
			return left, err
		}
		if !sleep(ctx, pause) {
			return left, ctx.Err()
		}
	}
}

// kill stops all first, so that none can fork away from under the hands, and
// then kills them. It returns how many were alive before.
func (t Tree) kill() (int, error) {
	stopped := map[Proc]bool{}
	var found []Proc
	for more := true; more; {
		var err error
		if found, _, err = t.Find(); err != nil {
			return 0, err
		}
		more = false
		for _, p := range found {
			key := Proc{PID: p.PID, Start: p.Start}
			if !stopped[key] && p.Signal(syscall.SIGSTOP) == nil {
				stopped[key], more = true, true
			}
		}
	}
	for p := range stopped {
		_ = p.Signal(syscall.SIGKILL)
	}
	return len(found), nil // also those we may not signal: they run on
}
