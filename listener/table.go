package listener

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

// table holds every service in force, resolved. After a change only what it
// touches is resolved again. The loop's goroutine owns it.
type table struct {
	a    *Agent
	rows map[string]*row
	ids  []string // sorted

	users    map[string][]string // key → services that require it
	offerers map[string][]string // key → services of this node that provide it
	required []string            // all keys that are required, sorted
	needed   map[string]bool     // those of services and balancers
	followed []string            // those that the watch follows: needed, or all
	stale    map[string]bool
	memo     resolve.Memo // while resolve goes through the services, and nothing else changes
}

// row is one service in force.
type row struct {
	m      *manifest.Manifest
	res    resolve.Result
	digest string            // of what a run would provision now; "" when not ready
	offers map[string]string // key → value of what it provides here, once up
	// asApplied is the service's last good state if a run would change nothing
	// of it; nil: it would, or nobody has looked yet.
	asApplied *resolve.Good
	// offerMissing names a built-in that its provides lack, such as HOST.
	offerMissing string
	// checkMissing is the same of its check.
	checkMissing string
	// betterAt is when a better provider than one in use may take over; zero: none is up.
	betterAt time.Time
	// refile: its files may be other ones than were written, or of another
	// mode or owner, although nothing that a run would provision differs.
	refile bool
}

func newTable(a *Agent) *table {
	return &table{a: a, rows: map[string]*row{}, stale: map[string]bool{}}
}

// setManifests takes the set in force and says in words what differs.
func (t *table) setManifests(s *services) string {
	var added, changed, removed []string
	for id, f := range s.active {
		switch old := t.rows[id]; {
		case old == nil:
			st := t.a.st.service(id)
			t.rows[id] = &row{m: f.m, refile: st.Good != nil && !slices.Equal(st.Files, t.a.envPaths(id))}
			added = append(added, id)
		case old.m != f.m:
			t.rows[id] = &row{m: f.m, refile: true}
			changed = append(changed, id)
		}
	}
	for id := range t.rows {
		if s.active[id] == nil {
			delete(t.rows, id)
			removed = append(removed, id)
		}
	}
	t.index()
	t.staleAll()
	t.a.pub.stale, t.a.lanesStale = true, true
	var words []string
	for _, w := range [...]struct {
		name string
		ids  []string
	}{{"new", added}, {"changed", changed}, {"removed", removed}} {
		if len(w.ids) > 0 {
			slices.Sort(w.ids)
			words = append(words, w.name+" "+shorten(w.ids, 8))
		}
	}
	return strings.Join(words, "; ")
}

// index builds who requires and who provides each key.
func (t *table) index() {
	t.ids = slices.Sorted(maps.Keys(t.rows))
	t.users, t.offerers = map[string][]string{}, map[string][]string{}
	for _, id := range t.ids {
		m := t.rows[id].m
		for _, key := range m.RequiredKeys() {
			t.users[key] = append(t.users[key], id)
		}
		for key := range m.Provides {
			t.offerers[key] = append(t.offerers[key], id)
		}
	}
	t.needed = map[string]bool{}
	for key := range t.users {
		t.needed[key] = true
	}
	if len(t.a.cfg.Balancers) > 0 {
		for key := range t.offerers {
			t.needed[key] = true
		}
	}
	if slices.ContainsFunc(t.a.cfg.Balancers, func(b config.Balancer) bool { return b.Keys == "all" }) {
		t.needed[allProviders] = true
	}
	t.required = slices.Sorted(maps.Keys(t.users))
	t.followed = slices.Sorted(maps.Keys(t.needed))
	if t.a.cfg.Store.Replica == "all" {
		t.followed = []string{allProviders, allValues}
	}
}

// keys are those to follow, sorted.
func (t *table) keys() []string { return t.followed }

func (t *table) staleAll() {
	for id := range t.rows {
		t.stale[id] = true
	}
}

