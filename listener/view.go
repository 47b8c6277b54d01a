package listener

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

// view is the node's present picture of the store: the operator's values and
// the providers. The loop's goroutine owns it; it holds only keys that
// services need.
type view struct {
	space   store.Space
	region  string
	protect config.Protect

	entries map[valueKey]entry
	// members are the providers among entries, by key, sorted.
	members map[string][]valueKey
	// expiries are the providers that expired within the last protectWindow.
	expiries []valueKey
	keeps    bool // the removal of some is held
	// gone holds the revision at which a followed value was deleted, unless a
	// provider of its key said something since; and, of providers, at which
	// one went while asking.
	gone map[valueKey]uint64
	// held values stay as they were (or absent), since the Reset of that
	// revision went backwards: docs/operations.md, "the store went back".
	held     map[valueKey]uint64
	followed map[string]bool
	// used is what the first Reset is compared with when there is no replica.
	used map[valueKey]entry
	// accepted keys are absent for good: an operator said so.
	accepted map[string]bool

	// rev is the newest revision of the store that was seen.
	rev uint64
	// asking: another Watch was asked for at revision asked, and has yet to say
	// its first word.
	asking bool
	asked  uint64
	// known: a Reset or the replica said something; auth: the first Reset
	// came in this process and the link holds.
	known, auth, reset bool
	since              time.Time // of the present link state
	err                error     // why the link is lost
	replicaAt          time.Time // of the replica that serves; zero: none does
}

// valueKey is an operator's value, where region "" is every region, or, with
// node and service, a provider.
type valueKey struct{ region, key, node, service string }

func (k valueKey) provider() bool { return k.node != "" }

func (k valueKey) compare(o valueKey) int {
	return cmp.Or(strings.Compare(k.key, o.key), strings.Compare(k.region, o.region),
		strings.Compare(k.node, o.node), strings.Compare(k.service, o.service))
}

type entry struct {
	text string // a provider's is the entry as it is stored
	rev  uint64
	seen time.Time // when this agent first saw rev
	bad  string    // why the stored value is refused; text is the good one before it
	none bool      // with bad: there was no good one
	*member
}

func newView(space store.Space, region string, protect config.Protect, now time.Time) *view {
	return &view{
		space: space, region: region, protect: protect, since: now,
		entries: map[valueKey]entry{}, members: map[string][]valueKey{}, gone: map[valueKey]uint64{},
		held: map[valueKey]uint64{}, followed: map[string]bool{}, accepted: map[string]bool{},
	}
}

// set makes e the present entry of k.
func (v *view) set(k valueKey, e entry) {
	v.entries[k] = e
	if k.provider() {
		if i, found := slices.BinarySearchFunc(v.members[k.key], k, valueKey.compare); !found {
			v.members[k.key] = slices.Insert(v.members[k.key], i, k)
		}
	}
}

func (v *view) del(k valueKey) {
	delete(v.entries, k)
	if k.provider() {
		i, found := slices.BinarySearchFunc(v.members[k.key], k, valueKey.compare)
		if found {
			v.members[k.key] = slices.Delete(v.members[k.key], i, i+1)
		}
		if len(v.members[k.key]) == 0 {
			delete(v.members, k.key)
		}
	}
}

// allProviders and allValues stand first among the followed keys when those of
// every key are followed. No key is these.
const (
	allProviders = ""
	allValues    = "\x00"
)

// follows reports whether what k is belongs to the followed keys.
func follows(keys map[string]bool, k valueKey) bool {
	return keys[k.key] || k.provider() && keys[allProviders] || !k.provider() && keys[allValues]
}

// follows reports whether all that may be of key is followed.
func (v *view) follows(key string) bool {
	return v.followed[key] || v.followed[allProviders] && v.followed[allValues]
}

// prefixes are what a Watch for keys follows.
func (v *view) prefixes(keys []string) []string {
	out := make([]string, 0, 3*len(keys))
	for _, k := range keys {
		switch k {
		case allProviders:
			out = append(out, v.space.Key("provides")+"/")
			continue
		case allValues:
			out = append(out, v.space.Key("values")+"/", v.space.Key("regions", v.region, "values")+"/")
			continue
		}
		out = append(out, v.space.Value("", k), v.space.Value(v.region, k))
		if keys[0] != allProviders {
			out = append(out, v.space.Providers(k))
		}
	}
	return out
}

// apply takes one update of a Watch that follows keys and returns the keys
// whose answer may differ now; all says that every key's may.
func (v *view) apply(u store.Update, keys []string, now time.Time) (touched []string, all bool) {
	switch u.Kind {
	case store.Lost:
		if v.auth || v.err == nil {
			v.since = now
		}
		v.auth, v.err = false, u.Err
		return nil, true
	case store.Reset:
		v.applyReset(u, keys, v.rev, now)
		v.asked = min(v.asked, v.rev)
		return nil, true
	}
	set := map[string]bool{}
	for _, kv := range u.KVs {
		if k, ok := v.place(kv.Key); ok && v.newest(k) <= kv.Rev {
			delete(v.held, k)
			v.put(k, kv, now)
			set[k.key] = true
		}
	}
	for _, g := range u.Gone {
		if k, ok := v.place(g.Key); ok && v.newest(k) <= g.Rev {
			if g.Expired && v.held[k] > 0 && v.present(k) {
				continue // nobody wrote it: what the store had again has ended
			}
			delete(v.held, k)
			v.lose(k, g, now)
			set[k.key] = true
		}
	}
	v.rev = max(v.rev, u.Rev)
	v.protectMembers(now)
	for k := range set {
		v.supersede(k, now)
	}
	for k := range set {
		touched = append(touched, k)
	}
	slices.Sort(touched)
	return touched, false
}

