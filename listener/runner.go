package listener

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/listener-agent/listener/provision"
)

// Runner carries out steps; *provision.Provisioner is the real one.
//
// Run blocks until the step's result; when ctx ends it returns ctx.Err() and
// the step goes on, to be adopted by the next agent. After another error a step
// that Left names is to be adopted first. Adopt blocks until the result of a
// step that was left is certain. Forget is called after a result was recorded.
type Runner interface {
	Warm()
	Run(ctx context.Context, job provision.Job) (provision.Result, error)
	Cancel(run, step string) error
	Left() ([]provision.Ref, error)
	Adopt(ctx context.Context, ref provision.Ref, killAfter time.Duration) (provision.Result, error)
	Forget(ref provision.Ref) error
	Busy() (bool, error)
	Close() error
}

var _ Runner = (*provision.Provisioner)(nil)

// newRunner makes the provisioner that the settings ask for.
func (a *Agent) newRunner() (Runner, error) {
	units, err := wantUnits(a.cfg.Provision.Runner)
	a.fault("runner", err)
	return provision.New(provision.Options{
		StateDir: a.cfg.StateDir, RunDir: a.cfg.RunDir, Exe: a.opt.Exe,
		Units:       units,
		UnitTrouble: func(err error) { a.faultLater("runner", err) },
	})
}

// wantUnits reports whether steps are to be units of systemd; the error says
// why they cannot be although the settings say so.
func wantUnits(runner string) (bool, error) {
	if runner == "direct" {
		return false, nil
	}
	var why error
	// Where systemd is the init, see sd_booted(3).
	if st, err := os.Lstat("/run/systemd/system"); err != nil || !st.IsDir() {
		why = errors.New("provision.runner is systemd, but systemd does not run this machine: steps are child processes")
	} else if os.Geteuid() != 0 {
		why = errors.New("provision.runner is systemd, but the agent is not root: steps are child processes")
	}
	if runner == "auto" {
		return why == nil, nil
	}
	return why == nil, why
}
