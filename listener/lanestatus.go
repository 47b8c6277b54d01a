package listener

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// laneInput is what a balancer's plan is made from, now.
func (a *Agent) laneInput(b config.Balancer) balancer.Input {
	in := balancer.Input{
		Kind: balancer.Kind(b.Kind), Bind: b.Bind, Port: b.Port,
		Region: a.region, RegionOrder: a.cfg.RegionOrder, Taken: map[string]int{},
	}
	for _, id := range a.table.ids {
		if m := a.table.rows[id].m; m.Environment["PORT"] != "" || usesPort(m) {
			in.Taken[id] = portOf(m.Port())
		}
	}
	for _, o := range a.cfg.Balancers {
		if o.Kind == string(balancer.Public) && o.Kind != b.Kind && (o.Bind == b.Bind || everywhere(o.Bind) || everywhere(b.Bind)) {
			in.Taken["public-balancer"] = o.Port
		}
	}
	keys := map[string]bool{}
	for key := range a.table.users {
		keys[key] = true
	}
	for key := range a.table.offerers {
		keys[key] = true
	}
	if b.Keys == "all" {
		for key := range a.view.members {
			keys[key] = true
		}
	}
	for key := range keys {
		if entries := a.balanced(key); len(entries) > 0 {
			in.Keys = append(in.Keys, balancer.Key{Name: key, Entries: entries})
		}
	}
	return in
}

// everywhere reports whether who listens on bind has the port on all addresses.
func everywhere(bind string) bool {
	addr, err := netip.ParseAddr(bind)
	return err != nil || addr.IsUnspecified()
}

// usesPort reports whether m offers {PORT}, which is its local_port when it has
// no PORT of its own: it listens there itself.
func usesPort(m *manifest.Manifest) bool {
	for _, t := range m.Provides {
		if slices.ContainsFunc(t.Parts, func(p manifest.Part) bool { return p.Builtin == "PORT" }) {
			return true
		}
	}
	return false
}

// balanced are the providers of key for a balancer. One that expired stays
// while its removal is held, or while it may be the last: whether it answers
// the balancer sees itself. A service of this node that is not published yet
// stands by, so that its frontend is there when what requires it is resolved.
func (a *Agent) balanced(key string) []balancer.Entry {
	v := a.view
	set := v.members[key]
	out := make([]balancer.Entry, 0, len(set))
	for _, k := range set {
		e := v.entries[k]
		if e.none || e.absent() && !e.kept && (e.superseded || e.accepted) {
			continue
		}
		p := e.p
		if e.absent() && !e.kept {
			p.State = store.Down // used only if nobody is up in any region
		}
		out = append(out, balancer.Entry{Region: k.region, Node: k.node, Service: k.service, Provider: p})
	}
	for _, id := range a.table.offerers[key] {
		r := a.table.rows[id]
		_, ok := r.offers[key]
		if e := v.entries[valueKey{key: key, region: a.region, node: a.node, service: id}]; !ok || e.member != nil && !e.none {
			continue
		}
		p := a.offer(id, r, key)
		p.State = store.Standby
		out = append(out, balancer.Entry{Region: a.region, Node: a.node, Service: id, Provider: p})
	}
	return out
}

// Here is what a provider's value is on this node: behind a local balancer
// that has a frontend for it, the address of that.
func (p picture) Here(key string, q resolve.Provider) string {
	for _, l := range p.a.lanes {
		if l.cfg.Kind != "local" || l.plan == nil {
			continue
		}
		entry := p.entry(key, q)
		if l.plan.Serves(key, entry.LocalPort) {
			value, _ := balancer.Rewrite(q.Text, entry, l.cfg.Bind)
			return value
		}
	}
	return q.Text
}

// entry is what a provider says of itself: this node's own services say it
// before it is in the store.
func (p picture) entry(key string, q resolve.Provider) store.Provider {
	if r := p.a.table.rows[q.Service]; r != nil && q.Node == p.a.node && q.Region == p.a.region && r.offers[key] == q.Text {
		return p.a.offer(q.Service, r, key)
	}
	if e := p.a.view.entries[valueKey{key: key, region: q.Region, node: q.Node, service: q.Service}]; e.member != nil {
		return e.p
	}
	return store.Provider{}
}

