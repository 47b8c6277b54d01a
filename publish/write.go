package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/listener-agent/listener/store"
)

// maxBatch is how many operations one commit may have, below what stores take.
const maxBatch = 100

// unit is what must be written together.
type unit struct {
	o       *own // nil: tickets only
	conds   []store.Cond
	ops     []store.Op
	value   []byte   // of o, if it is written
	leaves  bool     // value is written under a session of its own
	tickets []string // that are given back
}

// write writes units in as few commits as possible.
func (r *reconciler) write(ctx context.Context, units []unit) error {
	var stay, leave []unit
	for _, u := range units {
		switch {
		case u.leaves:
			leave = append(leave, u)
			continue
		case u.value != nil:
			r.kept.Entries, r.kept.Former = with(r.kept.Entries, u.o.path), without(r.kept.Former, u.o.path)
		}
		stay = append(stay, u)
	}
	r.save()
	for _, b := range batches(stay) {
		if err := r.commit(ctx, b); err != nil {
			return err
		}
	}
	return r.writeLeft(ctx, leave)
}

// writeLeft writes entries that leave under a session that ends after a while.
// One that could not be used is kept for the next try.
func (r *reconciler) writeLeft(ctx context.Context, units []unit) error {
	if len(units) == 0 {
		return nil
	}
	if r.leavers == nil || closed(r.leavers.Done()) {
		var err error
		if r.leavers, err = r.store.session(ctx, leftFor, ""); err != nil {
			r.leavers = nil // an interface of a failed call
			return err
		}
	}
	used := false
	for i := range units {
		units[i].ops = append(units[i].ops, store.PutSession(units[i].o.path, units[i].value, r.leavers))
	}
	for _, b := range batches(units) {
		if err := r.commit(ctx, b); err != nil {
			if errors.Is(err, store.ErrSession) { // here that may show much later
				r.leavers.Orphan()
				r.leavers = nil
			}
			return err
		}
		for _, u := range b {
			used = used || u.o.provider.State == store.Left
		}
	}
	if used {
		r.leavers.Orphan()
		r.leavers = nil
	}
	return nil
}

// batches packs units into commits that every store takes.
func batches(units []unit) (all [][]unit) {
	ops, size := maxBatch, 0
	for _, u := range units {
		if ops+len(u.ops) > maxBatch || size+len(u.value) > store.MaxValue {
			all, ops, size = append(all, nil), 0, 0
		}
		all[len(all)-1] = append(all[len(all)-1], u)
		ops, size = ops+max(len(u.ops), len(u.conds)), size+len(u.value)
	}
	return all
}

// commit writes one batch. What concerns a single entry is kept with that
// entry, and the others are written without it.
func (r *reconciler) commit(ctx context.Context, batch []unit) error {
	var conds []store.Cond
	var ops []store.Op
	for _, u := range batch {
		conds, ops = append(conds, u.conds...), append(ops, u.ops...)
	}
	rev, err := r.store.commit(ctx, conds, ops...)
	switch {
	case err == nil:
		for _, u := range batch {
			r.wrote(u, rev)
		}
		return nil
	case isolated(err) && len(batch) > 1:
		for _, u := range batch {
			if err := r.commit(ctx, []unit{u}); err != nil {
				return err
			}
		}
		return nil
	case isolated(err):
		return r.refused(ctx, batch[0], err)
	}
	for _, u := range batch { // it may have been applied
		if u.o != nil {
			u.o.known = false
		}
	}
	if errors.Is(err, store.ErrSession) && !batch[0].leaves {
		return errSessionLost
	}
	return err
}

// refused keeps the error with the entry that it is about. Who may not publish
// does not sit on a claim either. A ticket that cannot be removed dies with the
// session; it is tried again with the next comparison.
func (r *reconciler) refused(ctx context.Context, u unit, err error) error {
	if u.o == nil {
		for _, t := range u.tickets {
			r.released[t] = true
		}
		return nil
	}
	r.failed(u.o, err)
	if errors.Is(err, store.ErrConflict) || u.o.provider.State == store.Up {
		return nil
	}
	u.o.token = 0
	r.unclaim(r.ticket(u.o))
	if back := r.giveBack(u.o); len(back.ops) > 0 {
		return r.commit(ctx, []unit{back})
	}
	return nil
}

// wrote notes what the store holds now.
func (r *reconciler) wrote(u unit, rev uint64) {
	for _, t := range u.tickets {
		r.released[t] = true
	}
	if u.value == nil {
		return
	}
	o := u.o
	was := o.provider.State
	o.entry, o.fault, o.missed = entryOf(rev, u.value), fault{}, store.Provider{}
	r.saw(o)
	if state := o.provider.State; state != was {
		r.o.Event("published", fmt.Sprintf("%s of %s is %s", o.key, o.service, state),
			"key", o.key, "service", o.service, "state", string(state))
	}
	if u.leaves && !o.offered {
		r.gone(o)
	}
}
