package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/listener-agent/listener/store"
)

// claim is our place in the queue for an exclusive key: a ticket under the
// node's session, never written again. The oldest ticket there is holds the
// key, and its create revision is the fencing token. Who waits watches the
// ticket before its own, so that one end wakes one waiter.
type claim struct {
	ticket string
	rev    uint64 // of the ticket
	known  bool   // false: the queue has to be read
	token  uint64 // 0: others are before us
	holder string // node/service of the oldest ticket
	stop   context.CancelFunc
}

// ticket is where the claim of o has its place. A ticket of an earlier
// incarnation is another one: it dies with the session that it is under.
func (r *reconciler) ticket(o *own) string {
	return r.o.Space.Key("locks", "claim-"+o.key, r.o.Region, r.o.Node, o.service, strconv.FormatUint(r.kept.Incarnation, 10))
}

// holdClaim sets o.token, and makes o a standby if others are before us.
func (r *reconciler) holdClaim(ctx context.Context, o *own) error {
	t := r.ticket(o)
	c := r.claims[t]
	if c == nil {
		c = &claim{ticket: t, stop: func() {}}
		r.claims[t] = c
	}
	if !c.known || r.p.ticketMoved(t) {
		if err := r.queue(ctx, o, c); err != nil {
			c.known = false
			return err
		}
	}
	if o.token = c.token; o.token == 0 {
		o.want, o.why = store.Standby, "the claim is held by "+clip(c.holder)
	}
	return nil
}

// queue finds our place, taking one if there is none.
func (r *reconciler) queue(ctx context.Context, o *own, c *claim) error {
	prefix := r.o.Space.Key("locks", "claim-"+o.key) + "/"
	all, err := r.store.list(ctx, prefix)
	if err != nil {
		return err
	}
	mine := func(kv store.KV) bool { return kv.Key == c.ticket }
	if !slices.ContainsFunc(all, mine) {
		if err := r.takeTicket(ctx, o, c); err != nil {
			return err
		}
		if all, err = r.store.list(ctx, prefix); err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b store.KV) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Key, b.Key))
	})
	at := slices.IndexFunc(all, mine)
	if at < 0 {
		return doing("find", c.ticket, store.ErrConflict) // it went again
	}
	c.known, c.rev, c.token, c.holder = true, all[at].Rev, 0, r.holder(all[0].Key)
	follow := all[at : at+1]
	if at == 0 {
		c.token = all[0].Created
	} else {
		follow = all[at-1 : at+1]
	}
	r.watchTickets(ctx, c, follow)
	return nil
}

func (r *reconciler) takeTicket(ctx context.Context, o *own, c *claim) error {
	r.kept.Tickets = with(r.kept.Tickets, c.ticket)
	delete(r.released, c.ticket)
	r.save()
	body, err := json.Marshal(map[string]any{"node": r.o.Node, "service": o.service, "incarnation": r.kept.Incarnation})
	if err != nil {
		panic(err) // a map of plain values
	}
	_, err = r.store.commit(ctx, []store.Cond{{Key: c.ticket}}, store.PutSession(c.ticket, body, r.session))
	switch {
	case errors.Is(err, store.ErrSession):
		return errSessionLost
	case errors.Is(err, store.ErrConflict): // an earlier try was applied after all
		return nil
	}
	return err
}

// holder names who has a ticket, as NODE/SERVICE.
func (r *reconciler) holder(ticket string) string {
	if parts, ok := r.o.Space.Parts(ticket); ok && len(parts) == 6 {
		return parts[3] + "/" + parts[4]
	}
	return ticket
}

// watchTickets has the queue read again when one of the tickets goes: the one
// before ours, or ours, which an operator may have removed. One that is created
// anew went before, which a watch may have skipped.
func (r *reconciler) watchTickets(ctx context.Context, c *claim, tickets []store.KV) {
	c.stop()
	ctx, c.stop = context.WithCancel(ctx)
	r.p.ticketMoved(c.ticket) // told before this look
	keys, created := make([]string, 0, len(tickets)), make(map[string]uint64, len(tickets))
	for _, t := range tickets {
		keys, created[t.Key] = append(keys, t.Key), t.Created
	}
	moved := func(u store.Update) bool {
		return len(u.Gone) > 0 || u.Kind == store.Reset && len(u.KVs) < len(keys) ||
			slices.ContainsFunc(u.KVs, func(kv store.KV) bool { return kv.Created != created[kv.Key] })
	}
	updates := r.p.o.Store.Watch(ctx, keys...)
	r.running.Go(func() {
		for u := range updates {
			if ctx.Err() == nil && moved(u) {
				r.p.moveTicket(c.ticket)
			}
		}
	})
}

// unclaim lets a claim go; its ticket is removed with the next write.
func (r *reconciler) unclaim(ticket string) {
	if c := r.claims[ticket]; c != nil {
		c.stop()
		delete(r.claims, ticket)
	}
}

func (p *Publisher) moveTicket(ticket string) {
	p.mu.Lock()
	p.moved[ticket] = true
	p.mu.Unlock()
	p.poke()
}

// ticketMoved reports whether a watch saw something, once.
func (p *Publisher) ticketMoved(ticket string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	moved := p.moved[ticket]
	delete(p.moved, ticket)
	return moved
}
