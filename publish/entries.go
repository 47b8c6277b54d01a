package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/listener-agent/listener/store"
)

// own is one entry that is, was or will be ours.
type own struct {
	entry

	path    string // its key in the store
	key     string
	service string

	offer     store.Provider // zero unless offered
	offered   bool
	lasting   bool // offered as it was: what it shall be is not known
	ready     bool
	check     verdict
	exclusive bool
	phase     phase

	want  store.State // "": as it is
	why   string
	bad   error  // why no reader would take the offer
	token uint64 // of the claim that is held

	// missed is the entry as it was when it went with the session, for as long as
	// nothing was written since: others saw it expire.
	missed store.Provider

	since time.Time // of the state
	seen  store.State
	fault fault
}

// leftFor is how long an entry that left can be seen by all who watch.
const leftFor = 15 * time.Minute

// published reports whether anything of s was published in this boot.
func (r *reconciler) published(s *Service) bool {
	if s.Offers == nil {
		return len(r.entriesOf(s)) > 0
	}
	for key := range s.Offers {
		if contains(r.kept.Entries, r.o.Space.Provider(key, r.o.Region, r.o.Node, s.ID)) {
			return true
		}
	}
	return false
}

// entriesOf are the keys in the store of what s has published in this boot.
func (r *reconciler) entriesOf(s *Service) (paths []string) {
	for _, path := range r.kept.Entries {
		parts, ok := r.o.Space.Parts(path)
		if ok && len(parts) == 5 && path == r.o.Space.Provider(parts[1], r.o.Region, r.o.Node, s.ID) {
			paths = append(paths, path)
		}
	}
	return paths
}

// expect finds out what each entry shall be, as far as can be told without the
// store: status says so also while that is away.
func (r *reconciler) expect(in *wanted, now time.Time) {
	if !in.told() {
		return
	}
	r.collect(in)
	phase, until := in.phase(r.o.DrainWait, now)
	if !until.IsZero() {
		r.by(until)
	}
	for _, o := range r.own {
		o.phase = phase
		if !o.offered {
			o.phase = leaving
		}
		r.decide(o)
		if o.exclusive && o.want == store.Up && o.token == 0 {
			o.want, o.why = store.Standby, "it does not hold the claim"
		}
	}
}

// decide sets what o shall be, but for its claim.
func (r *reconciler) decide(o *own) {
	f := facts{ready: o.ready, known: contains(r.kept.Entries, o.path), check: o.check, phase: o.phase, stored: o.provider.State}
	o.want, o.why = f.decide()
	switch {
	case !o.offered:
		o.why = "not offered any more"
	case o.want != store.Left && o.bad != nil:
		o.want, o.why = "", "its entry is refused"
	case o.want != store.Left && o.lasting && o.offer.State == "":
		o.want, o.why = "", "what it offers is not known"
	case o.want == "" && contains(r.kept.Former, o.path):
		o.want = store.Left
	}
}

// holdEntries makes the store hold the entries that are wanted.
func (r *reconciler) holdEntries(ctx context.Context, now time.Time) error {
	var units []unit
	tickets := r.kept.Tickets
	for _, path := range sortedKeys(r.own) {
		o := r.own[path]
		tickets = without(tickets, r.ticket(o))
		if now.Before(o.fault.until) {
			r.by(o.fault.until)
			continue
		}
		err := r.judge(ctx, o)
		if err != nil && !isolated(err) {
			return err
		}
		if err != nil {
			r.failed(o, err)
			if u := r.giveBack(o); len(u.ops) > 0 {
				units = append(units, u)
			}
			continue
		}
		if u := r.unit(o); len(u.ops) > 0 || u.leaves {
			units = append(units, u)
		}
	}
	for _, t := range tickets { // of entries that are not ours any more
		if r.released[t] {
			continue
		}
		units = append(units, unit{ops: []store.Op{store.Delete(t)}, tickets: []string{t}})
	}
	if err := r.write(ctx, units); err != nil {
		return err
	}
	return r.yield()
}

// collect makes r.own what is offered now, and what was published and is not.
func (r *reconciler) collect(in *wanted) {
	for _, o := range r.own {
		o.offered, o.lasting, o.ready, o.exclusive, o.bad = false, false, false, false, nil
	}
	for _, path := range slices.Concat(r.kept.Entries, r.kept.Former) {
		if parts, ok := r.o.Space.Parts(path); r.own[path] == nil && ok && len(parts) == 5 {
			r.own[path] = &own{path: path, key: parts[1], service: parts[4]}
		}
	}
	for i := range in.services {
		s := &in.services[i]
		for key, offer := range s.Offers {
			path := r.o.Space.Provider(key, r.o.Region, r.o.Node, s.ID)
			o := r.own[path]
			if o == nil {
				o = &own{path: path, key: key, service: s.ID}
				r.own[path] = o
			}
			o.offer, o.bad = offer, unreadable(offer)
			r.offers(o, s)
		}
		if s.Offers != nil {
			continue
		}
		for _, path := range r.entriesOf(s) {
			o := r.own[path]
			o.lasting = true
			o.last()
			r.offers(o, s)
		}
	}
	for path, o := range r.own {
		if !o.offered && !r.ever(path) {
			delete(r.own, path)
		}
	}
}

// offers notes that s offers o now.
func (r *reconciler) offers(o *own, s *Service) {
	o.offered, o.ready, o.check, o.exclusive = true, s.Ready, r.verdict(s), slices.Contains(s.Exclusive, o.key)
}

