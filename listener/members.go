package listener

import (
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

const (
	// protectWindow is the time within which expiries count together.
	protectWindow = time.Minute
	// protectGrace is for how long an expiry can still become held: who expired
	// before that was let go already, and is not brought back.
	protectGrace = 2 * time.Second
)

// member is what an entry of the view knows of a provider.
type member struct {
	// p is the entry; while that cannot be read, what it was before, down; zero
	// when there was never a good one.
	p store.Provider
	// upSince is since when this agent sees it up; zero: it is not.
	upSince time.Time
	// expired is when it was seen to be gone although nobody withdrew it;
	// zero: it is there. It stays in the view as long as that matters.
	expired time.Time
	// kept: it expired together with many others, so that its removal is held.
	kept bool
	// superseded: it expired, but others of its key and region served then or
	// later, so that it was not the last one.
	superseded bool
	// accepted: it is away, and an operator said that it is meant to be.
	accepted bool
}

// absent reports whether the store no longer has it.
func (m *member) absent() bool { return m != nil && !m.expired.IsZero() }

// serves reports whether it is there and up.
func (m *member) serves() bool { return m != nil && m.expired.IsZero() && m.p.State == store.Up }

// serving are the states whose end is a loss: one that left or never served is not missed.
func serving(s store.State) bool { return s == store.Up || s == store.Down || s == store.Draining }

// putMember takes a provider's entry. One that cannot be read spoils itself
// only: it is down, and told.
func (v *view) putMember(k valueKey, kv store.KV, now time.Time) {
	old, had := v.entries[k]
	e := entry{text: string(kv.Value), rev: kv.Rev, seen: now, member: &member{}}
	if had && old.rev == kv.Rev {
		e.seen = old.seen
	}
	p, err := store.DecodeProvider(kv.Value)
	if err != nil {
		e.bad, e.none = err.Error(), !had || old.none
		if !e.none {
			p = old.p
			p.State = store.Down
		}
	}
	for _, value := range [...]valueKey{{key: k.key}, {key: k.key, region: v.region}} {
		if v.gone[value] < kv.Rev {
			delete(v.gone, value)
		}
	}
	e.p = p
	e.accepted = had && old.accepted && p.State != store.Up
	if p.State == store.Up {
		e.upSince = now
		if had && old.serves() {
			e.upSince = old.upSince
		}
		delete(v.accepted, k.key)
	}
	v.set(k, e)
}

// loseMember takes the end of an entry: one that expired stays for as long as
// it may be the last of its key, as nobody proved that it is meant to be gone.
func (v *view) loseMember(k valueKey, expired bool, now time.Time) {
	e, had := v.entries[k]
	switch {
	case !had || e.absent():
	case expired && serving(e.p.State):
		m := *e.member
		m.expired, m.upSince = now, time.Time{}
		e.member = &m
		if e.bad != "" {
			e.text, e.bad = string(m.p.Encode()), ""
		}
		v.set(k, e)
		v.expiries = append(v.expiries, k)
	default:
		v.del(k)
	}
}

// protectMembers holds the removal of what expired within protectWindow when
// that is more than the settings allow.
func (v *view) protectMembers(now time.Time) {
	if len(v.expiries) == 0 {
		return
	}
	v.expiries = slices.DeleteFunc(v.expiries, func(k valueKey) bool {
		e := v.entries[k]
		return !e.absent() || now.Sub(e.expired) >= protectWindow
	})
	n := len(v.expiries)
	if n <= v.protect.HoldMin || v.protect.HoldMax <= 0 {
		return
	}
	total := n
	for _, set := range v.members {
		for _, k := range set {
			if e := v.entries[k]; !e.absent() && serving(e.p.State) {
				total++
			}
		}
	}
	if n*100 <= v.protect.HoldPercent*total {
		return
	}
	for _, k := range v.expiries {
		e := v.entries[k]
		e.kept = e.kept || now.Sub(e.expired) < protectGrace
		v.keeps = v.keeps || e.kept
	}
}

// supersede looks which expired providers of key still matter.
func (v *view) supersede(key string, now time.Time) {
	regions := map[string]bool{}
	some := false
	for _, k := range v.members[key] {
		e := v.entries[k]
		some = some || e.absent()
		if e.serves() {
			regions[k.region] = true
		}
	}
	if !some {
		return
	}
	v.members[key] = slices.DeleteFunc(v.members[key], func(k valueKey) bool {
		e := v.entries[k]
		if !e.absent() {
			return false
		}
		e.superseded = e.superseded || regions[k.region]
		over := e.superseded && !e.kept && now.Sub(e.expired) >= protectWindow
		if over {
			delete(v.entries, k)
		}
		return over
	})
	if len(v.members[key]) == 0 {
		delete(v.members, key)
	}
}

// releaseMembers ends holds that lasted for hold_max; next is how long until
// one more does, 0: none is held.
func (v *view) releaseMembers(now time.Time) (keys []string, next time.Duration) {
	if !v.keeps {
		return nil, 0
	}
	for key, set := range v.members {
		for _, k := range set {
			e := v.entries[k]
			if !e.absent() || !e.kept {
				continue
			}
			left := v.protect.HoldMax - now.Sub(e.expired)
			if left <= 0 {
				e.kept = false
				keys = append(keys, key)
				continue
			}
			if next == 0 || left < next {
				next = left
			}
		}
	}
	v.keeps = next > 0
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, key := range keys {
		v.supersede(key, now)
	}
	return keys, next
}

// keptMembers are the providers whose removal is held, sorted by key.
func (v *view) keptMembers() (keys []string, n int) {
	if !v.keeps {
		return nil, 0
	}
	for key, set := range v.members {
		had := n
		for _, k := range set {
			if e := v.entries[k]; e.absent() && e.kept {
				n++
			}
		}
		if n > had {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, n
}

// acceptMembers ends the holds on removals, of key or with "" of all, and
// names the keys.
func (v *view) acceptMembers(key string) (keys []string) {
	for of, set := range v.members {
		if key != "" && of != key {
			continue
		}
		for _, k := range set {
			if e := v.entries[k]; e.absent() && e.kept {
				e.kept = false
				keys = append(keys, of)
			}
		}
	}
	return keys
}

// ofProviders reports whether a change is one of providers, too.
func (v *view) ofProviders(u store.Update) bool {
	of := func(key string) bool {
		k, ok := v.place(key)
		return ok && k.provider()
	}
	return slices.ContainsFunc(u.KVs, func(kv store.KV) bool { return of(kv.Key) }) ||
		slices.ContainsFunc(u.Gone, func(g store.Gone) bool { return of(g.Key) })
}

// providers are the entries of key, as resolve asks of them.
func (v *view) providers(key string) []resolve.Provider {
	set := v.members[key]
	if len(set) == 0 {
		return nil
	}
	out := make([]resolve.Provider, 0, len(set))
	for _, k := range set {
		e := v.entries[k]
		p := resolve.Provider{
			Region: k.region, Node: k.node, Service: k.service,
			Text: e.p.Value, Rev: e.rev, State: v.memberState(e),
			Priority: e.p.Priority, Weight: e.p.Weight, UpSince: e.upSince,
		}
		if p.State == resolve.Gone {
			continue
		}
		out = append(out, p)
	}
	return out
}

func (*view) memberState(e entry) resolve.ProviderState {
	switch {
	case e.absent() && e.kept:
		return resolve.Held
	case e.accepted || e.absent() && e.superseded:
		return resolve.Gone
	case e.absent() || e.none:
		return resolve.Away
	case e.p.State == store.Up:
		return resolve.Up
	case e.p.State == store.Left:
		return resolve.Gone
	}
	return resolve.Away
}

// acceptAway takes those providers of key that are away as meant to be.
func (v *view) acceptAway(key string) {
	for _, k := range v.members[key] {
		if e := v.entries[k]; v.memberState(e) == resolve.Away {
			m := *e.member
			m.accepted = true
			e.member = &m
			v.entries[k] = e
		}
	}
}

// providerSeen is when this agent first saw the entry of the one provider
// that u chose.
func (v *view) providerSeen(u resolve.Use) time.Time {
	for _, k := range v.members[u.Key] {
		if k.region == u.Answer.Region && k.node+"/"+k.service == u.Answer.Provider {
			return v.entries[k].seen
		}
	}
	return time.Time{}
}

// whyUnproven says why the absence of key cannot be believed; "": it can.
func (v *view) whyUnproven(key string) string {
	if !v.auth {
		return "the store does not answer"
	}
	if v.holds(key) {
		return wentBack
	}
	for _, k := range [...]valueKey{{key: key}, {key: key, region: v.region}} {
		if v.entries[k].bad != "" {
			return "the value in the store cannot be used"
		}
	}
	var away []string
	for _, k := range v.members[key] { // there may be thousands, and each look asks
		switch e := v.entries[k]; {
		case v.memberState(e) != resolve.Away:
		case len(away) == maxAway:
			return strings.Join(away, ", ") + " and more"
		default:
			away = append(away, k.node+"/"+k.service+" "+awayText(e))
		}
	}
	return strings.Join(away, ", ")
}

const wentBack = "the store went back"

// maxAway is how many providers one sentence names.
const maxAway = 3

// awayText says why a provider that is away is.
func awayText(e entry) string {
	switch {
	case e.absent():
		return "expired"
	case e.bad != "":
		return "cannot be read"
	case e.p.State == store.Draining:
		return "drains"
	case e.p.State == store.Standby:
		return "stands by"
	}
	return "is down"
}

// offered reports whether there is any entry of a provider of key, whatever it says.
func (v *view) offered(key string) bool { return len(v.members[key]) > 0 }
