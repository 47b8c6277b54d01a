package listener

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
)

// lane is the queue of one balancer: like provisions at most one update waits
// and one is carried out, but with a throttle of its own, so that a long
// provision never delays a balancer. The loop's goroutine owns it; an update
// in progress owns its runtime.
type lane struct {
	cfg     config.Balancer
	haproxy balancer.HAProxy  // if that is the engine
	runtime *balancer.Runtime // nil: every change is a reload

	plan     *balancer.Plan // what it should do; nil: nothing is known yet
	template string         // text of the template, if that is the engine
	text     []byte         // its file; of a template, as the last update made it
	want     string         // digest of what makes the file
	err      error          // why there is no file
	// told is what the running balancer was last told by this process; nil: not known.
	told    *balancer.Plan
	busy    bool
	updates bool          // busy with an update, which may have told the balancer something
	started time.Duration // Now.Up of the last update
	ran     bool          // started means something
	failed  *laneFailure
	sweepAt time.Time // when servers that were taken out are looked at; zero: there are none

	status status.Balancer
}

// laneFailure holds an update back, for as long as it would do the same.
type laneFailure struct {
	want  string
	next  time.Duration // Now.Up
	delay time.Duration
	text  string
}

// serverCheck is how often HAProxy tries to connect to each server.
const serverCheck = 2 * time.Second

// setLanes makes the lanes those of the settings; one whose settings are the
// same stays as it is.
func (a *Agent) setLanes() {
	old := a.lanes
	a.lanes = nil
	for _, b := range a.cfg.Balancers {
		i := slices.IndexFunc(old, func(l *lane) bool { return reflect.DeepEqual(l.cfg, b) })
		if i >= 0 {
			a.lanes = append(a.lanes, old[i])
			continue
		}
		a.lanes = append(a.lanes, newLane(b))
	}
	a.lanesStale = true
	for _, l := range old { // the next one of its file waits for what it does
		if l.busy && !slices.Contains(a.lanes, l) {
			a.lanesEnding = append(a.lanesEnding, l)
		}
	}
	for path := range a.st.Balancers {
		if !slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.cfg.Path == path }) {
			delete(a.st.Balancers, path)
		}
	}
}

func newLane(b config.Balancer) *lane {
	l := &lane{cfg: b, status: status.Balancer{Kind: b.Kind, Path: b.Path}}
	if b.Engine != engineHAProxy {
		return l
	}
	l.haproxy = balancer.HAProxy{Socket: b.Socket, Check: serverCheck}
	if lookupUser("haproxy") {
		l.haproxy.User, l.haproxy.Group = "haproxy", "haproxy"
	}
	if b.Socket != "" {
		l.runtime = balancer.NewRuntime(l.haproxy, 0)
	}
	return l
}

// engineHAProxy is the engine that is no template file.
const engineHAProxy = "haproxy"

// resolve brings services and balancers up to date with each other: what a
// local balancer serves decides what a provider's value is here, and what the
// services here offer decides what it serves.
func (a *Agent) resolve() {
	for range 1 + len(a.table.rows) { // what is offered only grows within one call, or shrinks with the view
		a.planLanes()
		a.table.resolve()
		if !a.lanesStale || !a.view.known {
			return
		}
	}
}

// planLanes brings every lane's plan up to date, before anything is resolved:
// what a local balancer serves decides what a provider's value is here.
func (a *Agent) planLanes() {
	if !a.lanesStale || !a.view.known {
		return
	}
	a.lanesStale = false
	for _, l := range a.lanes {
		was := l.plan
		l.plan = balancer.MakePlan(a.laneInput(l.cfg))
		l.render()
		if l.cfg.Kind == "local" {
			a.table.touch(servedChanged(was, l.plan))
		}
	}
}

// render makes the file of HAProxy, or, as a template takes its time, only the
// digest of what the template is given; the update renders it.
func (l *lane) render() {
	text := l.haproxy.Render(l.plan)
	if l.cfg.Engine == engineHAProxy {
		l.text = text
	} else if l.template, l.err = readTemplate(l.cfg.Engine); l.err == nil {
		text = append(text, l.template...)
	}
	sum := sha256.Sum256(text)
	l.want = hex.EncodeToString(sum[:])
}