// last makes what the store holds what is offered, where nothing else is known.
func (o *own) last() {
	if o.lasting && o.provider.State != "" {
		o.offer = o.provider
	}
}

// unreadable returns why no reader would take the offer.
func unreadable(p store.Provider) error {
	p.State = store.Up
	if _, err := store.DecodeProvider(p.Encode()); err != nil {
		return err
	}
	return nil
}

func (r *reconciler) verdict(s *Service) verdict {
	if s.Check == nil {
		return up
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if h := r.p.health[s.ID]; h != nil {
		return h.verdict
	}
	return unknown
}

// judge finds out what o shall be by what the store holds, and holds or gives
// up its claim.
func (r *reconciler) judge(ctx context.Context, o *own) error {
	if o.ready || r.ever(o.path) {
		if err := r.read(ctx, o); err != nil {
			return err
		}
		o.last()
	}
	r.decide(o)
	switch {
	case r.superseded(o) && o.offered:
		o.token = 0
		r.unclaim(r.ticket(o))
		return fmt.Errorf("%w: incarnation %d, this is %d", errSuperseded, o.provider.Incarnation, r.kept.Incarnation)
	case r.superseded(o):
		o.want = ""
		r.gone(o)
	case o.exclusive && o.want == store.Up:
		return r.holdClaim(ctx, o)
	}
	o.token = 0
	r.unclaim(r.ticket(o))
	return nil
}

// errSuperseded: a lower incarnation never overwrites a higher one.
var errSuperseded = errors.New("a later publisher of this node has written the entry")

// superseded reports whether a later publisher of the node wrote the entry: a
// lower incarnation never overwrites a higher one.
func (r *reconciler) superseded(o *own) bool { return o.later(r.kept.Incarnation) }

// yield gives up a session that an earlier process of this node replaced
// without our knowing. A session that is our own stays: then another process
// publishes as this node, and the one that started last wins.
func (r *reconciler) yield() error {
	for _, o := range r.own {
		if r.resumed && errors.Is(o.fault.err, errSuperseded) {
			return errSessionLost
		}
	}
	return nil
}

func (r *reconciler) read(ctx context.Context, o *own) error {
	if o.known {
		return nil
	}
	kv, err := r.store.get(ctx, o.path)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	o.entry = entryOf(kv.Rev, kv.Value)
	r.saw(o)
	return nil
}

// saw notes since when the entry has its state.
func (r *reconciler) saw(o *own) {
	if state := o.provider.State; state != o.seen {
		o.seen, o.since = state, time.Now()
	}
}

// unit returns what makes the store hold what o shall be; empty: it does.
func (r *reconciler) unit(o *own) unit {
	u := r.giveBack(o)
	u.o = o
	value := r.bytes(o)
	if value == nil || bytes.Equal(value, o.value) {
		o.fault = fault{}
		if o.want == store.Left && !o.offered {
			r.gone(o)
		}
		return u
	}
	u.value = value
	u.conds = append(u.conds, store.Cond{Key: o.path, Rev: o.rev})
	if u.leaves = o.want == store.Left; !u.leaves {
		u.ops = append(u.ops, store.PutSession(o.path, value, r.session))
	}
	if c := r.claims[r.ticket(o)]; c != nil && o.want == store.Up {
		u.conds = append(u.conds, store.Cond{Key: c.ticket, Rev: c.rev})
	}
	return u
}

// giveBack returns what removes the ticket of a claim that was let go.
func (r *reconciler) giveBack(o *own) (u unit) {
	t := r.ticket(o)
	if r.claims[t] == nil && contains(r.kept.Tickets, t) && !r.released[t] {
		u.ops, u.tickets = []store.Op{store.Delete(t)}, []string{t}
	}
	return u
}

// bytes returns what the entry shall be; nil: what is there may stay.
func (r *reconciler) bytes(o *own) []byte {
	switch {
	case o.want == "":
		return nil
	case o.want != store.Left:
		p := o.offer
		p.State, p.Incarnation, p.Claim = o.want, r.kept.Incarnation, o.token
		return p.Encode()
	case o.rev == 0 && o.missed.State != "":
		gone := entry{provider: o.missed}
		return gone.left(r.kept.Incarnation).Encode()
	case o.rev == 0 || o.provider.State == store.Left:
		return nil
	}
	return o.left(r.kept.Incarnation).Encode()
}

// failed keeps an error that spoils only o.
func (r *reconciler) failed(o *own, err error) {
	o.known = false
	if c := r.claims[r.ticket(o)]; c != nil {
		c.known = false
	}
	o.fault.set(err, time.Now())
	r.by(o.fault.until)
}

// gone notes that an entry that is not offered any more left.
func (r *reconciler) gone(o *own) {
	r.kept.Entries, r.kept.Former = without(r.kept.Entries, o.path), with(r.kept.Former, o.path)
}

// ever reports whether an entry was published in this boot or session.
func (r *reconciler) ever(path string) bool {
	return contains(r.kept.Entries, path) || contains(r.kept.Former, path)
}

// withdrawn reports whether nothing of the node is published.
func (r *reconciler) withdrawn() bool {
	for _, path := range slices.Concat(r.kept.Entries, r.kept.Former) {
		o := r.own[path]
		switch {
		case o == nil:
			return false // not looked at yet
		case r.superseded(o):
		case !o.known || o.rev != 0 && o.provider.State != store.Left:
			return false
		}
	}
	return true
}
