package listener

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// Explain says why a run will or will not happen now.
func (a *Agent) Explain(ctx context.Context) (e status.Explain, err error) {
	err = a.do(ctx, func() { e = a.explain() })
	return e, err
}

func (a *Agent) explain() status.Explain {
	now := a.now()
	e := status.Explain{Reasons: []string{}, Gates: []status.Gate{}, Due: []status.DueService{}, NotDue: []string{}, Conditions: slices.Clone(a.conds.now)}
	if !a.booted {
		e.Verdict = fmt.Sprintf("No run: the store has not answered yet; the agent waits for it until %s.", a.watch.bootUntil.Format(time.TimeOnly))
		return e
	}
	w := a.due(now)
	e.Due = a.dueServices(w)
	if w.any() || w.filesOnly() {
		e.Reasons = a.reasons(w)
	}
	kind := a.kind(w)
	closed := ""
	for _, check := range gateOrder {
		g := check(a, w, kind, now)
		sg := status.Gate{Name: g.name, Open: g.open, Why: g.why}
		if g.timed && g.wait > 0 {
			sg.Until = time.Now().Add(g.wait)
		}
		if !g.open && closed == "" {
			closed = "by the gate " + g.name + ": " + g.why
		}
		e.Gates = append(e.Gates, sg)
	}
	for _, id := range a.table.ids {
		switch r := a.table.rows[id]; r.res.State {
		case resolve.Kept:
			e.NotDue = append(e.NotDue, id+" keeps its last good values: "+strings.Join(r.res.Missing, ", ")+" missing")
		case resolve.Waiting:
			e.NotDue = append(e.NotDue, id+" waits for "+strings.Join(r.res.Missing, ", "))
		}
	}
	e.Verdict = a.verdict(w, closed)
	return e
}

func (a *Agent) verdict(w *work, closed string) string {
	switch {
	case a.exec != nil && a.moreAfter():
		return "Run " + a.exec.rs.Run.ID + " is in progress; one more starts after it."
	case a.exec != nil:
		return "Run " + a.exec.rs.Run.ID + " is in progress; nothing more is due."
	case a.adopting:
		return "A step that an agent before this one started is being waited for; nothing else runs until it has ended."
	case !w.any() && w.filesOnly():
		return "No run is due; files are written as soon as changes have settled."
	case !w.any() && len(a.table.rows) == 0:
		return "No run: there are no manifests."
	case !w.any() && !w.ready:
		return "No run: no service has everything that it requires."
	case !w.any() && a.off.is:
		return "No run: nothing is due; and the agent is " + a.off.text() + "."
	case !w.any():
		return "No run: every ready service has been provisioned with its present values."
	case closed != "":
		return "A run is due, but held " + closed + "."
	}
	return "A run is due and starts now."
}

// Resolve says what each variable of a service is and why.
func (a *Agent) Resolve(ctx context.Context, service string, reveal bool) (out []status.Resolved, err error) {
	doErr := a.do(ctx, func() {
		r := a.table.rows[service]
		if r == nil {
			err = fmt.Errorf("service %s: %w", service, store.ErrNotFound)
			return
		}
		a.resolve()
		out = a.resolved(r, reveal)
	})
	if doErr != nil {
		return nil, doErr
	}
	return out, err
}

// redacted stands for a value unless it was asked for.
const redacted = "(redacted)"

func (a *Agent) resolved(r *row, reveal bool) []status.Resolved {
	values := map[string]string{}
	for _, v := range r.res.Vars {
		values[v.Name] = v.Value
	}
	answers := map[string]resolve.Use{}
	for _, u := range r.res.Uses {
		answers[u.ID] = u
	}
	names := make([]string, 0, len(r.m.Environment)+len(r.m.Requires))
	for name := range r.m.Environment {
		names = append(names, name)
	}
	for name := range r.m.Requires {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]status.Resolved, 0, len(names))
	for _, name := range names {
		v, present := values[name]
		res := status.Resolved{Service: r.m.ID, Name: name, Value: v, Present: present, Keys: []status.ResolvedKey{}}
		for _, p := range r.m.Requires[name].Parts {
			if p.Key != "" {
				res.Keys = append(res.Keys, a.resolvedKey(answers[resolve.PlaceholderID(p)]))
			}
		}
		if len(res.Keys) > 0 && present && !reveal {
			res.Value = redacted
		}
		out = append(out, res)
	}
	return out
}

func (a *Agent) resolvedKey(u resolve.Use) status.ResolvedKey {
	ans := u.Answer
	k := status.ResolvedKey{Key: u.Key, Revision: ans.Rev, Why: u.Why}
	switch ans.Rank {
	case resolve.RegionValue:
		k.Origin, k.Seen = "value of region "+ans.Region, a.view.seenAt(ans.Region, u.Key)
	case resolve.Value:
		k.Origin, k.Seen = "value", a.view.seenAt("", u.Key)
	case resolve.OwnRegion, resolve.NextRegion:
		k.Origin, k.Seen = "provider "+ans.Provider, a.view.providerSeen(u)
		if ans.Rank == resolve.NextRegion {
			k.Origin += " of region " + ans.Region
		}
	case resolve.RegionDefault:
		k.Origin = "attributes of region " + ans.Region
	case resolve.General:
		k.Origin = "attributes"
	case resolve.Default:
		k.Origin = "default"
	default:
		k.Origin = "missing"
	}
	switch {
	case ans.LastGood:
		k.Origin, k.Why = "last known good ("+k.Origin+")", a.view.whyUnproven(u.Key)
	case a.view.holds(u.Key):
		k.Why = "held: " + wentBack
	}
	return k
}
