package listener

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
)

// execute carries a run out, in its own goroutine; what it learns goes to the
// loop. When ctx ends it leaves the step in progress to the next agent.
func (a *Agent) execute(ctx context.Context, ex *execution) {
	set, err := render.Stage(ctx, ex.files)
	<-ex.recorded
	if err == nil {
		var written []string
		written, err = set.Swap()
		all := err == nil
		a.post(func() { a.swapped(ex, set, written, all) })
	}
	if err == nil && len(ex.rs.Steps) > 0 {
		err = a.writeNodeJSON(ex)
	}
	if err != nil {
		if ctx.Err() == nil {
			a.post(func() { a.notStaged(ex, set == nil, err) })
		}
		return
	}
	var failed []string
	for i := range ex.rs.Steps {
		p := &ex.rs.Steps[i]
		if cause := a.skipCause(p, failed); cause != "" {
			failed = append(failed, p.Step)
			a.post(func() { a.skipped(ex, i, cause) })
			continue
		}
		if !a.runStep(ctx, ex, i) {
			if ctx.Err() != nil {
				return
			}
			failed = append(failed, p.Step)
		}
	}
	a.post(func() { a.ended(ex) })
}

// runStep runs step i and waits until the loop has recorded its result.
func (a *Agent) runStep(ctx context.Context, ex *execution, i int) (ok bool) {
	p := &ex.rs.Steps[i]
	a.post(func() {
		ex.step = p.Step
		ex.rs.Run.Steps[i].Started = time.Now()
	})
	job := ex.jobs[p.Step]
	res, err := a.runner.Run(ctx, job)
	if err != nil && ctx.Err() == nil {
		res, err = a.takeLeft(ctx, job, err)
	}
	if ctx.Err() != nil {
		if !a.opt.CancelOnStop {
			return false
		}
		_ = a.runner.Cancel(ex.rs.Run.ID, p.Step)
		return false
	}
	if err != nil {
		res = provision.Result{Run: ex.rs.Run.ID, Step: p.Step, Outcome: "not-started", Error: err.Error(), Ended: time.Now()}
	}
	err = a.do(ctx, func() { ok = a.stepDone(ex.rs, i, res) })
	return ok && err == nil
}

// takeLeft makes certain what became of the steps that a Run that failed with
// cause left in the run directory, as one whose supervisor was killed while that
// is read-only: no other step runs before. The error stays cause unless job's
// own step was among them.
func (a *Agent) takeLeft(ctx context.Context, job provision.Job, cause error) (res provision.Result, err error) {
	refs, err := a.runner.Left()
	if err != nil {
		return res, cause
	}
	for _, ref := range refs {
		got, err := a.takeOver(ctx, ref, job.KillAfter)
		if err != nil {
			return res, err
		}
		own := ref == provision.Ref{Run: job.Run, Step: job.Step}
		if own {
			res, cause = got, nil
		}
		a.post(func() {
			a.fault("adopt", nil)
			if !own && !slices.Contains(a.unforgotten, ref) {
				a.forgetNow(ref)
			}
		})
	}
	return res, cause
}

// skipCause says why a step is not run after others failed: after the node
// step all are skipped, after an own step those that require it.
func (a *Agent) skipCause(p *stepPlan, failed []string) string {
	if len(failed) == 0 {
		return ""
	}
	if failed[0] == nodeStep {
		return "the node step failed"
	}
	cause := ""
	err := a.do(a.runCtx, func() {
		if a.table.rows[p.Step] == nil {
			return // its manifest went during the run: it was planned, so it runs
		}
		for _, id := range a.providersOf(p.Step) {
			if slices.Contains(failed, id) {
				cause = "it requires " + id + ", which failed"
				return
			}
		}
	})
	if err != nil {
		return "the agent stops"
	}
	return cause
}

// swapped notes the files that a run wrote; all: there are no others.
func (a *Agent) swapped(ex *execution, set *render.Set, written []string, all bool) {
	ex.rs.Run.Files = append(ex.rs.Run.Files, written...)
	a.noteWritten(ex.files, set)
	for id, c := range ex.only {
		if all {
			a.apply(id, c)
		}
	}
}

