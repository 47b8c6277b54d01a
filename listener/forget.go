package listener

import "github.com/listener-agent/listener/provision"

// forget removes what the run directory holds of step i. It stays while
// state.json cannot be written and has the step as not done: an agent that
// starts now finds its result there, and does not run it again.
func (a *Agent) forget(rs *runState, i int) {
	ref := provision.Ref{Run: rs.Run.ID, Step: rs.Steps[i].Step}
	if rs.onDisk && a.faults["state_dir"] != nil {
		a.unforgotten = append(a.unforgotten, ref)
		return
	}
	a.forgetNow(ref)
	a.forgetAgain()
}

func (a *Agent) forgetNow(ref provision.Ref) {
	if err := a.runner.Forget(ref); err != nil {
		a.unforgotten = append(a.unforgotten, ref)
		a.fault("run_dir", err)
	}
}

// forgetAgain removes what forget and forgetNow could not.
func (a *Agent) forgetAgain() {
	if len(a.unforgotten) == 0 || a.faults["state_dir"] != nil {
		return // what is kept is needed still
	}
	refs := a.unforgotten
	a.unforgotten = nil
	a.fault("run_dir", nil)
	for _, ref := range refs {
		a.forgetNow(ref)
	}
}
