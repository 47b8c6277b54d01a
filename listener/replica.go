package listener

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

// replica is the view on disk, state_dir/replica.json: what the agent starts
// from while the store is away, and how it notices a store that went backwards.
type replica struct {
	// Store says which store it is a picture of; another one is a migration.
	Store    string         `json:"store"`
	Saved    time.Time      `json:"saved"`
	Rev      uint64         `json:"rev"`
	Followed []string       `json:"followed"`
	Values   []replicaValue `json:"values"`
	Held     []replicaValue `json:"held,omitempty"` // Rev: of the Reset that went backwards
}

// replicaValue is an operator's value, or, with node and service, a provider,
// whose text is its entry.
type replicaValue struct {
	Region  string    `json:"region,omitempty"`
	Key     string    `json:"key"`
	Node    string    `json:"node,omitempty"`
	Service string    `json:"service,omitempty"`
	Text    string    `json:"text,omitempty"`
	Rev     uint64    `json:"rev"`
	Seen    time.Time `json:"seen,omitzero"`
	UpSince time.Time `json:"up_since,omitzero"`
	Expired time.Time `json:"expired,omitzero"`
	// See member.
	Kept       bool `json:"kept,omitempty"`
	Superseded bool `json:"superseded,omitempty"`
	Accepted   bool `json:"accepted,omitempty"`
}

func (r replicaValue) item() valueKey {
	return valueKey{region: r.Region, key: r.Key, node: r.Node, service: r.Service}
}

// compare orders values so that a replica is the same bytes for the same view.
func (r replicaValue) compare(o replicaValue) int {
	return cmp.Or(strings.Compare(r.Key, o.Key), strings.Compare(r.Region, o.Region),
		strings.Compare(r.Node, o.Node), strings.Compare(r.Service, o.Service))
}

// snapshot encodes the view for the disk.
func (v *view) snapshot(identity string, now time.Time) ([]byte, error) {
	r := replica{Store: identity, Saved: now, Rev: v.rev}
	for k := range v.followed {
		r.Followed = append(r.Followed, k)
	}
	slices.Sort(r.Followed)
	for k, e := range v.entries {
		if e.none {
			continue
		}
		out := replicaValue{Region: k.region, Key: k.key, Node: k.node, Service: k.service, Text: e.text, Rev: e.rev, Seen: e.seen}
		if e.member != nil {
			out.UpSince, out.Expired = e.upSince, e.expired
			out.Kept, out.Superseded, out.Accepted = e.kept, e.superseded, e.accepted
			if e.bad != "" {
				out.Text = string(e.p.Encode())
			}
		}
		r.Values = append(r.Values, out)
	}
	for k, rev := range v.held {
		r.Held = append(r.Held, replicaValue{Region: k.region, Key: k.key, Node: k.node, Service: k.service, Rev: rev})
	}
	slices.SortFunc(r.Values, replicaValue.compare)
	slices.SortFunc(r.Held, replicaValue.compare)
	return json.Marshal(r)
}

// errOtherStore: the replica is of another store, which is a migration.
var errOtherStore = errors.New("the replica is of another store")

// loadReplica reads path. None is nil and no error.
func loadReplica(path, identity string) (*replica, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read replica: %w", err)
	}
	var r replica
	err = json.Unmarshal(data, &r)
	if err == nil && r.Store == "" {
		err = errors.New("it names no store")
	}
	if err != nil {
		return nil, fmt.Errorf("read replica %s: %w", path, err)
	}
	if r.Store != identity {
		return nil, errOtherStore
	}
	return &r, nil
}

// remember makes the replica what the next Reset is compared with. It serves
// nothing until serve.
func (v *view) remember(r *replica) {
	v.rev, v.known = r.Rev, true
	for _, k := range r.Followed {
		v.followed[k] = true
	}
	now := time.Now()
	for _, e := range r.Values {
		e.UpSince, e.Expired = past(e.UpSince, now), past(e.Expired, now)
		k := e.item()
		if !k.provider() {
			v.set(k, entry{text: e.Text, rev: e.Rev, seen: e.Seen})
		} else if p, err := store.DecodeProvider([]byte(e.Text)); err == nil {
			m := &member{p: p, upSince: e.UpSince, expired: e.Expired, kept: e.Kept, superseded: e.Superseded, accepted: e.Accepted}
			v.set(k, entry{text: e.Text, rev: e.Rev, seen: e.Seen, member: m})
			v.keeps = v.keeps || e.Kept
		}
	}
	for _, h := range r.Held {
		v.held[h.item()] = h.Rev
	}
	for key := range v.members {
		v.supersede(key, r.Saved)
	}
	v.replicaAt = r.Saved
}