// laneDrift finds balancer files that somebody changed; with repair they are
// written, and read, again.
func (a *Agent) laneDrift(repair bool) {
	now := time.Now()
	for _, l := range a.lanes {
		if l.busy || l.plan == nil || l.err != nil || a.st.Balancers[l.cfg.Path] != l.want || l.text == nil {
			continue
		}
		drifts := render.FindDrift([]render.File{{Path: l.cfg.Path, Data: l.text, Mode: laneMode, UID: -1, GID: -1}})
		if len(drifts) == 0 {
			continue
		}
		what := drifts[0].What
		switch n := a.drift.recent(l.cfg.Path, now); {
		case n >= driftLimit:
			a.drift.found[l.cfg.Path] = fmt.Sprintf("%s for the %dth time within an hour; it is left as it is: find who else writes it", what, n+1)
		case !repair:
			a.drift.found[l.cfg.Path] = what + "; it is not repaired while the agent is off"
		default:
			a.drift.repairs[l.cfg.Path] = append(a.drift.repairs[l.cfg.Path], now)
			delete(a.st.Balancers, l.cfg.Path)
			l.told = nil
			a.timers.in(0)
			a.emit("drift repaired", l.cfg.Path+" was "+what+"; it is written again")
		}
	}
}

// laneMode is the mode of a balancer's file: addresses only, no secrets.
const laneMode = 0o644

// lanesIdle reports whether every balancer does what it should.
func (a *Agent) lanesIdle() bool {
	for _, l := range a.lanes {
		if l.busy || l.plan != nil && a.st.Balancers[l.cfg.Path] != l.want {
			return false
		}
	}
	return true
}

func (a *Agent) laneStatus() []status.Balancer {
	out := []status.Balancer{}
	for _, l := range a.lanes {
		s := l.status
		switch {
		case l.plan == nil:
			s.State = "waiting"
		case l.err != nil:
			s.State, s.Error = "failed", l.err.Error()
		case l.failed != nil:
			s.State, s.Error = "failed", l.failed.text
			if left := l.failed.next - a.now().Up; left > 0 {
				s.NextTry = time.Now().Add(left)
			}
		case a.off.holdsBalancers() && a.st.Balancers[l.cfg.Path] != l.want:
			s.State = "off"
		case l.busy || a.st.Balancers[l.cfg.Path] != l.want:
			s.State = "due"
		default:
			s.State = "ok"
		}
		if l.plan != nil {
			s.Frontends = len(l.plan.Frontends)
			for i := range l.plan.Backends {
				s.Servers += len(l.plan.Backends[i].Servers)
			}
		}
		out = append(out, s)
	}
	return out
}

// laneProblems is how many problems of one balancer are conditions of their own.
const laneProblems = 20

func (a *Agent) laneConditions(add func(status.Condition)) {
	for _, l := range a.lanes {
		failed := ""
		if l.err != nil {
			failed = l.err.Error()
		} else if l.failed != nil {
			failed = l.failed.text
		}
		if failed != "" {
			add(status.Condition{
				Name: "balancer failing", Severity: grave, Key: l.cfg.Path, Text: failed,
				Hint: "it is tried again by itself, and after each successful provision; until then the balancer goes on with what it has read",
			})
		}
		if l.plan == nil {
			continue
		}
		for i, p := range l.plan.Problems {
			if i == laneProblems {
				add(status.Condition{
					Name: "balancer", Severity: warning, Key: l.cfg.Path,
					Text: fmt.Sprintf("and %d more problems of this balancer", len(l.plan.Problems)-i),
				})
				break
			}
			add(laneProblem(p))
		}
	}
}

func laneProblem(p balancer.Problem) status.Condition {
	c := status.Condition{
		Name: "balancer entry", Severity: warning, Key: p.Key, Service: p.Provider, Text: p.String(),
		Hint: "the provider is left out of balancers; look at its manifest",
	}
	switch p.Kind {
	case balancer.Collision:
		c.Name = "balancer collision"
		c.Hint = "give them different ports or paths in their manifests"
	case balancer.Mixed:
		c.Name = "balancer mixed"
		c.Hint = "let all providers of the key agree"
	case balancer.AllDown:
		c.Name = "balancer all down"
		c.Hint = "look at the checks of its providers"
	case balancer.Elsewhere:
		c.Name = "balancer elsewhere"
		c.Severity = info
		c.Hint = "let its value name {HOST} and {PORT} if a local balancer is to stand before it"
	}
	return c
}
