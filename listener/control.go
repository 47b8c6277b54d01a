package listener

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/status"
)

// forcedManual is the reason that a manual run leaves with the counter.
const forcedManual = "provision"

// Provision queues a forced run. ErrOff when the agent is off, unless the
// request says even if off.
func (a *Agent) Provision(ctx context.Context, r api.ProvisionRequest) (q status.Queued, err error) {
	doErr := a.do(ctx, func() {
		if a.off.holds() && !r.EvenIfOff {
			err = fmt.Errorf("%w: %s", ErrOff, a.off.text())
			return
		}
		m := &manual{Ticket: a.st.force(forcedManual), Now: r.Now, EvenIfOff: r.EvenIfOff, Who: r.Who}
		if old := a.st.Manual; old != nil { // two requests are one run
			m.Now, m.EvenIfOff = m.Now || old.Now, m.EvenIfOff || old.EvenIfOff
		}
		a.st.Manual = m
		a.save()
		q.Ticket, q.Held = m.Ticket, a.heldBy()
		a.emit("provision asked", "a run was asked for by "+r.Who)
	})
	return q, errors.Join(err, doErr)
}

// waiter waits for a run. The loop calls its functions.
type waiter struct {
	ended func(rs *runState, run status.Run)
	idle  func() bool // asked after each step; true: done, forget the waiter
}

// WaitRun blocks until a run that covers ticket has ended, and returns it or a
// later one; ErrNothing when there is nothing that a run would do.
func (a *Agent) WaitRun(ctx context.Context, ticket uint64) (status.Run, error) {
	ch := make(chan error, 1)
	var run status.Run
	w := &waiter{ended: func(*runState, status.Run) {}}
	w.idle = func() bool {
		switch {
		case a.lastForced >= ticket && a.lastRun != nil: // maybe it ended before we asked
			run = *cloneRun(a.lastRun)
			ch <- nil
		case a.vain >= ticket:
			ch <- ErrNothing
		default:
			return ctx.Err() != nil
		}
		return true
	}
	if err := a.do(ctx, func() { a.waiters = append(a.waiters, w) }); err != nil {
		return status.Run{}, err
	}
	select {
	case err := <-ch:
		return run, err
	case <-ctx.Done():
		return status.Run{}, ctx.Err()
	case <-a.stopped:
		return status.Run{}, ErrStopped
	}
}

// WaitDue blocks until nothing is due or running, or until what is due is held
// by another gate than settle, which held then names.
func (a *Agent) WaitDue(ctx context.Context) (runs []status.Run, held string, err error) {
	done := make(chan struct{})
	w := &waiter{ended: func(_ *runState, run status.Run) { runs = append(runs, run) }}
	w.idle = func() bool {
		if ctx.Err() != nil {
			return true
		}
		idle := false
		if idle, held = a.idle(); idle {
			close(done)
		}
		return idle
	}
	if err := a.do(ctx, func() { a.waiters = append(a.waiters, w) }); err != nil {
		return nil, "", err
	}
	select {
	case <-done:
		return runs, held, nil
	case <-ctx.Done():
		return nil, "", ctx.Err()
	case <-a.stopped:
		return nil, "", ErrStopped
	}
}

// idle reports whether nothing runs and nothing will without more waiting
// than settle; held names the gate that holds what is due.
func (a *Agent) idle() (idle bool, held string) {
	switch g := a.pend.closed; {
	case !a.booted || a.exec != nil || a.adopting || !a.watch.askUntil.IsZero():
		return false, ""
	case a.pend.sig == "":
		return true, ""
	case a.off.holds():
		return true, "on: " + a.off.text()
	case len(a.holders) > 0:
		return true, "hold: " + a.heldBy()
	case g.name == "" || g.name == "settle":
		return false, ""
	default:
		return true, g.name + ": " + g.why
	}
}

// answerWaiters lets go of those whose wait is over.
func (a *Agent) answerWaiters() {
	a.waiters = slices.DeleteFunc(a.waiters, func(w *waiter) bool { return w.idle() })
}