// past is t on the clock of now, from where it does not jump, and not after
// now: a clock that was set back makes nothing wait longer.
func past(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(min(0, t.Sub(now)))
}

// rememberUsed adds what the last successful steps used where the replica is
// older than that: it is written a moment after a run. Without a replica it
// serves nothing (the last good values do), but the first Reset is compared
// with it: a store that is lost together with the replica empties nothing.
func (a *Agent) rememberUsed() {
	v := a.view
	used := map[valueKey]entry{}
	for _, st := range a.st.Services {
		if st.Good == nil {
			continue
		}
		for id, ans := range st.Good.Uses {
			k, e, ok := usedEntry(id, ans, st.AppliedAt)
			// What is older than the replica, the replica knows more of.
			if ok && ans.Rev > max(v.rev, used[k].rev) {
				used[k] = e
			}
		}
	}
	if v.known {
		v.add(used)
	} else {
		v.used = used
	}
}

// usedEntry is the entry of the view that ans came from; ok is false when it
// did not come from one entry of the store.
func usedEntry(id string, ans resolve.Answer, at time.Time) (k valueKey, e entry, ok bool) {
	e = entry{text: ans.Text, rev: ans.Rev, seen: at}
	switch ans.Rank {
	case resolve.Value:
		return valueKey{key: keyOf(id)}, e, true
	case resolve.RegionValue:
		return valueKey{region: ans.Region, key: keyOf(id)}, e, true
	case resolve.OwnRegion, resolve.NextRegion:
		i := strings.LastIndexByte(ans.Provider, '/')
		if i < 0 || strings.Contains(id, "[") {
			return k, e, false
		}
		p := store.Provider{Value: ans.Text, State: store.Up, Weight: 100}
		e.text, e.member = string(p.Encode()), &member{p: p, upSince: at}
		return valueKey{region: ans.Region, key: keyOf(id), node: ans.Provider[:i], service: ans.Provider[i+1:]}, e, true
	}
	return k, e, false
}

// ofThisStore is good without revisions that the store has not come to: they
// are of a history that it lost, and would make its state look older than it
// is, again and again, long after somebody accepted it.
func (v *view) ofThisStore(good *resolve.Good) *resolve.Good {
	known := good
	for id, a := range good.Uses {
		if !v.reset || a.Rev <= v.rev {
			continue
		}
		if known == good { // what was recorded is not changed, it may be in use
			known = &resolve.Good{Vars: good.Vars, Uses: maps.Clone(good.Uses)}
		}
		a.Rev = 0
		known.Uses[id] = a
	}
	return known
}

// forgetLostRevisions does that for what every service last used, once the
// replica knows of the hold that they are the other sign of.
func (a *Agent) forgetLostRevisions() {
	todo := map[string]*resolve.Good{}
	for id, st := range a.st.Services {
		if st.Good == nil {
			continue
		}
		if good := a.view.ofThisStore(st.Good); good != st.Good {
			todo[id] = good
		}
	}
	if len(todo) == 0 || a.writeReplicaNow() != nil {
		return
	}
	for id, good := range todo {
		a.st.edit(id).Good = good
	}
	a.save()
}

// add makes values part of the picture.
func (v *view) add(values map[valueKey]entry) {
	for k, e := range values {
		v.set(k, e)
		v.followed[k.key], v.known = true, true
		v.rev = max(v.rev, e.rev)
	}
}

// writeReplica replaces the file; without fsync, as an older or missing
// replica is safe and a torn one is refused.
func writeReplica(path string, data []byte) error {
	return atomicfile.Write(path, data, 0o600)
}
