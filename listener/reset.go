package listener

import (
	"time"

	"github.com/listener-agent/listener/store"
)

// ask: another Watch is begun, which takes the place of the present one at its
// Reset. Until then the present one goes on, so that what the Reset says may be
// older than what is known; but nothing is older than what is known now.
func (v *view) ask() {
	v.asking, v.asked = true, v.rev
	for k := range v.gone {
		if k.provider() {
			delete(v.gone, k)
		}
	}
}

// takeOver takes the first Reset of the Watch that was asked for.
func (v *view) takeOver(u store.Update, keys []string, now time.Time) {
	v.applyReset(u, keys, v.asked, now)
	v.asking = false
}

// newest is the revision of what is known of k, 0: nothing is.
func (v *view) newest(k valueKey) uint64 { return max(v.entries[k].rev, v.gone[k]) }

// applyReset replaces the picture. When the store went backwards, or is not
// the one that it was, what differs is held: an outage or a restored backup
// changes no file. It went backwards when it is not at the revision least; what
// is known that is newer than u, and not than the store, stays.
func (v *view) applyReset(u store.Update, keys []string, least uint64, now time.Time) {
	if v.used != nil {
		v.add(v.used)
		v.used, least = nil, v.rev
	}
	next := make(map[valueKey]store.KV, len(u.KVs))
	regressed := v.known && (u.Rev < least || u.OtherHistory)
	for _, kv := range u.KVs {
		if k, ok := v.place(kv.Key); ok {
			next[k] = kv
			if rev := v.entries[k].rev; kv.Rev < rev && rev <= u.Rev {
				regressed = true
			}
		}
	}
	follow := make(map[string]bool, len(keys))
	for _, k := range keys {
		follow[k] = true
	}
	if regressed {
		v.hold(next, follow, u.Rev)
	}
	for k, kv := range next {
		if at, ok := v.held[k]; ok && kv.Rev <= at || v.newest(k) > u.Rev {
			continue
		}
		delete(v.held, k)
		v.put(k, kv, now)
	}
	for k, e := range v.entries {
		_, held := v.held[k]
		switch _, ok := next[k]; {
		case !follows(follow, k):
			v.del(k)
		case !ok && !held && e.rev <= u.Rev:
			// Whether it expired or was deleted the Reset does not say.
			v.lose(k, store.Gone{Rev: u.Rev, Expired: true}, now)
		}
	}
	v.protectMembers(now)
	for key := range v.members {
		v.supersede(key, now)
	}
	for k := range v.held {
		if _, there := next[k]; !follows(follow, k) || !there && !v.present(k) {
			delete(v.held, k) // the store says what is held, too
		}
	}
	if !v.auth {
		v.since = now
	}
	v.followed, v.rev = follow, max(v.rev, u.Rev)
	v.known, v.auth, v.reset, v.err, v.replicaAt = true, true, true, nil, time.Time{}
}

// hold marks every value that was followed before and is absent, different or
// new in next, which is the state at a revision. Nothing is newer than that.
func (v *view) hold(next map[valueKey]store.KV, follow map[string]bool, at uint64) {
	for k, e := range v.entries {
		kv, ok := next[k]
		if follows(follow, k) && !e.absent() && (!ok || v.differs(k, e, kv)) {
			v.held[k] = at
			e.rev = min(e.rev, kv.Rev) // so that the same state is not a regression again
		}
		e.rev = min(e.rev, at)
		v.entries[k] = e
	}
	for k := range next {
		if e, had := v.entries[k]; (!had || e.absent()) && follows(v.followed, k) {
			v.held[k] = at
		}
	}
	v.rev = at
	clear(v.gone)
}

// present reports whether there is a value, or a provider that neither expired
// nor left.
func (v *view) present(k valueKey) bool {
	e, ok := v.entries[k]
	return ok && (e.member == nil || serving(e.p.State) && !e.absent())
}

// differs reports whether kv says something else than e.
func (v *view) differs(k valueKey, e entry, kv store.KV) bool {
	if k.provider() {
		return string(kv.Value) != e.text
	}
	text, err := valueText(kv.Value)
	return err != nil || text != e.text
}
