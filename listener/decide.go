package listener

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/throttle"
)

// work is what is due at one moment, read from the present state alone.
type work struct {
	// node: the node step is due.
	node      bool
	nodeWhy   string
	nodeWork  string        // identifies what the node step would do
	nodeIDs   []string      // services of the node step, ready or kept, in id order
	nodeAll   int           // services of the node step, waiting ones too
	ready     bool          // some service, of any step, is not waiting
	own       []string      // services whose own step is due, in id order
	files     []string      // services that only want files, due
	refile    []string      // services whose files are to be written again, for no other reason
	left      []string      // services without a manifest whose files are to go
	filesHeld time.Duration // until files that could not be written are tried again
	forced    uint64
	heldUntil map[string]time.Duration // steps in back-off and how long still
}

// any reports whether a run is due, in back-off or not.
func (w *work) any() bool { return w.node || len(w.own) > 0 }

// filesOnly reports whether files can be put right without a run.
func (w *work) filesOnly() bool {
	return len(w.files)+len(w.refile) > 0 || len(w.left) > 0 && !w.node
}

// eligible reports whether a step is due that no back-off holds.
func (w *work) eligible() bool {
	if w.heldUntil[nodeStep] > 0 {
		return false
	}
	return w.node || slices.ContainsFunc(w.own, func(id string) bool { return w.heldUntil[id] == 0 })
}

// stepOf is the step that provisions m; "" when it only wants files.
func (a *Agent) stepOf(m *manifest.Manifest) string {
	switch {
	case m.Command.Own():
		return m.ID
	case m.Command.Node && len(a.cfg.Provision.Command) > 0:
		return nodeStep
	}
	return ""
}

// due reads what is due now.
func (a *Agent) due(now throttle.Now) *work {
	w := &work{forced: a.st.Forced, heldUntil: map[string]time.Duration{}}
	for _, id := range a.table.ids {
		r := a.table.rows[id]
		step := a.stepOf(r.m)
		if step == nodeStep {
			w.nodeAll++
		}
		if r.res.State == resolve.Waiting {
			continue
		}
		w.ready = true
		due := a.table.due(id)
		if st := a.st.service(id); r.refile && !due && st.Good != nil && !a.filesHeld(w, id, now) {
			w.refile = append(w.refile, id)
		}
		switch step {
		case nodeStep:
			w.nodeIDs = append(w.nodeIDs, id)
			w.node = w.node || due
		case "":
			if due && !a.filesHeld(w, id, now) {
				w.files = append(w.files, id)
			}
		default:
			if due || r.res.State == resolve.Ready && a.st.Settled[id] < a.st.Forced {
				w.own = append(w.own, id)
				a.held(w, id, a.ownWork(id), now)
			}
		}
	}
	a.holdConsumers(w)
	a.dueNode(w, now)
	for id := range a.st.Services {
		if a.table.rows[id] == nil && !a.filesHeld(w, id, now) {
			w.left = append(w.left, id)
		}
	}
	slices.Sort(w.left)
	return w
}

// holdConsumers holds back the own steps that require one that is held back:
// what a failed step made them skip must not run before it.
func (a *Agent) holdConsumers(w *work) {
	if len(w.heldUntil) == 0 {
		return
	}
	for _, id := range a.ordered(w.own) {
		for _, p := range a.providersOf(id) {
			if d := w.heldUntil[p]; d > w.heldUntil[id] {
				w.heldUntil[id] = d
			}
		}
	}
}

// dueNode decides on the node step, of which w.node says so far whether one of
// its services is due.
func (a *Agent) dueNode(w *work, now throttle.Now) {
	command := a.cfg.Provision.Command
	none := len(w.nodeIDs) == 0 && (w.nodeAll > 0 || len(a.table.rows) > 0 && !w.ready)
	if len(command) == 0 || none {
		w.node = false // nothing to run, or services but none ready
		return
	}
	switch digest := a.dig.node(w.nodeIDs, command); {
	case a.st.Settled[nodeStep] < a.st.Forced:
		w.node, w.nodeWhy = true, "forced"
	case a.st.NodeDigest != digest && (len(w.nodeIDs) > 0 || a.st.NodeDigest != ""):
		w.node, w.nodeWhy = true, "the set of services or the command changed"
	case a.st.NodeDirty:
		w.node, w.nodeWhy = true, "the last run did not end well"
	}
	if w.node {
		w.nodeWork = a.nodeWork(w.nodeIDs)
		a.held(w, nodeStep, w.nodeWork, now)
	}
}

// held notes how long a failure of step holds work back.
func (a *Agent) held(w *work, step, what string, now throttle.Now) {
	if d := a.st.Failures[step].remaining(what, a.st.Forced, now); d > 0 {
		w.heldUntil[step] = d
	}
}

// ownWork identifies what the own step of id would do: a failed step is held
// back only as long as this stays the same.
func (a *Agent) ownWork(id string) string {
	r := a.table.rows[id]
	if r.res.State == resolve.Kept {
		return a.st.service(id).Applied.Digest
	}
	return r.digest
}

