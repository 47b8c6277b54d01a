package publish

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// report makes the present state the Publisher's status.
func (r *reconciler) report(in *wanted) {
	s := Status{Publishing: status.Publishing{Incarnation: r.kept.Incarnation, Published: []status.Published{}}}
	if r.session != nil {
		s.Session = r.session.ID()
	}
	s.Drain = in.drain.status(r.o.DrainWait, time.Now(), in.servicesSet && r.withdrawn())
	for _, o := range r.own {
		if !o.offered && o.known && o.rev == 0 {
			continue // it left, and is gone
		}
		s.Published = append(s.Published, o.status())
	}
	slices.SortFunc(s.Published, func(a, b status.Published) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Service, b.Service))
	})
	s.Conditions = r.conditions(in)
	r.p.tell(s)
}

func (o *own) status() status.Published {
	p := status.Published{
		Key: o.key, Service: o.service, State: string(o.provider.State),
		Why: o.why, Since: o.since, Revision: o.rev, Claim: o.provider.Claim,
	}
	if o.want != "" && o.want != o.provider.State && !(o.want == store.Left && o.rev == 0) {
		p.Want = string(o.want)
	}
	switch {
	case o.bad != nil:
		p.Error = clip(o.bad.Error())
	case o.fault.err != nil:
		p.Error = clip(o.fault.err.Error())
	}
	return p
}

// conditions are what an operator should know of.
func (r *reconciler) conditions(in *wanted) []status.Condition {
	var all []status.Condition
	add := func(severity, name, text, hint string) *status.Condition {
		all = append(all, status.Condition{Name: name, Severity: severity, Text: text, Hint: hint})
		return &all[len(all)-1]
	}
	if r.taken != "" {
		add("error", "node name taken", fmt.Sprintf("machine %s lives under the name %s; this node publishes nothing", clip(r.taken), r.o.Node),
			"give one of the two another name: the setting node")
	}
	if r.fault.err != nil {
		name, hint := failure(r.fault.err)
		add("error", name, "nothing can be published: "+clip(r.fault.err.Error()), hint).Since = r.fault.since
	}
	if r.saveErr != nil {
		add("warning", "publish state", clip(r.saveErr.Error()), "the next start of the agent will publish anew")
	}
	if in.drain != nil {
		text := "the node is out of service: " + in.drain.Who
		if in.drain.Reason != "" {
			text += ": " + in.drain.Reason
		}
		add("info", "drained", text, "listener undrain").Since = in.drain.Since
	}
	for _, path := range sortedKeys(r.own) {
		r.entryCondition(r.own[path], add)
	}
	r.checkConditions(add)
	return r.date(all)
}

type adder func(severity, name, text, hint string) *status.Condition

func (r *reconciler) entryCondition(o *own, add adder) {
	switch {
	case o.bad != nil:
		c := add("error", "entry refused", clip(o.bad.Error()), "mend provides in the manifest")
		c.Service, c.Key = o.service, o.key
	case errors.Is(o.fault.err, errSuperseded):
		c := add("error", "superseded", clip(o.fault.err.Error()), "stop the other agent that uses this node's name on this machine")
		c.Service, c.Key, c.Since = o.service, o.key, o.fault.since
	case o.fault.err != nil && !errors.Is(o.fault.err, store.ErrConflict):
		name, hint := failure(o.fault.err)
		c := add("warning", name, clip(o.fault.err.Error()), hint)
		c.Service, c.Key, c.Since = o.service, o.key, o.fault.since
	}
}

func (r *reconciler) checkConditions(add adder) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	for _, id := range sortedKeys(r.p.health) {
		h := r.p.health[id]
		if h.verdict != down {
			continue
		}
		c := add("warning", "check down", cmp.Or(h.err, "it does not pass often enough in a row yet"), "see checks in listener status -o json")
		c.Service, c.Since = id, h.since
	}
}

// failure names what went wrong at the store.
func failure(err error) (name, hint string) {
	if errors.Is(err, store.ErrPermission) {
		return "permission denied", "grant it to this node's credential: listener acl prints the roles"
	}
	return "publish failing", "it is tried again until it works"
}

// date fills in since when a condition holds, where nothing else knows.
func (r *reconciler) date(all []status.Condition) []status.Condition {
	now, held := time.Now(), map[string]bool{}
	for i := range all {
		c := &all[i]
		id := c.Name + "\x00" + c.Service + "\x00" + c.Key
		held[id] = true
		if c.Since.IsZero() {
			if r.since[id].IsZero() {
				r.since[id] = now
			}
			c.Since = r.since[id]
		}
	}
	maps.DeleteFunc(r.since, func(id string, _ time.Time) bool { return !held[id] })
	return all
}
