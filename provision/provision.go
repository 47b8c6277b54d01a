// Package provision runs the steps of a provision on this node, one at a time,
// each under a supervisor that survives the agent; it takes over steps that an
// earlier agent left, sees foreign provisioners, and keeps the history of runs.
package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/provision/supervisor"
)

// Job is one step to run. Run adds LISTENER_RUN_ID=<Job.Run> to Env if it is
// not there: what is left of a dead run is found by it.
type Job = supervisor.Job

// Result is how a step ended.
type Result = supervisor.Result

// The values of Result.Outcome.
const (
	Exited     = supervisor.Exited
	Timeout    = supervisor.Timeout
	Cancelled  = supervisor.Cancelled
	Lost       = supervisor.Lost
	NotStarted = supervisor.NotStarted
)

var (
	// ErrBusy: another step holds the lock; nothing was started.
	ErrBusy = errors.New("another provision is running")
	// ErrLeft: an earlier step must be adopted first; nothing was started.
	ErrLeft = errors.New("an earlier step was left and is not adopted")
	// ErrNotRunning: there is no such step to cancel.
	ErrNotRunning = errors.New("no such step is running")
	// ErrClosed: the Provisioner was closed.
	ErrClosed = errors.New("provisioner closed")

	errRefused = errors.New("was not started")
)

// Options of a Provisioner.
type Options struct {
	// StateDir and RunDir are required, absolute; missing ones are created (0755).
	// StateDir outlives a boot and holds the lock and runs/; RunDir holds jobs
	// and results.
	StateDir, RunDir string
	// Exe is a program that imports provision/supervisor; "" is this very
	// program, also after its file was replaced by an upgrade.
	Exe string
	// Units makes each step a transient unit of systemd, named by
	// supervisor.UnitName; a step that cannot be one runs as a child process,
	// as all do without it. It needs root.
	Units bool
	// UnitTrouble, if set, is told before each step why it cannot be a unit, or
	// nil when it is one. It is called from Run and must not call back.
	UnitTrouble func(error)
	// SystemdRun is the program systemd-run; "" is that of PATH.
	SystemdRun string
}

// ownExe is the running program, be it replaced or removed meanwhile.
const ownExe = "/proc/self/exe"

// Provisioner starts steps. All methods may be called from any goroutine.
type Provisioner struct {
	o Options

	mu      sync.Mutex // guards following; held while a standby starts
	standby *handle
	warming bool // a goroutine is about to start the standby
	running map[Ref]*handle
	closed  bool
	handles map[*handle]bool // all that are watched

	wg sync.WaitGroup // watchers and warmers
}

// Ref names a step of a run.
type Ref struct{ Run, Step string }

// New checks the directories; it starts nothing.
func New(o Options) (*Provisioner, error) {
	for _, dir := range []string{o.StateDir, o.RunDir} {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("provision: directory %q is not absolute", dir)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("provision: %w", err)
		}
	}
	if o.Exe == "" {
		o.Exe = ownExe
	}
	if o.SystemdRun == "" {
		o.SystemdRun = "systemd-run"
	}
	// Opened once while that is possible: a full disk or a file system that
	// became read-only then does not keep steps from running.
	_, _ = supervisor.Held(o.StateDir)
	return &Provisioner{o: o, running: map[Ref]*handle{}, handles: map[*handle]bool{}}, nil
}

// Run hands the job to a supervisor and blocks until its result. When ctx ends
// first, it returns ctx.Err() and the step goes on; Adopt then takes its
// result. A nil error means that the step has a result, be it a failure; it
// stays in RunDir until Forget. With any other error nothing was started, unless
// Left names the step: then it is to be adopted.
//
// Only one step runs at a time on a node: ErrBusy when another holds the lock
// for 2 s, ErrLeft when an earlier one was neither adopted nor forgotten. A job
// whose result is already recorded is not run again; that result is returned.
func (p *Provisioner) Run(ctx context.Context, job Job) (Result, error) {
	ref := Ref{job.Run, job.Step}
	if err := p.refuse(ref); err != nil {
		return Result{}, err
	}
	data, err := supervisor.EncodeJob(withRunID(job), p.o.StateDir, p.o.RunDir)
	if err != nil {
		return Result{}, fmt.Errorf("provision: %w", err)
	}
	path := supervisor.JobPath(p.o.RunDir, job.Run, job.Step)
	// Nobody reads it before it is named to a supervisor, and a torn one is a job
	// that never began.
	if err := atomicfile.WriteNew(path, data); err != nil {
		return Result{}, fmt.Errorf("provision: the job: %w", err)
	}
	res, err := Result{}, errNoUnit
	if p.o.Units {
		res, err = p.runInUnit(ctx, ref, path, job.KillAfter)
	}
	if errors.Is(err, errNoUnit) {
		res, err = p.runAsChild(ctx, ref, path, job.KillAfter)
	}
	if errors.Is(err, ErrBusy) || errors.Is(err, errRefused) {
		_ = os.Remove(path)
	}
	return res, err
}

