// Package supervisor runs one step of a provision so that it survives the
// agent: it is the node's own binary, started as
//
//	listener supervise-step [JOBFILE]
//
// and taken over in this package's init, before anything else of the binary
// runs. It imports nothing but the standard library, and of that only what is
// ready early: packages initialise in the order of their names as soon as what
// they import is, so that "path/filepath" or "runtime/debug" would let the
// stores' clients go first.
//
// Without JOBFILE it is a standby: started ahead of need, it blocks on standard
// input until the agent hands it the path of a job file in one line. End of
// file without a full line (the agent is gone) ends it. Handing over a job costs
// one file write, one pipe write and one fork; that keeps process start and
// package initialisation off the path between an event and the command.
//
// A step that leaves nothing behind, neither a child nor a holder of its output
// pipe, makes its supervisor a standby again. All others end with their step's
// last daemon.
//
// On standard output it tells the agent, line by line, what happened (see
// Word). The lines are a convenience: what counts is the result file.
package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Arg as first argument makes any binary that imports this package a supervisor.
const Arg = "supervise-step"

// Word is the first word of a line on the supervisor's standard output. A line
// that begins with none of these is a diagnostic (a panic, for example).
type Word string

const (
	// Started: the command runs; the process id follows.
	Started Word = "started"
	// Recorded: the result file is there and the lock is free. AsStandby follows
	// when the supervisor takes the next job.
	Recorded Word = "recorded"
	// Unrecorded: the result, which follows as JSON, cannot be written (disk
	// full). The supervisor holds the lock and tries on until it can, or until
	// the job file is gone, which tells it that the agent has taken the result.
	Unrecorded Word = "unrecorded"
	// Busy: the lock was held by another for all of LockWait; nothing was started.
	Busy Word = "busy"
	// Refused: the job cannot be run, because it is no longer there, cannot be
	// read, or the lock file cannot be opened (the reason follows); nothing was started.
	Refused Word = "refused"
)

// AsStandby follows Recorded from a supervisor that is a standby again.
const AsStandby = "standby"

const (
	// LockWait bounds the wait for the lock: another supervisor may be about to end.
	LockWait = 2 * time.Second
	// OutputGrace is how long output is still copied after the main process
	// ended, as long as something holds the pipe.
	OutputGrace = time.Second
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == Arg {
		// The initialising goroutine is bound to its thread, so that each change
		// to another goroutine would be one of threads.
		code := make(chan int)
		go func() { code <- supervise(os.Args[2:]) }()
		os.Exit(<-code)
	}
}

// Phases of a supervisor: SIGTERM ends a standby and cancels a step.
const (
	phaseStandby int32 = iota
	phaseStep
	phaseEnding
)

type supervisor struct {
	null  int // /dev/null, opened ahead of need
	phase atomic.Int32
	// cancel is closed by the first SIGTERM or SIGINT of a step; the supervisor
	// then takes no other.
	cancel    chan struct{}
	cancelled atomic.Bool
}

// supervise is the whole program; it returns the exit code, which nobody needs:
// 0 when a result is recorded (or nothing was to be done), 1 otherwise.
func supervise(args []string) int {
	s, err := newSupervisor()
	if err != nil {
		fmt.Fprintln(os.Stderr, "listener supervise-step:", err)
		return 1
	}
	if len(args) > 0 {
		s.phase.Store(phaseStep)
		_, code := s.step(args[0], false)
		return code
	}
	warmUp()
	for {
		path, ok := readLine(syscall.Stdin)
		if !ok || !s.phase.CompareAndSwap(phaseStandby, phaseStep) {
			return 0
		}
		if again, code := s.step(path, true); !again {
			return code
		}
	}
}

func newSupervisor() (*supervisor, error) {
	closeInherited()
	s := &supervisor{cancel: make(chan struct{})}
	// Started as /proc/self/exe it would be called "exe" in ps and top.
	_ = os.WriteFile("/proc/self/comm", []byte("listener-step"), 0)
	// A child subreaper: descendants of the command that lose their parent
	// become our children, so a daemonized one is still found and reaped.
	const prSetChildSubreaper = 36 // linux/prctl.h
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return nil, fmt.Errorf("become a child subreaper: %w", errno)
	}
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	s.null = null
	// The signals are caught, never ignored: the command would inherit that.
	// SIGPIPE comes when the agent is gone, which must not disturb the step.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	go s.watchSignals(signals)
	return s, nil
}

// closeInherited closes descriptors that some ancestor forgot to: neither we nor
// a daemon of the command shall keep them open. The runtime's are close-on-exec.
func closeInherited() {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil || fd <= syscall.Stderr {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			_ = syscall.Close(fd)
		}
	}
}