// nodeWork is ownWork for the node step.
func (a *Agent) nodeWork(ids []string) string {
	parts := make([]string, 0, 2*len(ids))
	for _, id := range ids {
		parts = append(parts, id, a.ownWork(id))
	}
	return a.dig.node(parts, a.cfg.Provision.Command)
}

// fresh reports whether something due was not tried and failed before as it
// is now.
func (a *Agent) fresh(w *work) bool {
	tried := func(step, what string) bool {
		f := a.st.Failures[step]
		return f != nil && f.Work == what && f.Forced == a.st.Forced
	}
	if w.node { // own steps wait for it, and are skipped as long as it fails
		return !tried(nodeStep, w.nodeWork)
	}
	return slices.ContainsFunc(w.own, func(id string) bool { return !tried(id, a.ownWork(id)) })
}

// kind says how a run of w counts.
func (a *Agent) kind(w *work) throttle.Kind {
	switch {
	case a.st.Manual != nil:
		return throttle.Manual
	case w.any() && !a.fresh(w):
		return throttle.Retry
	}
	return throttle.Auto
}

// signature changes when what is due does: that is what settle waits out.
func (a *Agent) signature(w *work) string {
	if !w.any() && !w.filesOnly() {
		return ""
	}
	var b strings.Builder
	b.WriteString(w.nodeWork)
	for _, l := range [...][]string{w.own, w.files, w.refile, w.left} {
		for _, id := range l {
			b.WriteByte(' ')
			b.WriteString(id)
			if a.table.rows[id] != nil {
				b.WriteString(a.ownWork(id))
			}
		}
		b.WriteByte('|')
	}
	b.WriteString(strconv.FormatUint(a.st.Forced, 10))
	return b.String()
}

// pending is the one provision that waits.
type pending struct {
	sig         string
	first, last time.Duration // Now.Up when it became due, and when it last changed
	since       time.Time     // first, for people
	splay       time.Duration
	closed      gate // the gate that held it when last looked at
}

// noteMeanwhile notes a change during a run, for the one after it.
func (a *Agent) noteMeanwhile() {
	if a.exec == nil {
		return
	}
	m, now := &a.meanwhile, a.now()
	if m.since.IsZero() {
		m.first, m.since = now.Up, time.Now()
	}
	m.last = now.Up
}

// decide starts a run, puts files right, or sets the time to look again.
func (a *Agent) decide(now throttle.Now) {
	if a.exec != nil || a.adopting {
		return
	}
	w := a.due(now)
	a.pendingChanged(w, now)
	if w.filesHeld > 0 {
		a.timers.in(w.filesHeld)
	}
	if a.pend.sig == "" {
		a.meanwhile = pending{}
		a.settleForced()
		return
	}
	if w.any() {
		a.pend.closed = a.firstClosed(w, now)
		if a.pend.closed.name == "" {
			a.begin(w, now)
			return
		}
		if a.pend.closed.wait > 0 {
			a.timers.in(a.pend.closed.wait)
		}
	}
	if w.filesOnly() {
		a.decideFiles(w, now)
	}
}

// pendingChanged keeps the times that settle counts from.
func (a *Agent) pendingChanged(w *work, now throttle.Now) {
	sig := a.signature(w)
	if sig == a.pend.sig {
		return
	}
	if sig == "" {
		if a.pend.sig != "" && a.lastRun != nil {
			a.emit("settled back", "what was due is as it was applied again; no run")
		}
		a.pend = pending{}
		return
	}
	if a.pend.sig == "" {
		a.pend.first, a.pend.since = now.Up, time.Now()
		if m := a.meanwhile; !m.since.IsZero() { // it became due during the run that ended
			a.pend.first, a.pend.since = m.first, m.since
			now.Up = m.last
		}
		a.meanwhile = pending{}
		a.pend.splay = throttle.Splay(throttleSettings(a.cfg), a.rng)
	}
	a.pend.sig, a.pend.last = sig, now.Up
}

// settleForced forgets why runs were forced, and a manual request, once
// nothing is due any more.
func (a *Agent) settleForced() {
	if len(a.cfg.Provision.Command) > 0 && a.st.Settled[nodeStep] < a.st.Forced {
		return // still forced: it runs once a service is ready
	}
	a.vain = a.st.Forced
	changed := len(a.st.ForcedBy) > 0 || a.st.Manual != nil
	a.st.ForcedBy, a.st.Manual = nil, nil
	for step := range a.st.Failures { // of what flapped back before it touched anything
		if step == nodeStep && !a.st.NodeDirty || step != nodeStep && !a.st.service(step).Dirty {
			delete(a.st.Failures, step)
			changed = true
		}
	}
	if changed {
		a.save()
	}
}

// forgetFailures drops those of steps that no manifest or setting asks for
// any more.
func (a *Agent) forgetFailures() {
	for step := range a.st.Failures {
		r := a.table.rows[step]
		if step == nodeStep && len(a.cfg.Provision.Command) > 0 || r != nil && a.stepOf(r.m) == step {
			continue
		}
		delete(a.st.Failures, step)
	}
}