// runAsChild carries a step out under a child process of the agent.
func (p *Provisioner) runAsChild(ctx context.Context, ref Ref, path string, killAfter time.Duration) (Result, error) {
	h, messages, err := p.hand(ref, path)
	if err != nil {
		_ = os.Remove(path)
		return Result{}, err
	}
	res, err := p.follow(ctx, h, messages, ref, killAfter)
	if errors.Is(err, ErrBusy) && p.o.Units {
		// A unit that we took for one that does not start may have begun after all.
		return p.adopt(ctx, ref, killAfter, Lost, "another step ran for as long as this one was waiting")
	}
	return res, err
}

// refuse looks for steps without a result: they may still run.
func (p *Provisioner) refuse(own Ref) error {
	left, err := p.Left()
	if err != nil {
		return err
	}
	for _, ref := range left {
		if ref == own {
			continue
		}
		if _, err := supervisor.ReadResult(p.o.RunDir, ref.Run, ref.Step); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("provision: run %s step %s: %w", ref.Run, ref.Step, ErrLeft)
		}
	}
	return nil
}

// follow waits for what the supervisor says until the result is there.
func (p *Provisioner) follow(ctx context.Context, h *handle, messages <-chan message, ref Ref, killAfter time.Duration) (Result, error) {
	for {
		var m message
		var open bool
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case m, open = <-messages:
		}
		if !open {
			return p.ended(ctx, h, ref, killAfter)
		}
		switch m.word {
		case supervisor.Started:
			// No standby yet: starting one would disturb the command's start,
			// and its own supervisor will most likely be the next.
		case supervisor.Recorded:
			p.Warm()
			return supervisor.ReadResult(p.o.RunDir, ref.Run, ref.Step)
		case supervisor.Unrecorded:
			return supervisor.DecodeResult([]byte(m.rest))
		case supervisor.Busy:
			return Result{}, fmt.Errorf("provision: %w: %s", ErrBusy, m.rest)
		case supervisor.Refused:
			return Result{}, fmt.Errorf("provision: run %s step %s %w: %s", ref.Run, ref.Step, errRefused, m.rest)
		}
	}
}

// ended: the supervisor has gone without a word. What it began is ended.
func (p *Provisioner) ended(ctx context.Context, h *handle, ref Ref, killAfter time.Duration) (Result, error) {
	p.mu.Lock()
	closed, cancelled := p.closed, h.cancelled
	p.mu.Unlock()
	if closed {
		return Result{}, ErrClosed
	}
	why := "the supervisor ended unexpectedly"
	switch {
	case h.said != "": // by the watcher, before it closed messages
		why += ": " + h.said
	case h.unit != "":
		why += "; see the journal of " + h.unit
	}
	outcome := Lost
	if cancelled {
		outcome = Cancelled
	}
	return p.adopt(ctx, ref, killAfter, outcome, why)
}

// withRunID makes sure that the processes of the run can be found.
func withRunID(job Job) Job {
	mark := supervisor.RunIDVariable + "=" + job.Run
	if slices.Contains(job.Env, mark) {
		return job
	}
	env := make([]string, 0, len(job.Env)+1)
	for _, e := range job.Env {
		if !strings.HasPrefix(e, supervisor.RunIDVariable+"=") {
			env = append(env, e)
		}
	}
	job.Env = append(env, mark)
	return job
}

// Busy reports whether a step runs, or is being given up, on this node.
func (p *Provisioner) Busy() (bool, error) {
	held, err := supervisor.Held(p.o.StateDir)
	if err != nil {
		return false, fmt.Errorf("provision: %w", err)
	}
	return held, nil
}

// Cancel ends a step, its own or one left by an earlier agent: TERM, KillAfter,
// KILL for the whole tree. It returns at once; Run or Adopt then return
// "cancelled". ErrNotRunning when there is no such step.
func (p *Provisioner) Cancel(run, step string) error {
	ref := Ref{run, step}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.running[ref]; h != nil {
		h.cancelled = true
		if err := h.term(); err == nil {
			return nil
		}
	}
	if !supervisor.ValidName(run) || !supervisor.ValidName(step) {
		return fmt.Errorf("provision: cancel run %q step %q: %w", run, step, ErrNotRunning)
	}
	s := supervisor.ReadPIDs(p.o.RunDir, run, step).Supervisor
	for h := range p.handles {
		if h.proc != nil && h.proc.Pid == s.PID {
			s = supervisor.Proc{} // one of ours that has gone on to another step
		}
	}
	if _, err := p.result(ref); err == nil || s.PID == 0 || s.Signal(termSignal) != nil {
		return fmt.Errorf("provision: cancel run %s step %s: %w", run, step, ErrNotRunning)
	}
	return nil
}
