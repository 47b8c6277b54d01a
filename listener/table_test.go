package listener

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// tableManifests are services that feed each other, in versions.
func tableManifests(t *testing.T) map[string][]*inForce {
	out := map[string][]*inForce{}
	for id, texts := range map[string][]string{
		"s1": {`{"id": "s1", "requires": {"V": "{A}"}, "provides": {"P": "p1"}}`, `{"id": "s1", "requires": {"V": "{B:-d}"}, "provides": {"P": "p1b", "Q": "q1"}}`},
		"s2": {`{"id": "s2", "requires": {"V": "{P}"}, "provides": {"Q": "q2"}}`, `{"id": "s2", "binding": "relaxed", "requires": {"V": "{A}"}, "provides": {"Q": "q2"}}`},
		"s3": {`{"id": "s3", "requires": {"V": "{Q}", "W": "{C?}"}}`, `{"id": "s3", "requires": {"V": "{s1/Q}{A}"}, "provides": {"R": "{HOST}"}}`},
		"s4": {`{"id": "s4", "requires": {"V": "{P[]}", "W": "{R:-none}"}}`, `{"id": "s4", "requires": {"V": "{Q[;]}"}}`},
		"s5": {`{"id": "s5", "requires": {"V": "{B}"}, "provides": {"P": "p5", "R": "r5"}}`},
	} {
		for _, text := range texts {
			m, err := manifest.Parse(id+".json", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			out[id] = append(out[id], &inForce{m: m})
		}
	}
	return out
}

// TestTableIsAsFromScratch: what is resolved again after a change is enough.
func TestTableIsAsFromScratch(t *testing.T) {
	versions := tableManifests(t)
	ids := slices.Sorted(maps.Keys(versions))
	rapid.Check(t, func(rt *rapid.T) {
		n := newNode(t, storetest.NewMemory())
		a, err := New(Options{Config: n.cfg, Store: n.store, Runner: n.runner, NoFileWatch: true, Clock: n.clock})
		if err != nil {
			rt.Fatal(err)
		}
		a.load()
		keys := []string{"A", "B", "C", "P", "Q", "R"}
		a.view.apply(store.Update{Kind: store.Reset, Rev: 1}, keys, time.Now())
		rev := uint64(1)
		for range rapid.IntRange(1, 30).Draw(rt, "changes") {
			key, id := rapid.SampledFrom(keys).Draw(rt, "key"), rapid.SampledFrom(ids).Draw(rt, "id")
			name := a.space.Value("", key)
			rev++
			u := store.Update{Kind: store.Change, Rev: rev}
			switch op := rapid.SampledFrom([]string{"put", "put", "delete", "lost", "attribute", "edit", "edit", "remove", "apply"}).Draw(rt, "op"); op {
			case "put":
				u.KVs = []store.KV{{Key: name, Value: fmt.Append(nil, rev%3), Rev: rev}}
				tableApply(a, u, keys)
			case "delete":
				u.Gone = []store.Gone{{Key: name, Rev: rev}}
				tableApply(a, u, keys)
			case "lost":
				tableApply(a, store.Update{Kind: store.Lost}, keys)
			case "attribute":
				a.attrs.Attributes = config.Attributes{General: map[string]string{key: "attribute"}}
				a.table.staleAll()
			case "edit":
				a.svcs.active[id] = rapid.SampledFrom(versions[id]).Draw(rt, "version")
				a.table.setManifests(a.svcs)
			case "remove":
				delete(a.svcs.active, id)
				a.table.setManifests(a.svcs)
			case "apply":
				if r := a.table.rows[id]; r != nil && len(a.table.stale) == 0 && r.res.State != resolve.Waiting {
					a.apply(id, a.table.candidate(id))
				}
			}
			if rapid.Bool().Draw(rt, "look") {
				a.table.resolve()
			}
		}
		a.table.resolve()
		got := a.table
		a.table = newTable(a)
		a.table.setManifests(a.svcs)
		a.table.resolve()
		for id, want := range a.table.rows {
			if diff := cmp.Diff(want, got.rows[id], cmp.AllowUnexported(row{}), cmpopts.IgnoreFields(row{}, "m", "refile", "asApplied")); diff != "" {
				rt.Fatalf("%s (-from scratch +incremental):\n%s", id, diff)
			}
		}
	})
}

func tableApply(a *Agent, u store.Update, keys []string) {
	touched, all := a.view.apply(u, keys, time.Now())
	if all {
		a.table.staleAll()
	}
	a.table.touch(touched)
}
