package publish

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/listener-agent/listener/store"
)

// errSessionLost: the store does not know the node's session any more.
var errSessionLost = errors.New("session lost")

// recordEvery is how often the node's record is written at most. A change is
// written at a random moment within it: it is for people, and a fleet whose
// runs end together must not write together.
const recordEvery = 2 * time.Second

// holdSession leaves r.session nil while there can be none.
func (r *reconciler) holdSession(ctx context.Context, in *wanted, now time.Time) error {
	if r.session != nil {
		if closed(r.session.Done()) {
			return errSessionLost
		}
		return nil
	}
	if r.kept.Session != "" {
		s, err := r.store.session(ctx, r.o.TTL, r.kept.Session)
		if err == nil {
			r.session, r.resumed = s, true
			return nil
		}
		if !errors.Is(err, store.ErrSession) {
			return err
		}
		r.forgetSession()
	}
	switch {
	case in.leave != nil: // nothing is left to withdraw
		close(in.leave.done)
		return nil
	case !in.nodeSet:
		return nil
	}
	if err := r.readRecord(ctx); err != nil {
		return err
	}
	if r.nameTaken(now) {
		return nil
	}
	s, err := r.store.session(ctx, r.o.TTL, "")
	if err != nil {
		return err
	}
	r.session, r.resumed, r.kept.Session = s, false, s.ID()
	r.save()
	return nil
}

// forgetSession forgets what lived and died with the session. Entries are
// still ours to publish.
func (r *reconciler) forgetSession() {
	r.session, r.resumed = nil, false
	r.kept.Session, r.kept.Incarnation, r.kept.Former, r.kept.Tickets = "", 0, nil, nil
	for _, c := range r.claims {
		c.stop()
	}
	clear(r.claims)
	for _, o := range r.own {
		o.token = 0
		switch o.provider.State {
		case store.Up, store.Down, store.Draining:
			o.missed = o.provider
		}
	}
	r.doubt()
}

// loseSession begins anew, not at the same moment as all other nodes that
// lost theirs together.
func (r *reconciler) loseSession(now time.Time) {
	if r.session != nil {
		r.session.Orphan()
	}
	r.forgetSession()
	r.fault = fault{until: now.Add(rand.N(min(r.o.TTL/4, 5*time.Second)))}
	r.by(r.fault.until)
	r.o.Event("session lost", "the store ended this node's session; publishing again", "node", r.o.Node)
}

func (r *reconciler) closeSession(ctx context.Context, l *leave) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := r.session.Close(ctx); err != nil {
		return doing("close", "the session", err)
	}
	r.forgetSession()
	r.kept.Entries = nil
	clear(r.own)
	r.save()
	r.o.Event("withdrawn", "this node left the fleet", "node", r.o.Node)
	close(l.done)
	return nil
}

func (r *reconciler) readRecord(ctx context.Context) error {
	kv, err := r.store.get(ctx, r.o.Space.Node(r.o.Node))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	r.record, r.recordOf = entry{known: true, rev: kv.Rev, value: kv.Value}, ""
	if n, err := store.DecodeNodeRecord(kv.Value); err == nil {
		r.recordOf = n.MachineID
	}
	return nil
}

// nameTaken reports whether another machine lives under our name. A record
// that does not say whose it is keeps nobody away.
func (r *reconciler) nameTaken(now time.Time) bool {
	was := r.taken
	r.taken = ""
	if r.record.rev != 0 && r.recordOf != r.o.MachineID {
		r.taken = r.recordOf
	}
	if r.taken == "" {
		return false
	}
	if was == "" {
		r.o.Event("node name taken", "another machine lives under this node's name; nothing is published", "node", r.o.Node)
	}
	r.by(now.Add(spread(min(r.o.TTL/2, r.o.AntiEntropy))))
	return true
}

// holdName makes the node's record be under the session. Where another machine
// has the name, session and entries go.
func (r *reconciler) holdName(ctx context.Context, in *wanted, now time.Time) error {
	if !r.record.known {
		if err := r.readRecord(ctx); err != nil {
			return err
		}
	}
	if r.nameTaken(now) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if err := r.session.Close(ctx); err != nil {
			return doing("close", "the session", err)
		}
		r.forgetSession()
		return nil
	}
	if r.kept.Incarnation != 0 && r.record.rev != 0 || !in.nodeSet {
		return nil
	}
	return r.writeRecord(ctx, r.nodeRecord(in), now)
}

// holdRecord writes the node's record if it differs.
func (r *reconciler) holdRecord(ctx context.Context, in *wanted, now time.Time) error {
	value := r.nodeRecord(in)
	if bytes.Equal(value, r.record.value) {
		r.recordDue = time.Time{}
		return nil
	}
	if r.recordDue.IsZero() {
		r.recordDue = now.Add(rand.N(recordEvery))
		if soonest := r.recordAt.Add(recordEvery); r.recordDue.Before(soonest) {
			r.recordDue = soonest
		}
	}
	if now.Before(r.recordDue) {
		r.by(r.recordDue)
		return nil
	}
	return r.writeRecord(ctx, value, now)
}

// nodeRecord is what the store shall say of the node.
func (r *reconciler) nodeRecord(in *wanted) []byte {
	n := in.node
	n.Region, n.MachineID, n.BootID = r.o.Region, r.o.MachineID, r.o.BootID
	if in.drain != nil || in.leave != nil {
		n.AgentState = "draining"
		if r.withdrawn() {
			n.AgentState = "drained"
		}
	}
	return n.Encode()
}

func (r *reconciler) writeRecord(ctx context.Context, value []byte, now time.Time) error {
	key := r.o.Space.Node(r.o.Node)
	rev, err := r.store.commit(ctx, []store.Cond{{Key: key, Rev: r.record.rev}}, store.PutSession(key, value, r.session))
	if err != nil {
		r.record.known = false
		if errors.Is(err, store.ErrSession) {
			return errSessionLost
		}
		return err
	}
	r.record, r.recordOf = entry{known: true, rev: rev, value: value}, r.o.MachineID
	r.recordAt, r.recordDue = now, time.Time{}
	if r.kept.Incarnation == 0 {
		r.kept.Incarnation = rev
		r.save()
	}
	return nil
}