// servedChanged names the keys that got a frontend or lost it.
func servedChanged(was, now *balancer.Plan) []string {
	type at struct {
		key  string
		port int
	}
	in := map[at][2]bool{} // which of the two plans serve it
	for i, p := range []*balancer.Plan{was, now} {
		if p == nil {
			continue
		}
		for _, f := range p.Frontends {
			for _, k := range f.Keys {
				both := in[at{k, f.Port}]
				both[i] = true
				in[at{k, f.Port}] = both
			}
		}
	}
	var keys []string
	for s, both := range in {
		if both[0] != both[1] {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// decideLanes starts the updates that are due and may start, and sets the time
// to look again.
func (a *Agent) decideLanes(now throttle.Now) {
	a.lanesEnding = slices.DeleteFunc(a.lanesEnding, func(l *lane) bool { return !l.busy })
	for _, l := range a.lanes {
		before := func(o *lane) bool { return o.cfg.Path == l.cfg.Path }
		if l.busy || l.plan == nil || l.err != nil || a.off.holdsBalancers() || slices.ContainsFunc(a.lanesEnding, before) {
			continue
		}
		if a.st.Balancers[l.cfg.Path] == l.want {
			l.failed = nil
			if l.told == nil {
				l.told = l.plan // an agent before this one told it so, and Apply looks
			}
			if l.text == nil {
				a.renderLane(l)
			}
			a.sweepLane(l)
			continue
		}
		if wait := l.held(now.Up); wait > 0 {
			a.timers.in(wait)
			continue
		}
		l.busy, l.updates, l.ran, l.started = true, true, true, now.Up
		a.startLane(l)
	}
}

// held is how long min_interval or a failure hold an update back; 0: not at all.
func (l *lane) held(up time.Duration) time.Duration {
	wait := time.Duration(0)
	if l.ran {
		wait = l.cfg.MinInterval - (up - l.started)
	}
	if f := l.failed; f != nil && f.want == l.want {
		wait = max(wait, f.next-up)
	}
	return max(wait, 0)
}

// startLane carries an update out beside the loop.
func (a *Agent) startLane(l *lane) {
	job := laneJob{
		cfg: l.cfg, haproxy: l.haproxy, runtime: l.runtime, old: l.told, plan: l.plan, text: l.text, template: l.template,
		stands: a.st.Balancers[l.cfg.Path] != "",
	}
	want := l.want
	a.wg.Go(func() {
		res := job.run(a.runCtx)
		a.post(func() { a.laneDone(l, want, job.plan, res) })
	})
}

// renderLane makes the text of a template's file again after a restart, so that
// drift of the file is found.
func (a *Agent) renderLane(l *lane) {
	job, want := laneJob{cfg: l.cfg, plan: l.plan, template: l.template}, l.want
	l.busy = true
	a.wg.Go(func() {
		err := job.render(a.runCtx)
		a.post(func() {
			l.busy = false
			switch {
			case err != nil:
				delete(a.st.Balancers, l.cfg.Path) // the update says why
			case l.want == want && l.text == nil:
				l.text = job.text
			}
		})
	})
}

// laneDone records how an update ended.
func (a *Agent) laneDone(l *lane, want string, plan *balancer.Plan, res laneResult) {
	l.busy, l.updates = false, false
	l.status.Since = time.Now()
	switch {
	case !slices.Contains(a.lanes, l): // the settings are other ones: who has the file now writes it anew
		delete(a.st.Balancers, l.cfg.Path)
		a.save()
		return
	case res.err != nil:
		if a.runCtx.Err() == nil {
			a.laneFailed(l, want, res.err)
		}
		return
	}
	l.failed, l.told = nil, plan
	if l.cfg.Engine != engineHAProxy {
		l.text = res.file
	}
	if a.st.Balancers == nil {
		a.st.Balancers = map[string]string{}
	}
	a.st.Balancers[l.cfg.Path] = want
	if l.sweepAt = (time.Time{}); res.pending > 0 {
		l.sweepAt = time.Now().Add(sweepEvery)
	}
	if res.reload != "" {
		l.status.Reloads++
	} else {
		l.status.Updates++
	}
	l.status.Last = res.text()
	a.save()
	a.emit("balancer updated", fmt.Sprintf("%s balancer %s: %s", l.cfg.Kind, l.cfg.Path, res.text()))
}

// laneFailed holds the next try of an update back.
func (a *Agent) laneFailed(l *lane, want string, err error) {
	l.told = nil // who knows what it did
	delete(a.st.Balancers, l.cfg.Path)
	f := &laneFailure{want: want, text: err.Error()}
	if old := l.failed; old != nil && old.want == want {
		f.delay = old.delay
	}
	f.delay = throttle.Backoff{Base: a.cfg.Retry.Base, Max: a.cfg.Retry.Max}.Next(f.delay, a.rng)
	f.next = a.now().Up + f.delay
	l.failed = f
	a.emit("balancer failed", fmt.Sprintf("%s balancer %s: %s; next try in %s", l.cfg.Kind, l.cfg.Path, f.text, f.delay.Round(100*time.Millisecond)))
	a.save()
}

// stopLanes forgets what balancers were told whose update the agent's end cuts
// short: what it has done by then nobody knows.
func (a *Agent) stopLanes() {
	for _, l := range slices.Concat(a.lanes, a.lanesEnding) {
		if l.updates && a.st.Balancers[l.cfg.Path] != "" {
			delete(a.st.Balancers, l.cfg.Path)
			a.save()
		}
	}
}

// sweepEvery is how often servers that were taken out, but still had
// connections, are looked at.
const sweepEvery = 5 * time.Second

// sweepLane deletes servers whose last connection has ended.
func (a *Agent) sweepLane(l *lane) {
	if l.sweepAt.IsZero() {
		return
	}
	if left := time.Until(l.sweepAt); left > 0 {
		a.timers.in(left)
		return
	}
	l.busy, l.sweepAt = true, time.Time{}
	a.wg.Go(func() {
		left, err := l.runtime.Sweep(a.runCtx)
		a.post(func() {
			l.busy = false
			if left > 0 || err != nil {
				l.sweepAt = time.Now().Add(sweepEvery)
			}
		})
	})
}

// retryLanes has every update that failed tried again at once: a provision
// succeeded, and may have brought what was missing.
func (a *Agent) retryLanes() {
	for _, l := range a.lanes {
		l.failed = nil
	}
}