// notStaged ends a run whose files could not be put in place: no command ran.
// untouched: no live file changed either, so that nothing is in between.
func (a *Agent) notStaged(ex *execution, untouched bool, cause error) {
	rs := ex.rs
	rs.Run.Result, rs.Run.Error = "check-failed", cause.Error()
	for i := range rs.Steps {
		rs.Run.Steps[i].Result = "skipped"
		a.fail(rs, i, "its files could not be written: "+cause.Error(), nil)
		if untouched {
			a.unmarkDirty(rs, i)
		}
	}
	a.finish(rs)
}

// unmarkDirty takes back what markDirty noted for a step that touched nothing.
func (a *Agent) unmarkDirty(rs *runState, i int) {
	for id := range rs.Steps[i].Services {
		if !slices.Contains(rs.Dirty, id) {
			a.st.edit(id).Dirty = false
		}
	}
	if rs.Steps[i].Step == nodeStep && !slices.Contains(rs.Dirty, nodeStep) {
		a.st.NodeDirty = false
	}
}

// stepDone records the result of step i; the state is written before the
// result file goes, so that a crash in between repeats nothing. With the last
// step of a run both are left to finish, which writes the state anyway.
func (a *Agent) stepDone(rs *runState, i int, res provision.Result) bool {
	p, s := &rs.Steps[i], &rs.Run.Steps[i]
	s.Exit, s.Signal, s.Error, s.Unit = res.Exit, res.Signal, res.Error, res.Unit
	s.Ended = res.Ended
	if !res.Started.IsZero() {
		s.Started = res.Started
	}
	ok := res.Outcome == "exited" && res.Signal == "" && slices.Contains(a.successCodes(p.Step), res.Exit)
	if ok {
		s.Result = "ok"
		a.succeed(rs, p)
	} else {
		s.Result = res.Outcome
		if res.Outcome == "exited" || res.Outcome == "not-started" {
			s.Result = "failed"
		}
		a.fail(rs, i, resultText(res), a.history.Tail(rs.Run.ID, 5))
	}
	p.Done = true
	if i < len(rs.Steps)-1 {
		a.save()
		a.forget(rs, i)
	}
	return ok
}

// successCodes are the exit codes that mean success: those of the settings
// for the node's command, 0 for a service's own.
func (a *Agent) successCodes(step string) []int {
	if step == nodeStep {
		return a.cfg.Provision.SuccessCodes()
	}
	return []int{0}
}

// succeed makes what the step was run with the applied state.
func (a *Agent) succeed(rs *runState, p *stepPlan) {
	for id, c := range p.Services {
		a.apply(id, c)
	}
	if p.Step == nodeStep {
		a.st.NodeDigest, a.st.NodeDirty, a.st.NodeAt = p.NodeDigest, false, time.Now()
	}
	a.st.Settled[p.Step] = max(a.st.Settled[p.Step], rs.Forced)
	a.st.AppliedRev = rs.Rev
	if f := a.st.Failures[p.Step]; f != nil {
		delete(a.st.Failures, p.Step)
		a.emit("step recovered", fmt.Sprintf("step %s succeeds again after %s", stepName(p.Step), failures(f.Count)), "run", rs.Run.ID)
	}
}

func failures(n int) string {
	if n == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures", n)
}

// apply makes c the applied state of a service. Files that are no longer
// among its files go.
func (a *Agent) apply(id string, c candidate) {
	if c.Good == nil {
		return
	}
	st := a.st.edit(id)
	files := c.Files
	for _, path := range st.Files {
		if slices.Contains(c.Files, path) {
			continue
		}
		err := removeFile(path)
		if a.fault("remove "+path, err); err != nil {
			files = append(slices.Clone(files), path) // tried with the next success
		}
		a.savedFiles.forget(path)
	}
	if r := a.table.rows[id]; r != nil {
		r.refile = false
	}
	st.Applied, st.Good, st.Files = c.Inputs, a.view.ofThisStore(c.Good), files
	st.AppliedAt, st.Dirty = time.Now(), false
	if c.Offers != nil {
		st.Offers = c.Offers
	}
	a.table.stale[id] = true // its last good values are others now
}