// Accept takes what is held: the holds of the store, absence that is not
// proven, and, with key "", manifests that vanished.
func (a *Agent) Accept(ctx context.Context, key string) (acc status.Accepted, err error) {
	acc.Changed = []string{}
	err = a.do(ctx, func() {
		for _, k := range a.view.accept(key) {
			acc.Changed = append(acc.Changed, "key "+k)
		}
		if len(acc.Changed) > 0 {
			if key != "" { // all of it, whoever goes with the hold
				a.view.acceptAway(key)
			}
			_ = a.writeReplicaNow() // accepted is accepted, whatever happens next; an error is told
			a.watch.force = true    // read what the store says now
		}
		if absent := a.acceptAbsent(key); absent { // of one key: an outage makes many look absent
			acc.Changed = append(acc.Changed, "absence of "+key)
			_ = a.writeReplicaNow()
		}
		if key == "" {
			for _, id := range a.svcs.acceptGone() {
				acc.Changed = append(acc.Changed, "removal of "+id)
			}
			a.manifestsChanged()
			a.saveManifests() // accepted is accepted, whatever happens next
			if fed := a.acceptFederation(); fed != "" {
				acc.Changed = append(acc.Changed, "federation "+fed)
			}
		}
		a.table.staleAll()
		a.lanesStale = true
		if len(acc.Changed) > 0 {
			a.emit("accepted", "accepted: "+strings.Join(acc.Changed, ", "))
		}
	})
	return acc, err
}

// acceptAbsent makes the absence of key proven, if a service lives on a last
// good value of it.
func (a *Agent) acceptAbsent(key string) bool {
	for _, r := range a.table.rows {
		for _, u := range r.res.Uses {
			if u.Answer.LastGood && u.Key == key {
				a.view.accepted[key] = true
				a.view.acceptAway(key)
				return true
			}
		}
	}
	return false
}

// acceptFederation keeps one of several federations that the manifests name,
// when the node had none: the first by name. Who wants another one sets it.
func (a *Agent) acceptFederation() string {
	sc := readScan(a.cfg.Manifests)
	named := sc.federations()
	if a.cfg.Federation != "" || a.st.Federation != "" || len(named) == 0 {
		return ""
	}
	a.st.Federation = named[0]
	a.takeScan(sc)
	return named[0]
}

// Reload reads settings, manifests and attributes again. Everything that can
// fail is done first: on error nothing has changed.
func (a *Agent) Reload(ctx context.Context) error {
	cfg := (*config.Config)(nil)
	if a.opt.Reload != nil {
		var err error
		if cfg, err = a.opt.Reload(); err != nil {
			return fmt.Errorf("reload: %w", err)
		}
	}
	var bad error
	err := a.do(ctx, func() {
		next := cfg
		if next == nil {
			next = a.cfg
		}
		if _, err := config.LoadAttributes(next.Attributes); err != nil && !config.OnlyMissing(err) {
			bad = fmt.Errorf("reload: %w", err)
			return
		}
		if cfg != nil {
			a.useConfig(cfg)
		}
		a.loadAttributes()
		a.takeScan(readScan(a.cfg.Manifests))
		a.table.staleAll()
	})
	return errors.Join(bad, err)
}

// useConfig swaps the settings. Those that only count at a start keep their
// old value, and a condition says so.
func (a *Agent) useConfig(cfg *config.Config) {
	diff := config.Diff(a.cfg, cfg)
	var later []string
	for _, name := range diff {
		if slices.Contains(config.RestartOnly(), name) {
			later = append(later, name)
		}
	}
	var err error
	if len(later) > 0 {
		err = fmt.Errorf("%s changed in the settings; it counts after a restart", strings.Join(later, ", "))
	}
	a.fault("restart needed", err)
	publishing := cfg.Publish != a.cfg.Publish || cfg.Check != a.cfg.Check
	next := *cfg
	next.StateDir, next.RunDir, next.Store, next.API = a.cfg.StateDir, a.cfg.RunDir, a.cfg.Store, a.cfg.API
	next.Node, next.Federation, next.Region = a.cfg.Node, a.cfg.Federation, a.cfg.Region
	next.Provision.Runner = a.cfg.Provision.Runner
	a.cfg, a.host = &next, next.Host
	a.view.protect = a.cfg.Protect
	a.setLanes()
	a.table.index()
	a.pub.stale = true
	a.throttle.Use(throttleSettings(a.cfg))
	if publishing && a.pub.p != nil {
		a.startPublishing()
	}
	if len(diff) > 0 {
		a.emit("reloaded", "settings changed: "+strings.Join(diff, ", "))
	}
	for _, r := range a.table.rows {
		r.refile = r.refile || len(diff) > 0
	}
	a.forgetFailures()
	a.stopWatching()
	a.startWatching(a.runCtx, newFileWatch(a.cfg))
}