// touch marks the services that require one of keys.
func (t *table) touch(keys []string) {
	for _, k := range keys {
		for _, id := range t.users[k] {
			t.stale[id] = true
		}
	}
}

// resolve brings every stale service up to date. What a service offers on
// this node may make others stale in turn; readiness only grows within one
// call or only shrinks with the view, so that this ends.
func (t *table) resolve() {
	t.memo = resolve.Memo{}
	defer func() { t.memo = nil }()
	for round := 0; len(t.stale) > 0 && round <= len(t.rows)+1; round++ {
		ids := slices.Sorted(maps.Keys(t.stale))
		clear(t.stale)
		for _, id := range ids {
			if r := t.rows[id]; r != nil {
				t.resolveRow(id, r)
			}
		}
	}
}

func (t *table) resolveRow(id string, r *row) {
	st := t.a.st.service(id)
	r.res = resolve.Service(r.m, t.a.nodeFacts(), picture{t.a}, st.Good)
	r.betterAt = t.a.betterAt(r.res)
	was := r.digest
	r.digest, r.asApplied = "", nil
	if r.res.State == resolve.Ready {
		r.digest = t.a.dig.service(r.m, r.res, digestVersion)
	}
	if r.digest != was {
		t.a.noteMeanwhile()
	}
	offers, missing := map[string]string(nil), ""
	switch {
	case len(r.m.Provides) == 0 || r.res.State == resolve.Waiting:
	case r.res.State == resolve.Kept: // what the manifest says now it is not provisioned with
		offers = keptOffers(r.m, st.Offers)
	default:
		offers, missing = t.offers(r.m)
	}
	if !maps.Equal(offers, r.offers) {
		r.offers = offers
		clear(t.memo)
		t.a.lanesStale = true
		for key := range r.m.Provides {
			t.touch([]string{key})
		}
	}
	r.offerMissing, r.checkMissing = missing, t.checkMissing(r.m)
	t.a.pub.stale = true
}

// keptOffers are the values of what m provides still, as they were offered.
func keptOffers(m *manifest.Manifest, offers map[string]store.Provider) map[string]string {
	var out map[string]string
	for key := range m.Provides {
		if p, ok := offers[key]; ok {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = p.Value
		}
	}
	return out
}

// offers expands what m provides on this node.
func (t *table) offers(m *manifest.Manifest) (map[string]string, string) {
	out := make(map[string]string, len(m.Provides))
	for key, tmpl := range m.Provides {
		text, missing := resolve.Offer(m, t.a.nodeFacts(), tmpl)
		if missing != "" {
			return nil, missing
		}
		out[key] = text
	}
	return out, ""
}

// checkMissing names a built-in that the check of m lacks on this node.
func (t *table) checkMissing(m *manifest.Manifest) string {
	if m.Check == nil {
		return ""
	}
	all := slices.Clone(m.Check.Exec)
	for _, one := range [...]*manifest.Template{m.Check.HTTP, m.Check.TCP} {
		if one != nil {
			all = append(all, *one)
		}
	}
	for _, tmpl := range all {
		if _, missing := resolve.Offer(m, t.a.nodeFacts(), tmpl); missing != "" {
			return missing
		}
	}
	return ""
}

// due reports whether a run would provision the service, for its own sake.
func (t *table) due(id string) bool {
	r, st := t.rows[id], t.a.st.service(id)
	switch r.res.State {
	case resolve.Ready:
		return st.Dirty || !t.applied(r, st)
	case resolve.Kept:
		return st.Dirty
	}
	return false
}

// applied reports whether the last success was with what r is now; a digest
// of an older version is compared the way it was made.
func (t *table) applied(r *row, st *serviceState) bool {
	if st.Applied.Version == digestVersion || st.Applied.Version == 0 {
		return st.Applied.Digest == r.digest
	}
	return st.Applied.Digest == t.a.dig.service(r.m, r.res, st.Applied.Version)
}

