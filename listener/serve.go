package listener

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/throttle"
)

var _ api.Agent = (*Agent)(nil)

// Status is the agent's own account of itself, at one moment.
func (a *Agent) Status(ctx context.Context) (s status.Status, err error) {
	err = a.do(ctx, func() { s = a.status() })
	return s, err
}

func (a *Agent) status() status.Status {
	if a.booted {
		a.resolve() // what came since the loop looked last
	}
	a.updateConditions()
	now := a.now()
	w := a.due(now)
	s := status.Status{
		Node: a.node, Region: a.region, Federation: a.space.Federation, Host: a.host,
		Version: a.opt.Version, PID: os.Getpid(), Started: a.started,
		On: !a.off.is, Store: a.storeStatus(), LastRun: cloneRun(a.lastRun), RunsTotal: a.runsTotal,
		Failures: a.failures(w, now), Conditions: slices.Clone(a.conds.now), Services: a.serviceStatus(),
		Holds:     a.holdStatus(),
		Balancers: a.laneStatus(),
	}
	if a.off.is {
		off := a.off.Off
		s.Off = &off
	}
	if rs := a.st.Run; rs != nil {
		s.Running = cloneRun(&rs.Run)
	}
	if a.booted && (w.any() || w.filesOnly()) && (a.exec == nil || a.moreAfter()) {
		s.Pending = a.pendingStatus(w, now)
	}
	if a.pub.p != nil {
		p := a.pub.p.Status().Publishing
		s.Publishing = &p
	}
	s.Synced = a.booted && w.filesHeld == 0 && a.view.auth && s.Running == nil && s.Pending == nil && !a.adopting && a.lanesIdle() && a.watch.askUntil.IsZero()
	return s
}

// cloneRun copies what the loop goes on changing.
func cloneRun(r *status.Run) *status.Run {
	if r == nil {
		return nil
	}
	c := *r
	c.Steps, c.Files = slices.Clone(r.Steps), slices.Clone(r.Files)
	return &c
}

func (a *Agent) storeStatus() status.Store {
	v := a.view
	s := status.Store{Kind: a.cfg.Store.Kind, State: "ok", Since: v.since, Revision: v.rev}
	switch {
	case v.auth:
	case v.reset:
		s.State, s.Error = "unreachable", errText(v.err)
	case !a.booted:
		s.State = "waiting"
		if v.err != nil {
			s.Error = errText(v.err)
		}
	case v.known:
		s.State, s.ReplicaAge = "replica", age(v.replicaAt)
	default:
		s.State, s.Error = "unreachable", errText(v.err)
	}
	return s
}

// moreAfter reports whether something is due beyond the run in progress.
func (a *Agent) moreAfter() bool {
	rs := a.exec.rs
	if a.st.Forced > rs.Forced {
		return true
	}
	planned := map[string]string{}
	for _, p := range rs.Steps {
		for id, c := range p.Services {
			planned[id] = c.Inputs.Digest
		}
	}
	for _, id := range a.table.ids {
		r := a.table.rows[id]
		if r.res.State != resolve.Ready {
			continue
		}
		// What the run is about to apply counts, not what was applied before.
		if d, ok := planned[id]; ok && d != r.digest || !ok && !a.table.applied(r, a.st.service(id)) {
			return true
		}
	}
	return false
}

func (a *Agent) pendingStatus(w *work, now throttle.Now) *status.Pending {
	since := a.pend.since
	if a.exec != nil {
		since = a.meanwhile.since
		if since.IsZero() { // only forced
			since = a.exec.rs.Run.Started
		}
	}
	p := &status.Pending{
		Since: since, Kind: string(a.kind(w)), Reasons: a.reasons(w), Services: []string{}, Keys: []string{},
	}
	for _, d := range a.dueServices(w) {
		p.Services = append(p.Services, d.ID)
		p.Keys = append(p.Keys, d.Keys...)
	}
	slices.Sort(p.Keys)
	p.Keys = slices.Compact(p.Keys)
	var g gate
	switch {
	case a.exec != nil || a.adopting:
		g = gate{name: "run", why: "a run is in progress; this one starts after it"}
	case w.any():
		g = a.firstClosed(w, now)
	case a.off.holds():
		g = gate{name: "on", why: a.off.text()}
	case len(a.holders) > 0:
		g = gateHold(a, w, throttle.Auto, now)
	}
	p.Gate, p.Why = g.name, g.why
	if g.timed && g.wait > 0 {
		p.Until = time.Now().Add(g.wait)
	}
	return p
}

