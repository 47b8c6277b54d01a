package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// Left lists the steps whose job or result lies in RunDir, sorted by run and
// step: those of this Provisioner that were not forgotten, and those that an
// earlier agent left, which may still run.
func (p *Provisioner) Left() ([]Ref, error) {
	entries, err := os.ReadDir(p.o.RunDir)
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	var refs []Ref
	for _, e := range entries {
		parts := strings.Split(e.Name(), ".")
		if len(parts) != 3 || (parts[2] != "job" && parts[2] != "result") {
			continue
		}
		ref := Ref{parts[0], parts[1]}
		if supervisor.ValidName(ref.Run) && supervisor.ValidName(ref.Step) && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// Adopt takes the result of a step that was left: it waits while the step runs,
// and gives it up when nobody does run it. Giving up means, while holding the
// lock: every process of the run is ended (TERM, killAfter, KILL), the result
// "lost" is written and the job removed. When ctx ends, it returns ctx.Err()
// and may be called again.
func (p *Provisioner) Adopt(ctx context.Context, ref Ref, killAfter time.Duration) (Result, error) {
	if !supervisor.ValidName(ref.Run) || !supervisor.ValidName(ref.Step) {
		return Result{}, fmt.Errorf("provision: adopt run %q step %q: not a valid name", ref.Run, ref.Step)
	}
	return p.adopt(ctx, ref, killAfter, Lost, "neither the agent nor the supervisor that ran it lives")
}

// adopt is Adopt with the outcome and the reason to write when it gives up.
func (p *Provisioner) adopt(ctx context.Context, ref Ref, killAfter time.Duration, outcome, why string) (Result, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if res, err := p.result(ref); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return res, err
		}
		lock, err := supervisor.TryAcquire(p.o.StateDir)
		if err == nil {
			defer lock.Release()
			// It may have been recorded since: by whom held the lock before us.
			if res, err := p.result(ref); err == nil || !errors.Is(err, fs.ErrNotExist) {
				return res, err
			}
			return p.giveUp(ctx, ref, killAfter, outcome, why)
		}
		if !errors.Is(err, supervisor.ErrLocked) {
			return Result{}, fmt.Errorf("provision: %w", err)
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// result reads a recorded result. One that cannot be understood (it was not
// written by us) counts as a lost step: no supervisor runs a job that has one.
func (p *Provisioner) result(ref Ref) (Result, error) {
	res, err := supervisor.ReadResult(p.o.RunDir, ref.Run, ref.Step)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return res, err
	}
	now := time.Now()
	return Result{Run: ref.Run, Step: ref.Step, Outcome: Lost, Exit: -1, Error: err.Error(), Started: now, Ended: now}, nil
}

// giveUp is called with the lock held.
func (p *Provisioner) giveUp(ctx context.Context, ref Ref, killAfter time.Duration, outcome, why string) (Result, error) {
	job := supervisor.JobPath(p.o.RunDir, ref.Run, ref.Step)
	res := Result{Run: ref.Run, Step: ref.Step, Outcome: outcome, Exit: -1, Error: why, Started: time.Now()}
	if st, err := os.Stat(job); err == nil {
		res.Started = st.ModTime()
	}
	tree := supervisor.Tree{
		Run: ref.Run, Unit: supervisor.UnitName(ref.Run, ref.Step),
		Main: supervisor.ReadPIDs(p.o.RunDir, ref.Run, ref.Step).Main,
	}
	if err := tree.End(ctx, killAfter); err != nil {
		return Result{}, fmt.Errorf("provision: end what is left of run %s: %w", ref.Run, err)
	}
	res.Ended = time.Now()
	// A full disk must not keep us from going on: without a job no supervisor
	// can run the step any more, and the caller has the result.
	if err := supervisor.WriteResult(p.o.RunDir, res); err != nil {
		res.Unrecorded = err.Error()
	}
	if err := os.Remove(job); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Result{}, fmt.Errorf("provision: give up run %s step %s: %w", ref.Run, ref.Step, err)
	}
	return res, nil
}

// Forget removes what RunDir holds of a step, once its result is recorded
// elsewhere. Forgetting twice is no error.
func (p *Provisioner) Forget(ref Ref) error {
	if !supervisor.ValidName(ref.Run) || !supervisor.ValidName(ref.Step) {
		return fmt.Errorf("provision: forget run %q step %q: not a valid name", ref.Run, ref.Step)
	}
	result := supervisor.ResultPath(p.o.RunDir, ref.Run, ref.Step)
	// The job first: as long as the result is there, no supervisor runs the job.
	for _, path := range []string{
		supervisor.JobPath(p.o.RunDir, ref.Run, ref.Step),
		supervisor.PIDPath(p.o.RunDir, ref.Run, ref.Step),
		sayPath(p.o.RunDir, ref),
		result + ".tmp",
		result,
	} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("provision: forget run %s step %s: %w", ref.Run, ref.Step, err)
		}
	}
	return nil
}