// fail holds the step back for as long as it would do the same.
func (a *Agent) fail(rs *runState, i int, text string, tail []string) {
	p := &rs.Steps[i]
	f := a.st.Failures[p.Step]
	if f == nil {
		f = &failure{}
		a.st.Failures[p.Step] = f
	}
	if f.Work != p.Work || f.Forced != rs.Forced {
		f.Delay = 0 // another attempt than the one that failed before: start at base
	}
	now := a.now()
	f.Delay = throttle.Backoff{Base: a.cfg.Retry.Base, Max: a.cfg.Retry.Max}.Next(f.Delay, a.rng)
	f.Run, f.At, f.Text, f.Tail = rs.Run.ID, time.Now(), text, tail
	f.Work, f.Forced = p.Work, rs.Forced
	f.Next, f.Boot = now.Up+f.Delay, now.Boot
	f.Count++
	a.emit("step failed", fmt.Sprintf("step %s: %s; next try in %s", stepName(p.Step), text, f.Delay.Round(100*time.Millisecond)), "run", rs.Run.ID)
}

func (a *Agent) skipped(ex *execution, i int, cause string) {
	s := &ex.rs.Run.Steps[i]
	s.Result, s.Error = "skipped", cause
}

// ended closes a run after its last step.
func (a *Agent) ended(ex *execution) {
	rs := ex.rs
	rs.Run.Result = "ok"
	for _, s := range rs.Run.Steps {
		if s.Result == "ok" {
			continue
		}
		if rs.Run.Result == "ok" || s.Result == "lost" {
			rs.Run.Result = "failed"
			if s.Result == "lost" {
				rs.Run.Result = "lost"
			}
		}
		if rs.Run.Error == "" && s.Result != "skipped" {
			rs.Run.Error = "step " + s.Name + ": " + stepText(s)
		}
	}
	a.finish(rs)
}

// pruneHistory queues the removal of old runs; newest stays.
func (a *Agent) pruneHistory(newest string) {
	keep, size := a.cfg.History.Keep, a.cfg.History.MaxSize
	a.slow.later("history prune", func() error { return a.history.Prune(keep, size, newest) })
}

// finish records the run and frees the loop for the next one.
func (a *Agent) finish(rs *runState) {
	run := rs.Run
	if run.Ended.IsZero() {
		run.Ended = time.Now()
	}
	a.removeNodeJSON(run.ID)
	a.exec, a.pub.stale = nil, true
	// The record before the state: killed in between, the run is adopted and
	// recorded once more, the other way round it would be missing.
	a.fault("history", a.history.Save(run))
	a.st.Run = nil
	a.save()
	if last := len(rs.Steps) - 1; last >= 0 && rs.Steps[last].Done {
		a.forget(rs, last)
	}
	a.lastRun, a.lastForced = &run, rs.Forced
	a.pruneHistory(run.ID)
	text := fmt.Sprintf("run %s %s after %s", run.ID, run.Result, run.Ended.Sub(run.Started).Round(time.Millisecond))
	if run.Error != "" {
		text += ": " + run.Error
	}
	a.emit("run ended", text, "run", run.ID, "result", run.Result)
	a.foreign = foreignState{}
	if run.Result == "ok" {
		a.retryLanes()
	}
	for _, id := range a.table.ids { // the run may have made the owner
		if r := a.table.rows[id]; a.faults["owner of "+id] != nil {
			r.refile = true
		}
	}
	for _, w := range a.waiters {
		w.ended(rs, run)
	}
	a.runner.Warm()
}

// resultText says in words how a step ended that did not succeed.
func resultText(r provision.Result) string {
	after := ""
	if !r.Started.IsZero() && !r.Ended.IsZero() {
		after = " after " + r.Ended.Sub(r.Started).Round(time.Millisecond).String()
	}
	return stepText(status.Step{Result: r.Outcome, Exit: r.Exit, Signal: r.Signal, Error: r.Error}) + after
}

func stepText(s status.Step) string {
	switch {
	case s.Result == "timeout":
		return "timed out and was ended"
	case s.Result == "cancelled":
		return "cancelled"
	case s.Result == "lost":
		return "lost: its supervisor died before the command ended"
	case s.Error != "":
		return s.Error
	case s.Signal != "":
		return "ended by signal " + s.Signal
	}
	return fmt.Sprintf("exit code %d", s.Exit)
}