// retried reports whether the step that failed is due again.
func (a *Agent) retried(w *work, step string) bool {
	return step == nodeStep && w.node || slices.Contains(w.own, step)
}

func (a *Agent) failures(w *work, now throttle.Now) []status.Failure {
	out := []status.Failure{}
	for step, f := range a.st.Failures {
		s := status.Failure{Step: stepName(step), Run: f.Run, Count: f.Count, At: f.At, Text: f.Text, LastTail: f.Tail}
		if a.retried(w, step) && f.Boot == now.Boot {
			s.NextTry = time.Now().Add(max(0, f.Next-now.Up))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y status.Failure) int { return y.At.Compare(x.At) })
	return out
}

var stateNames = map[resolve.State]string{resolve.Ready: "ready", resolve.Kept: "missing", resolve.Waiting: "waiting"}

func (a *Agent) serviceStatus() []status.Service {
	out := make([]status.Service, 0, len(a.table.ids))
	for _, id := range a.table.ids {
		r, st := a.table.rows[id], a.st.service(id)
		s := status.Service{
			ID: id, State: stateNames[r.res.State], Step: a.stepWord(r), File: r.m.File,
			Due: a.booted && a.table.due(id), Dirty: st.Dirty, Applied: a.appliedAt(id), Waiting: r.res.Missing,
			Files: a.envPaths(id),
		}
		if !a.booted {
			s.State, s.Waiting = "waiting", []string{"the store"}
		}
		out = append(out, s)
	}
	return out
}

// stepWord is how a service is provisioned: node, own or none.
func (a *Agent) stepWord(r *row) string {
	switch a.stepOf(r.m) {
	case "":
		return "none"
	case nodeStep:
		return "node"
	}
	return "own"
}

// Runs returns the newest runs first, the one in progress too.
func (a *Agent) Runs(ctx context.Context, n int) (runs []status.Run, err error) {
	run, ok, err := a.running(ctx)
	if err != nil {
		return nil, err
	}
	if runs, err = a.history.List(n); err != nil {
		return nil, err
	}
	if ok {
		runs = append([]status.Run{run}, runs...)
	}
	if n > 0 && len(runs) > n {
		runs = runs[:n]
	}
	return runs, nil
}

// ShowRun returns one run, or store.ErrNotFound.
func (a *Agent) ShowRun(ctx context.Context, id string) (status.Run, error) {
	run, ok, err := a.running(ctx)
	if err != nil || ok && run.ID == id {
		return run, err
	}
	run, err = a.history.Show(id)
	if err != nil {
		return run, fmt.Errorf("run %s: %w", id, err)
	}
	return run, nil
}

// running is the run in progress, if there is one. When it returns without
// an error the agent has loaded its state, the history too.
func (a *Agent) running(ctx context.Context) (run status.Run, ok bool, err error) {
	err = a.do(ctx, func() {
		if rs := a.st.Run; rs != nil {
			run, ok = *cloneRun(&rs.Run), true
		}
	})
	return run, ok, err
}

// OpenLog reads a run's output; "" id: of the newest run.
func (a *Agent) OpenLog(ctx context.Context, id string) (log io.Reader, run string, err error) {
	if id == "" {
		runs, err := a.Runs(ctx, 1)
		if err != nil {
			return nil, "", err
		}
		if len(runs) == 0 {
			return nil, "", fmt.Errorf("no run yet: %w", store.ErrNotFound)
		}
		id = runs[0].ID
	}
	if _, err := a.ShowRun(ctx, id); err != nil {
		return nil, "", err
	}
	return a.history.OpenLog(id), id, nil
}

// Store is where the values are.
func (a *Agent) Store() store.Store { return a.opt.Store }

// Space is this node's federation in the store.
func (a *Agent) Space() store.Space {
	var s store.Space
	_ = a.do(context.Background(), func() { s = a.space })
	return s
}

// Region says where this node is.
func (a *Agent) Region() string { return a.region }

// Replica returns a followed value from the view; age 0: it is current.
func (a *Agent) Replica(ctx context.Context, region, key string) (kv store.KV, old time.Duration, ok bool) {
	err := a.do(ctx, func() {
		e, has := a.view.entries[valueKey{region: region, key: key}]
		if !has || e.none || !a.view.follows(key) || region != "" && region != a.region {
			return
		}
		ok = true
		kv = store.KV{Key: a.space.Value(region, key), Value: []byte(e.text), Rev: e.rev}
		if !a.view.auth {
			from := a.view.since
			if !a.view.replicaAt.IsZero() {
				from = a.view.replicaAt
			}
			old = max(time.Since(from), time.Second)
		}
	})
	return kv, old, ok && err == nil
}
