package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// errNoUnit: the step's supervisor could not be started in a unit, or would not
// run the job there.
var errNoUnit = errors.New("no unit")

// unitWait bounds the start of a unit; D-Bus itself gives up after this time.
const unitWait = 25 * time.Second

// runInUnit carries a step out in a transient unit of systemd: a control group
// of its own, outside of that of the agent and of its sandbox. errNoUnit when
// that cannot be; the unit may then still begin, and finds the lock held, the
// result recorded or the job gone.
func (p *Provisioner) runInUnit(ctx context.Context, ref Ref, path string, killAfter time.Duration) (Result, error) {
	h, messages, err := p.startUnit(ref, path, killAfter)
	if errors.Is(err, ErrClosed) {
		return Result{}, err
	}
	p.unitTrouble(err)
	if err != nil {
		return Result{}, errNoUnit
	}
	res, err := p.follow(ctx, h, messages, ref, killAfter)
	if errors.Is(err, errRefused) {
		// By another version of this program, say, that has taken the place of
		// ours; what is running now is in memory.
		p.unitTrouble(err)
		return Result{}, errNoUnit
	}
	return res, err
}

func (p *Provisioner) unitTrouble(err error) {
	if p.o.UnitTrouble != nil {
		p.o.UnitTrouble(err)
	}
}

// startUnit starts a supervisor with the job at path and returns what it says.
// Its standard output is a named pipe that has no name any more when this
// returns: its end is then that of the supervisor, as with a child's.
func (p *Provisioner) startUnit(ref Ref, path string, killAfter time.Duration) (*handle, <-chan message, error) {
	pipe := sayPath(p.o.RunDir, ref)
	_ = os.Remove(pipe) // of an agent that was killed here
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		return nil, nil, fmt.Errorf("provision: make the pipe %s: %w", pipe, err)
	}
	defer func() { _ = os.Remove(pipe) }()
	status, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("provision: %w", err)
	}
	// Until the supervisor has its end, we hold one: without any, the pipe
	// would be at its end already.
	held, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err == nil {
		err = p.systemdRun(ref, pipe, path, killAfter)
		_ = held.Close()
	}
	if err != nil {
		_ = status.Close()
		return nil, nil, err
	}
	h := &handle{unit: supervisor.UnitName(ref.Run, ref.Step), status: status, messages: make(chan message, 8)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = status.Close()
		return nil, nil, ErrClosed
	}
	p.handles[h], p.running[ref] = true, h
	p.wg.Go(func() { p.watch(h) })
	return h, h.messages, nil
}

// sayPath is the named pipe that a supervisor in a unit gets as standard output.
func sayPath(runDir string, ref Ref) string {
	return filepath.Join(runDir, ref.Run+"."+ref.Step+".say")
}

// systemdRun asks systemd for the unit and returns when the supervisor was
// executed. It does not end with the agent's context: whether something was
// started must be known.
func (p *Provisioner) systemdRun(ref Ref, pipe, path string, killAfter time.Duration) error {
	exe := p.o.Exe
	if exe == ownExe { // which means another program to systemd
		var err error
		if exe, err = os.Executable(); err != nil {
			return fmt.Errorf("provision: start a unit: %w", err)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), unitWait)
	defer stop()
	c := exec.CommandContext(ctx, p.o.SystemdRun, unitArgs(ref, exe, pipe, path, killAfter)...)
	c.Dir, c.Env = "/", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is for us
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(string(out))
	if len(said) > 500 {
		said = strings.ToValidUTF8(said[:500], "") + "…"
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer within %s", unitWait)
	}
	if said != "" {
		return fmt.Errorf("provision: systemd-run: %w: %s", err, said)
	}
	return fmt.Errorf("provision: systemd-run: %w", err)
}

// unitArgs are the arguments of systemd-run, see systemd-run(1) and
// systemd.exec(5). Neither the command nor its environment is among them:
// properties of units can be read by anyone.
func unitArgs(ref Ref, exe, pipe, path string, killAfter time.Duration) []string {
	unit := supervisor.UnitName(ref.Run, ref.Step)
	args := []string{
		"--quiet", "--no-ask-password",
		"--collect", // also when it failed: no unit is left
		"--unit=" + unit, "--description=listener: step " + ref.Step + " of run " + ref.Run,
		"--service-type=exec", // so that a program that cannot be executed is an error
		"--setenv=" + supervisor.UnitVariable + "=" + unit,
		"--setenv=GOMAXPROCS=1", // as for a standby
	}
	// Beyond KillAfter: a stop cancels the step, which ends its tree itself.
	stop := killAfter + 15*time.Second
	for _, property := range []string{
		"KillMode=process", // daemons that the command started live on
		"TimeoutStopSec=" + stop.Round(time.Second).String(),
		"StandardInput=null", "StandardOutput=file:" + pipe, "StandardError=journal",
		"SyslogIdentifier=listener-run", "LogExtraFields=" + supervisor.RunIDVariable + "=" + ref.Run,
		"IgnoreSIGPIPE=no",   // the command would inherit it
		"OOMPolicy=continue", // else one killed child of the command would stop it all
	} {
		args = append(args, "--property="+property)
	}
	args = append(args, "--", exe, supervisor.Arg)
	return append(args, strings.ReplaceAll(path, "$", "$$")) // it knows variables, see systemd.service(5)
}

// killUnit sends a signal to the supervisor in a unit.
func killUnit(unit string) error {
	ctx, stop := context.WithTimeout(context.Background(), unitWait)
	defer stop()
	c := exec.CommandContext(ctx, "systemctl", "kill", "--kill-who=main", "--signal=TERM", unit)
	c.WaitDelay = time.Second
	return c.Run()
}
