package listener

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/provision"
)

// adopt takes over what an earlier agent left: a step in progress, or a result
// that it did not record. Until that is certain nothing else runs.
func (a *Agent) adopt(ctx context.Context) {
	refs, err := a.runner.Left()
	a.fault("run_dir", err)
	a.fault("node.json", a.sweepRunDir(refs))
	if a.st.Run == nil && len(refs) == 0 {
		return
	}
	a.adopting = true
	killAfter := a.cfg.Provision.KillAfter
	if rs := a.st.Run; rs != nil {
		a.emit("adopting", "taking over run "+rs.Run.ID+" of the agent before", "run", rs.Run.ID)
	}
	a.wg.Go(func() {
		for _, ref := range refs {
			res, err := a.takeOver(ctx, ref, killAfter)
			if ctx.Err() != nil {
				return
			}
			a.post(func() { a.adopted(ref, res, err) })
		}
		a.post(a.adoptedAll)
	})
}

// adoptRetry is how long a step whose fate could not be learned is left
// before the next try: until then nothing may run.
const adoptRetry = 5 * time.Second

// takeOver waits for the step's result, however long that takes.
func (a *Agent) takeOver(ctx context.Context, ref provision.Ref, killAfter time.Duration) (provision.Result, error) {
	for {
		res, err := a.runner.Adopt(ctx, ref, killAfter)
		if err == nil || ctx.Err() != nil {
			return res, err
		}
		a.post(func() { a.fault("adopt", err) })
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-time.After(adoptRetry):
		}
	}
}

// adopted records one step's result. A step that state.json knows nothing of
// is only waited for: what it did is done again, as everything is then due.
func (a *Agent) adopted(ref provision.Ref, res provision.Result, err error) {
	a.fault("adopt", err)
	if err != nil {
		return
	}
	if rs := a.st.Run; rs != nil && rs.Run.ID == ref.Run {
		for i := range rs.Steps {
			if rs.Steps[i].Step == ref.Step && !rs.Steps[i].Done {
				a.stepDone(rs, i, res)
				return
			}
		}
	}
	a.log.Info("step of an unknown run has ended", "run", ref.Run, "step", ref.Step, "outcome", res.Outcome)
	a.removeNodeJSON(ref.Run)
	a.forgetNow(ref)
}

// sweepRunDir removes the node.json, which holds secrets, of every run that is
// not to be adopted.
func (a *Agent) sweepRunDir(refs []provision.Ref) error {
	paths, err := filepath.Glob(filepath.Join(a.cfg.RunDir, "*"+nodeJSONSuffix))
	for _, path := range paths {
		id := strings.TrimSuffix(filepath.Base(path), nodeJSONSuffix)
		if a.st.Run != nil && a.st.Run.Run.ID == id || slices.ContainsFunc(refs, func(r provision.Ref) bool { return r.Run == id }) {
			continue
		}
		err = errors.Join(err, removeFile(path))
	}
	return err
}

// adoptedAll closes the adopted run; steps that it had not come to stay due.
func (a *Agent) adoptedAll() {
	a.adopting = false
	rs := a.st.Run
	if rs == nil {
		a.runner.Warm()
		return
	}
	for i := range rs.Steps {
		if !rs.Steps[i].Done {
			rs.Run.Steps[i].Result = "lost"
			rs.Run.Steps[i].Error = "the agent ended before this step"
		}
		if ended := rs.Run.Steps[i].Ended; ended.After(rs.Run.Ended) {
			rs.Run.Ended = ended // not now: no agent may have been there for days
		}
	}
	a.ended(&execution{rs: rs})
}
