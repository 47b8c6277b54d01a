package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckSet(t *testing.T) {
	ms := []*Manifest{
		{ID: "b", File: "two/b.json", Federation: "blue"},
		{ID: "a", File: "one/a.json", Federation: "red"},
		{ID: "b", File: "one/b.json"},
		{ID: "c", File: "one/c.json", Federation: "red"},
	}
	want := []string{
		`one/a.json: federation "red", but "blue" in two/b.json (a node belongs to one federation; name the same one in both, or in neither)`,
		`one/b.json: the service b is in two/b.json too (remove one of the two files)`,
		`one/c.json: federation "red", but "blue" in two/b.json (a node belongs to one federation; name the same one in both, or in neither)`,
		`two/b.json: the service b is in one/b.json too (remove one of the two files)`,
		`two/b.json: federation "blue", but "red" in one/a.json (a node belongs to one federation; name the same one in both, or in neither)`,
	}
	var got []string
	problems := CheckSet(ms)
	for _, p := range problems {
		got = append(got, p.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if p := problems[0]; p.Kind != TwoFederations || p.Other != "two/b.json" || p.Service != "a" {
		t.Errorf("%+v", p)
	}
	if p := problems[1]; p.Kind != DuplicateID || p.Other != "two/b.json" || p.Service != "b" {
		t.Errorf("%+v", p)
	}
	if ms[0].File != "two/b.json" {
		t.Error("the caller's list was sorted")
	}
}

func TestCheckSetGood(t *testing.T) {
	needs := func(key string) map[string]Template { return map[string]Template{"X": {Parts: []Part{{Key: key}}}} }
	offers := func(key string) map[string]Template { return map[string]Template{key: {}} }
	cycle := []*Manifest{
		{ID: "a", File: "a.json", Federation: "red", Requires: needs("B"), Provides: offers("A")},
		{ID: "b", File: "b.json", Requires: needs("A"), Provides: offers("B")},
		{ID: "c", File: "c.json", Federation: "red", Provides: offers("B")},
	}
	if p := CheckSet(cycle); p != nil {
		t.Errorf("%+v", p)
	}
	if p := CheckSet(nil); p != nil {
		t.Errorf("%+v", p)
	}
}