// candidate is what becomes true of the service when its step succeeds now.
func (t *table) candidate(id string) candidate {
	r, st := t.rows[id], t.a.st.service(id)
	applied := candidate{Inputs: st.Applied, Good: st.Good, Files: t.a.envPaths(id)}
	if r.res.State == resolve.Kept || r.asApplied != nil && r.asApplied == st.Good {
		return applied
	}
	good := &resolve.Good{
		Vars: make(map[string]string, len(r.res.Vars)),
		Uses: make(map[string]resolve.Answer, len(r.res.Uses)),
	}
	for _, v := range r.res.Vars {
		good.Vars[v.Name] = v.Value
	}
	for _, u := range r.res.Uses {
		if u.Answer.Rank != resolve.None {
			good.Uses[u.ID] = u.Answer
		}
	}
	c := candidate{Inputs: t.a.dig.inputs(r.m, r.res), Good: good, Files: applied.Files, Offers: t.a.offersOf(id, r)}
	if st.Good != nil && equalInputs(c.Inputs, st.Applied) && maps.Equal(good.Vars, st.Good.Vars) && maps.Equal(good.Uses, st.Good.Uses) {
		r.asApplied = st.Good
		return applied
	}
	return c
}

// uses are the answers that c was made of, sorted by ID.
func (t *table) uses(id string, c candidate) []resolve.Use {
	uses := make([]resolve.Use, 0, len(c.Good.Uses))
	if r := t.rows[id]; r.res.State == resolve.Ready { // as resolved, which is sorted
		for _, u := range r.res.Uses {
			if u.Answer.Rank != resolve.None {
				uses = append(uses, u)
			}
		}
		return uses
	}
	for _, pid := range slices.Sorted(maps.Keys(c.Good.Uses)) {
		uses = append(uses, resolve.Use{ID: pid, Key: keyOf(pid), Answer: c.Good.Uses[pid]})
	}
	return uses
}

// settled reports whether success with c would change nothing but the time.
func (t *table) settled(id string, c candidate) bool {
	st := t.a.st.service(id)
	return !st.Dirty && st.Good != nil && st.Good == c.Good && slices.Equal(st.Files, c.Files)
}

// appliedAt is when the service was last provisioned. The success of a node
// step counts for all of its services, and is recorded once.
func (a *Agent) appliedAt(id string) time.Time {
	st := a.st.service(id)
	if r := a.table.rows[id]; r != nil && st.Good != nil && a.stepOf(r.m) == nodeStep && a.st.NodeAt.After(st.AppliedAt) {
		return a.st.NodeAt
	}
	return st.AppliedAt
}

// changedKeys names the keys whose value differs from what was last applied.
func (t *table) changedKeys(id string) []string {
	r := t.rows[id]
	if r.res.State != resolve.Ready {
		return nil
	}
	return changed(t.a.st.service(id).Applied, t.a.dig.inputs(r.m, r.res))
}

// picture shows the agent's view, attributes and own services to resolve.
type picture struct{ a *Agent }

func (p picture) Value(region, key string) (resolve.Entry, bool) { return p.a.view.value(region, key) }
func (p picture) Proven(key string) bool                         { return p.a.view.proven(key) }
func (p picture) Replica() bool                                  { return !p.a.view.reset }
func (p picture) Known(key string) bool                          { return p.a.view.knows(key) }
func (p picture) Awaited(key string) bool                        { return p.a.awaited(key) }

func (p picture) Attribute(region, key string) (string, bool) {
	if region == "" {
		s, ok := p.a.attrs.General[key]
		return s, ok
	}
	s, ok := p.a.attrs.Regions[region][key]
	return s, ok
}

func (a *Agent) nodeFacts() resolve.Node {
	return resolve.Node{
		Name: a.node, Host: a.host, Region: a.region,
		Federation: a.space.Federation, RegionOrder: a.cfg.RegionOrder,
	}
}

// shorten joins at most n names and counts the rest.
func shorten(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}
