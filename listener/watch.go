package listener

import (
	"context"
	"slices"
	"time"

	"github.com/listener-agent/listener/store"
)

// tagged is an Update with the Watch that it came from.
type tagged struct {
	gen int
	u   store.Update
}

// watchState is the agent's one Watch, and a second one while the set of
// followed keys changes: the new one takes over at its Reset, so that nothing
// is unwatched in between.
type watchState struct {
	keys      []string // followed by the newest Watch, sorted
	gen       int      // of the newest Watch; 0: none yet
	live      int      // of the Watch that is applied
	liveKeys  []string
	cancel    map[int]context.CancelFunc
	bootUntil time.Time
	force     bool // start a new Watch even though the keys are the same
	// askUntil: keys that only the newest Watch follows are awaited until it
	// has its Reset, but not for longer than this; zero: none are.
	askUntil time.Time
}

// refreshWatch makes the Watch follow the keys that the services need now.
func (a *Agent) refreshWatch() {
	w := &a.watch
	keys := a.table.keys()
	if w.gen > 0 && !w.force && slices.Equal(keys, w.keys) {
		return
	}
	ctx, cancel := context.WithCancel(a.runCtx)
	if w.cancel == nil {
		w.cancel = map[int]context.CancelFunc{}
	}
	for gen, end := range w.cancel { // those that never became live
		if gen != w.live {
			end()
			delete(w.cancel, gen)
		}
	}
	w.gen++
	w.keys, w.force = keys, false
	a.view.ask()
	if w.live != 0 {
		w.askUntil = time.Now().Add(a.cfg.Store.BootWait)
	}
	w.cancel[w.gen] = cancel
	// The node's own entry makes sure that there is something to watch.
	ch := a.opt.Store.Watch(ctx, append(a.view.prefixes(keys), a.space.Key("nodes", a.node))...)
	gen := w.gen
	a.wg.Go(func() { a.forward(ctx, gen, ch) })
}

// awaited reports whether the first answer of the store for key is on its way.
func (a *Agent) awaited(key string) bool {
	return !a.watch.askUntil.IsZero() && !a.view.follows(key)
}

// stopAsking ends the wait for keys that are new when the store does not answer.
func (a *Agent) stopAsking() {
	w := &a.watch
	if w.askUntil.IsZero() {
		return
	}
	if left := time.Until(w.askUntil); left > 0 {
		a.timers.in(left)
		return
	}
	w.askUntil = time.Time{}
	a.table.staleAll()
}

// forward hands updates to the loop until its Watch ends.
func (a *Agent) forward(ctx context.Context, gen int, ch <-chan store.Update) {
	for u := range ch {
		select {
		case a.updates <- tagged{gen, u}:
		case <-ctx.Done():
		}
	}
}

// onUpdate applies an update of the live Watch, and makes the newest Watch
// the live one at its Reset.
func (a *Agent) onUpdate(t tagged) {
	w := &a.watch
	successor := t.gen == w.gen && t.gen != w.live && t.u.Kind == store.Reset
	if successor {
		if end := w.cancel[w.live]; end != nil {
			end()
			delete(w.cancel, w.live)
		}
		w.live, w.liveKeys, w.askUntil = t.gen, w.keys, time.Time{}
	}
	first := w.live == 0 && t.gen == w.gen && t.u.Kind == store.Lost // no Watch has come to a Reset yet
	if t.gen != w.live && !first {
		return
	}
	was := a.view.auth
	var touched []string
	all := successor
	if successor {
		a.view.takeOver(t.u, w.liveKeys, time.Now())
	} else {
		touched, all = a.view.apply(t.u, w.liveKeys, time.Now())
	}
	switch t.u.Kind {
	case store.Lost:
		if was || w.live == 0 {
			a.emit("store lost", "store unreachable: "+errText(t.u.Err))
		}
	case store.Reset:
		if !was {
			a.emit("store reset", "store is read")
		}
		a.booted = true
		a.forgetLostRevisions()
	}
	if all {
		a.table.staleAll()
	}
	if t.u.Kind == store.Reset || a.view.ofProviders(t.u) {
		a.lanesStale = true // a plan is made of nothing else of the store
	}
	a.table.touch(touched)
	a.saveReplica()
}

// boot ends the wait for the first Reset: after boot_wait the replica serves,
// or, without one, what attributes and defaults satisfy.
func (a *Agent) boot() {
	if a.booted {
		return
	}
	left := time.Until(a.watch.bootUntil)
	if left > 0 {
		a.timers.in(left)
		return
	}
	a.booted = true
	a.view.since = time.Now()
	a.table.staleAll()
	if a.view.known {
		a.emit("replica serves", "no answer from the store; values of "+a.view.replicaAt.UTC().Format(time.RFC3339)+" serve")
	} else {
		a.emit("store waits", "no answer from the store and no replica; only services that need nothing from it go ahead")
	}
}

// replicaTimes keeps the replica of a large view from costing more than all else.
type replicaTimes struct {
	next time.Time // not again before
	late bool      // it changed meanwhile
}

// replicaShare bounds the time that encoding the replica takes to one part in so many.
const replicaShare = 50

// saveReplica queues the view for the disk.
func (a *Agent) saveReplica() {
	if !a.view.reset {
		return
	}
	if left := time.Until(a.replica.next); left > 0 {
		a.replica.late = true
		a.timers.in(left)
		return
	}
	a.replica.late = false
	path := a.replicaPath()
	a.slow.later("replica", func() error {
		var data []byte
		err := a.do(a.runCtx, func() {
			if !a.view.reset {
				return // another federation meanwhile
			}
			begun := time.Now()
			if b, err := a.view.snapshot(a.identity(), begun); err == nil {
				data = b
			}
			a.replica.next = begun.Add(replicaShare * time.Since(begun))
		})
		if err != nil || data == nil {
			return nil // stopping: the replica is a little older, which is safe
		}
		return writeReplica(path, data)
	})
}

// writeReplicaNow writes the view at once, where what is done next must not be
// known without it: after a crash in between, a hold would be forgotten.
func (a *Agent) writeReplicaNow() error {
	if !a.view.reset {
		return nil
	}
	data, err := a.view.snapshot(a.identity(), time.Now())
	if err == nil {
		err = writeReplica(a.replicaPath(), data)
	}
	a.fault("replica", err)
	return err
}

func errText(err error) string {
	if err == nil {
		return "no answer"
	}
	return err.Error()
}