func (s *supervisor) watchSignals(signals <-chan os.Signal) {
	for sig := range signals {
		if sig != syscall.SIGTERM && sig != syscall.SIGINT {
			continue
		}
		if s.phase.CompareAndSwap(phaseStandby, phaseEnding) {
			os.Exit(0)
		}
		if s.cancelled.CompareAndSwap(false, true) {
			close(s.cancel)
		}
	}
}

// warmUp runs the code of the critical path once, so that its pages
// are there when the job comes.
func warmUp() {
	j := Job{Run: "r", Step: "s", Argv: []string{"/bin/true"}, Env: []string{"A=b"}, Dir: "/"}
	if data, err := EncodeJob(j, "/", "/"); err == nil {
		_, _ = decodeJob(data)
	}
	_, _ = json.Marshal(ownPIDs())
	_, _ = lookPath("supervise-step-warm-up", []string{"PATH=/bin"})
}

// readLine blocks until a full line came; ok is false at end of file. It reads
// without the runtime's poller: one system call wakes one thread.
func readLine(fd int) (line string, ok bool) {
	buf := make([]byte, 0, 4096)
	for len(buf) < cap(buf) {
		n, err := syscall.Read(fd, buf[len(buf):cap(buf)])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return "", false
		}
		buf = buf[:len(buf)+n]
		if i := bytes.IndexByte(buf, '\n'); i >= 0 {
			return string(buf[:i]), true
		}
	}
	return "", false
}

// tell writes one line for the agent. Errors are ignored: the agent may be gone.
func tell(w Word, rest string) {
	_, _ = syscall.Write(syscall.Stdout, []byte(string(w)+" "+rest+"\n"))
}

// step carries out one job, from the lock to the end of its duty as reader.
// again: reuse was asked for, and the supervisor is a standby now.
func (s *supervisor) step(path string, reuse bool) (again bool, code int) {
	job, err := readJob(path)
	if err != nil {
		tell(Refused, err.Error())
		return false, 1
	}
	ctx, stop := context.WithTimeout(context.Background(), LockWait)
	lock, err := Acquire(ctx, job.StateDir)
	stop()
	if errors.Is(err, ErrLocked) {
		tell(Busy, err.Error())
		return false, 1
	} else if err != nil {
		tell(Refused, err.Error())
		return false, 1
	}
	// Only now, holding the lock, is it certain that nobody has run the job or
	// given it up, and that nobody will while we run it.
	if _, err := os.Lstat(ResultPath(job.RunDir, job.Run, job.Step)); err == nil {
		lock.Release()
		tell(Recorded, "")
		return false, 0
	}
	if _, err := os.Lstat(path); err != nil {
		lock.Release()
		tell(Refused, err.Error())
		return false, 1
	}
	c := &command{job: job, null: s.null, cancel: s.cancel, journal: openJournal()}
	recorded := record(job, c.run())
	lock.Release()
	if !recorded {
		c.linger()
		return false, 1
	}
	if reuse && c.leftNothing() && !s.cancelled.Load() {
		s.phase.Store(phaseStandby)
		tell(Recorded, AsStandby)
		return true, 0
	}
	tell(Recorded, "")
	c.linger()
	return false, 0
}

// leftNothing reports whether no child and no holder of the output pipe is left.
func (c *command) leftNothing() bool {
	if c.eof == nil { // never started
		return true
	}
	select {
	case <-c.eof:
	default:
		return false
	}
	for {
		switch _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err {
		case syscall.ECHILD:
			<-c.childless // reap sees the same: it must not take the next step's status
			return true
		case syscall.EINTR:
		default:
			return false // a child lives, or was reaped and another may live
		}
	}
}

// linger stays the reader of the pipe for daemons that the command started,
// which would otherwise die of SIGPIPE; it returns at once when there are none.
// The supervisor then ignores SIGTERM: there is nothing left to cancel.
func (c *command) linger() {
	if c.eof == nil {
		return
	}
	select {
	case <-c.eof:
		return
	default:
	}
	runtime.GC()
	<-c.eof
}

// record writes the result. On a full disk it tells the agent and tries on
// until it succeeds or the agent has taken the job away (false).
func record(job *wireJob, res Result) bool {
	path := JobPath(job.RunDir, job.Run, job.Step)
	err := WriteResult(job.RunDir, res)
	if err == nil {
		return true
	}
	res.Unrecorded = err.Error()
	tell(Unrecorded, string(encodeResult(res)))
	res.Unrecorded = ""
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		time.Sleep(pause)
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			return false
		}
		if WriteResult(job.RunDir, res) == nil {
			return true
		}
	}
}
