package listener

import (
	"slices"
	"time"

	"github.com/listener-agent/listener/resolve"
)

// Providers are the entries of the view. This node's own services stand in
// for their entries: one that is provisioned, or about to be in the same run,
// counts as up until it is published, so that provider and consumer go in one
// run; then the published state counts, with what the service offers now.
// Before the store or its replica said anything of key they do not: an
// operator's value may outrank them.
func (p picture) Providers(key string) []resolve.Provider {
	v := p.a.view
	out := v.providers(key)
	if !v.knows(key) {
		return out
	}
	for _, id := range p.a.table.offerers[key] {
		r := p.a.table.rows[id]
		text, ready := r.offers[key]
		q := resolve.Provider{
			Region: p.a.region, Node: p.a.node, Service: id, Text: text, State: resolve.Away,
			Priority: r.m.Priority, Weight: r.m.Weight,
		}
		if ready {
			q.State = resolve.Up
		}
		k := valueKey{region: q.Region, key: key, node: q.Node, service: id}
		i := slices.IndexFunc(out, func(o resolve.Provider) bool { return o.ID() == q.ID() })
		switch e, entered := v.entries[k]; {
		case entered && !e.absent() && i < 0: // withdrawn
		case entered && !e.absent():
			if ready {
				out[i].Text = text
			}
		case i >= 0:
			out[i] = q
		default:
			out = append(out, q)
		}
	}
	return out
}

func (p picture) Memo() resolve.Memo { return p.a.table.memo }

func (p picture) Chosen(choice string) string { return p.a.st.Choices[choice] }

func (p picture) Settled(q resolve.Provider) bool { return p.a.settled(q, time.Now()) <= 0 }

// settled is how long until q has been up for failback_delay.
func (a *Agent) settled(q resolve.Provider, now time.Time) time.Duration {
	if q.UpSince.IsZero() {
		return 0
	}
	return a.cfg.Protect.FailbackDelay - now.Sub(q.UpSince)
}

// betterAt is when the first of the providers that are up, but not for long
// enough, may take over from one in use; zero: none waits to.
func (a *Agent) betterAt(res resolve.Result) time.Time {
	var at time.Time
	now := time.Now()
	for _, u := range res.Uses {
		if !u.Better {
			continue
		}
		for _, q := range (picture{a}).Providers(u.Key) {
			if left := a.settled(q, now); left > 0 && q.State == resolve.Up {
				if t := now.Add(left); at.IsZero() || t.Before(at) {
					at = t
				}
			}
		}
	}
	return at
}

// releaseProviders ends the holds on removals whose time is over, and has
// those services resolved again that a better provider may now take over.
func (a *Agent) releaseProviders() {
	now := time.Now()
	keys, next := a.view.releaseMembers(now)
	a.table.touch(keys)
	a.lanesStale = a.lanesStale || len(keys) > 0
	if next > 0 {
		a.timers.in(next)
	}
	for id, r := range a.table.rows {
		if !r.betterAt.IsZero() && !now.Before(r.betterAt) {
			a.table.stale[id] = true
		}
	}
}

// awaitBetter sets the time to look again for services that wait to go back
// to a better provider.
func (a *Agent) awaitBetter() {
	for _, r := range a.table.rows {
		if !r.betterAt.IsZero() {
			a.timers.in(time.Until(r.betterAt))
		}
	}
}

// choose remembers which providers a service that is provisioned now uses, so
// that it stays with them; the caller saves the state.
func (a *Agent) choose(id string) {
	r := a.table.rows[id]
	if r == nil || r.res.State != resolve.Ready {
		return
	}
	for _, u := range r.res.Uses {
		if choice, chosen, ok := u.Chosen(); ok && a.st.Choices[choice] != chosen {
			if a.st.Choices == nil {
				a.st.Choices = map[string]string{}
			}
			a.st.Choices[choice] = chosen
			a.table.touch([]string{u.Key})
		}
	}
}

// forgetChoices drops those of keys that no service requires any more.
func (a *Agent) forgetChoices() {
	for choice := range a.st.Choices {
		if len(a.table.users[keyOf(choice)]) == 0 {
			delete(a.st.Choices, choice)
		}
	}
}
