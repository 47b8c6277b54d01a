package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
)

// reconciler is what Run's goroutine owns.
type reconciler struct {
	p     *Publisher
	o     Options
	store bounded
	// running are the checks and the watches of claims.
	running sync.WaitGroup

	kept    memory
	saved   memory
	saveErr error

	session store.Session // nil: none
	// resumed: the session is that of an earlier process, which may have had
	// another one since without our knowing.
	resumed bool
	// leavers is the session of entries that leave, until they are written.
	leavers store.Session

	record    entry
	recordOf  string    // the machine that it names
	recordAt  time.Time // when it was last written
	recordDue time.Time // when it is to be written; zero: it is as it should be
	taken     string    // the machine that has our name; "": nobody

	own    map[string]*own   // by key in the store
	claims map[string]*claim // by ticket
	// released are tickets that were given back, and are not known to be there again.
	released map[string]bool
	since    map[string]time.Time

	// compareAt is when what we know of the store is read again.
	compareAt time.Time
	fault     fault // of the store as a whole
	next      time.Time
}

func newReconciler(p *Publisher) *reconciler {
	return &reconciler{
		p: p, o: p.o, store: bounded{p.o.Store}, kept: p.kept, saved: p.kept,
		own: map[string]*own{}, claims: map[string]*claim{}, released: map[string]bool{}, since: map[string]time.Time{},
	}
}

// end leaves entries and session to the next process.
func (r *reconciler) end() {
	r.running.Wait()
	if r.session != nil {
		r.session.Orphan()
	}
	if r.leavers != nil {
		r.leavers.Orphan()
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.p.kept = r.kept
	clear(r.p.health)
}

// lost is closed when the session is; nil, which blocks, without one.
func (r *reconciler) lost() <-chan struct{} {
	if r.session == nil || time.Now().Before(r.fault.until) {
		return nil
	}
	return r.session.Done()
}

// turn does what is to be done now and returns when to look again.
func (r *reconciler) turn(ctx context.Context) time.Time {
	now := time.Now()
	r.next = now.Add(r.o.AntiEntropy)
	in := r.p.wanted()
	r.follow(ctx, in.services)
	r.tellChecks()
	r.expect(&in, now)
	if now.Before(r.fault.until) {
		r.by(r.fault.until)
	} else {
		err := r.reconcile(ctx, &in, now)
		switch {
		case ctx.Err() != nil:
			return now
		case errors.Is(err, errSessionLost):
			r.loseSession(now)
		default:
			r.fault.set(err, time.Now())
		}
		if !r.fault.until.IsZero() {
			r.by(r.fault.until)
		}
	}
	r.save()
	r.report(&in)
	return r.next
}

// by makes the next turn come at t, if it would come later.
func (r *reconciler) by(t time.Time) {
	if t.Before(r.next) {
		r.next = t
	}
}

func (p *Publisher) wanted() wanted {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in
}

// reconcile makes the store hold what is wanted. An error is one of the store
// as a whole; those of single entries are kept with them.
func (r *reconciler) reconcile(ctx context.Context, in *wanted, now time.Time) error {
	if in.leave != nil && closed(in.leave.done) {
		return nil
	}
	if err := r.holdSession(ctx, in, now); err != nil {
		return err
	}
	if r.session == nil || !in.nodeSet && in.leave == nil {
		return nil
	}
	if !now.Before(r.compareAt) {
		r.doubt()
		r.compareAt = now.Add(spread(r.o.AntiEntropy))
	}
	r.by(r.compareAt)
	if err := r.holdName(ctx, in, now); err != nil || r.session == nil {
		return err
	}
	if !in.told() {
		return nil
	}
	if err := r.holdEntries(ctx, now); err != nil {
		return err
	}
	if in.leave != nil && r.withdrawn() {
		return r.closeSession(ctx, in.leave)
	}
	return r.holdRecord(ctx, in, now)
}

// doubt makes everything be read again.
func (r *reconciler) doubt() {
	r.record.known = false
	for _, o := range r.own {
		o.known = false
	}
	for _, c := range r.claims {
		c.known = false
	}
	clear(r.released)
}

// save keeps what the next process needs. Where it cannot, the node goes on;
// the next process will have to begin anew.
func (r *reconciler) save() {
	if r.saveErr == nil && r.kept.equal(r.saved) {
		return
	}
	if r.saveErr = r.kept.save(r.o.StateDir); r.saveErr == nil {
		r.saved = r.kept
	}
}

// fault is something that fails and is tried again.
type fault struct {
	err   error
	since time.Time
	until time.Time // the next try
	pause time.Duration
}

// The pauses between tries: decorrelated jitter.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
)

func (f *fault) set(err error, now time.Time) {
	if err == nil {
		*f = fault{}
		return
	}
	if f.err == nil {
		f.since = now
	}
	f.err = err
	f.pause = min(longestPause, firstPause+rand.N(max(1, 3*f.pause-firstPause)))
	f.until = now.Add(f.pause)
}

// spread is d, up to a tenth shorter or longer: many nodes that started
// together do not stay together.
func spread(d time.Duration) time.Duration { return d - d/10 + rand.N(max(1, d/5)) }

// callTimeout is how long one call of the store may hold everything up.
const callTimeout = 10 * time.Second

// bounded is a store whose calls end, and whose errors name the key.
type bounded struct{ s store.Store }

func (b bounded) get(ctx context.Context, key string) (store.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := b.s.Get(ctx, key)
	return kv, doing("read", key, err)
}

func (b bounded) list(ctx context.Context, prefix string) ([]store.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kvs, _, err := b.s.List(ctx, prefix)
	return kvs, doing("list", prefix, err)
}

func (b bounded) commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	rev, err := b.s.Commit(ctx, conds, ops...)
	what := ops[0].Key
	if n := len(ops) - 1; n > 0 {
		what = fmt.Sprintf("%s and %d more", what, n)
	}
	return rev, doing("write", what, err)
}

func (b bounded) session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := b.s.Session(ctx, ttl, resume)
	if err != nil {
		return nil, fmt.Errorf("start a session: %w", err)
	}
	return s, nil
}

func doing(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, key, err)
}

// isolated reports whether err is about what was written, not about the store.
func isolated(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrPermission) || errors.Is(err, store.ErrInvalid) ||
		errors.Is(err, errSuperseded)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