// maxGone bounds what is remembered of what is gone.
const maxGone = 10_000

// lose takes the removal of what was followed.
func (v *view) lose(k valueKey, g store.Gone, now time.Time) {
	if g.Key != "" && (v.asking || !k.provider()) {
		if len(v.gone) >= maxGone {
			clear(v.gone)
		}
		v.gone[k] = g.Rev
	}
	if k.provider() {
		v.loseMember(k, g.Expired, now)
	} else {
		v.del(k)
	}
}

// put takes kv; a value that is refused leaves the last good text in force.
func (v *view) put(k valueKey, kv store.KV, now time.Time) {
	if k.provider() {
		v.putMember(k, kv, now)
		return
	}
	old, had := v.entries[k]
	e := entry{rev: kv.Rev, seen: now}
	if had && old.rev == kv.Rev {
		e.seen = old.seen
	}
	text, err := valueText(kv.Value)
	if err != nil {
		e.text, e.bad, e.none = old.text, err.Error(), !had || old.none
	} else {
		e.text = text
	}
	v.set(k, e)
	delete(v.gone, k)
	delete(v.accepted, k.key)
}

// place finds which followed value a store key is.
func (v *view) place(key string) (valueKey, bool) {
	p, ok := v.space.Parts(key)
	switch {
	case ok && len(p) == 2 && p[0] == "values":
		return valueKey{key: p[1]}, true
	case ok && len(p) == 4 && p[0] == "regions" && p[1] == v.region && p[2] == "values":
		return valueKey{region: p[1], key: p[3]}, true
	case ok && len(p) == 5 && p[0] == "provides":
		return valueKey{key: p[1], region: p[2], node: p[3], service: p[4]}, true
	}
	return valueKey{}, false
}

// valueText is a stored value as text: one trailing newline is stripped,
// other newlines and NUL are refused, and what is not UTF-8, since node.json
// could not hold it; empty is a value.
func valueText(b []byte) (string, error) {
	b = bytes.TrimSuffix(b, []byte("\n"))
	if i := bytes.IndexAny(b, "\n\x00"); i >= 0 {
		return "", fmt.Errorf("the value has a newline or NUL at byte %d", i)
	}
	if !render.Text(string(b)) {
		return "", errors.New("the value is not UTF-8 text, or holds a byte order mark or a noncharacter")
	}
	return string(b), nil
}

// accept ends the holds on key, or with "" on every key; the keys are named.
// The caller has the store read again.
func (v *view) accept(key string) []string {
	var out []string
	for k := range v.held {
		if key == "" || k.key == key {
			delete(v.held, k)
			out = append(out, k.key)
		}
	}
	out = append(out, v.acceptMembers(key)...)
	slices.Sort(out)
	return slices.Compact(out)
}

// value is the operator's value, unless it was never good.
func (v *view) value(region, key string) (resolve.Entry, bool) {
	e, ok := v.entries[valueKey{region: region, key: key}]
	if !ok || e.none {
		return resolve.Entry{}, false
	}
	return resolve.Entry{Text: e.text, Rev: e.rev}, true
}

// proven reports whether the absence of key's value can be believed.
func (v *view) proven(key string) bool {
	if v.accepted[key] {
		return true
	}
	if !v.auth || !v.follows(key) {
		return false
	}
	for _, k := range [...]valueKey{{key: key}, {key: key, region: v.region}} {
		if v.entries[k].bad != "" {
			return false
		}
	}
	return !v.holds(key)
}

// holds reports whether something of key stays as it was before the store went back.
func (v *view) holds(key string) bool {
	for _, k := range [...]valueKey{{key: key}, {key: key, region: v.region}} {
		if _, held := v.held[k]; held {
			return true
		}
	}
	return slices.ContainsFunc(v.members[key], func(k valueKey) bool {
		_, held := v.held[k]
		return held
	})
}

// knows reports whether the store or its replica said anything of key.
func (v *view) knows(key string) bool { return v.known && v.follows(key) }

// deletedAt is the revision at which the last value of key was deleted, 0 if
// this agent did not see it, or if it is not why there is nothing now.
func (v *view) deletedAt(key string) uint64 {
	return max(v.gone[valueKey{key: key}], v.gone[valueKey{key: key, region: v.region}])
}

// seenAt is when this agent first saw the value of key.
func (v *view) seenAt(region, key string) time.Time {
	return v.entries[valueKey{region: region, key: key}].seen
}
