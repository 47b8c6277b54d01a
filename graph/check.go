package graph

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Finding is one thing that is wrong, or odd, in the fleet.
type Finding struct {
	Federation string `json:"federation"`
	Region     string `json:"region"`
	// Kind: missing (nothing provides a required key), shadowed (an operator's
	// value hides providers that are up) or cycle.
	Kind string `json:"kind"`
	// Severity: error, or warning when everything starts all the same.
	Severity string `json:"severity"`
	Key      string `json:"key,omitempty"`
	// By are the services, or nodes, that require the key, or that are hidden.
	By   []string `json:"by"`
	Text string   `json:"text"`
	Hint string   `json:"hint"`
}

// Check looks at the fleet from this node: what its manifests require, what
// other nodes wait for, and what the store has for it.
func Check(in Input) []Finding {
	g := New(in)
	b := &builder{in: in}
	out := append(b.missing(g), b.shadowed()...)
	for _, c := range g.Cycles {
		f := b.finding(in.Region, "cycle", "error", "", c.Path, "services require each other: "+strings.Join(c.Path, " → "))
		f.Hint = "put a value for one of the keys, or give one placeholder a default"
		if c.Broken != "" {
			f.Severity, f.Hint = "warning", "it starts, as "+c.Broken
		}
		out = append(out, f)
	}
	for i := range out { // what other nodes wrote cannot drive a terminal
		out[i].Text = plain(out[i].Text)
	}
	slices.SortStableFunc(out, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Region, y.Region), cmp.Compare(x.Severity, y.Severity), -cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Key, y.Key))
	})
	return out
}

func (b *builder) finding(region, kind, severity, key string, by []string, text string) Finding {
	return Finding{Federation: b.in.Federation, Region: region, Kind: kind, Severity: severity, Key: key, By: by, Text: text}
}

// missing has a finding per region and key.
func (b *builder) missing(g Graph) []Finding {
	regions := map[string]string{} // of who requires
	for _, n := range g.Nodes {
		regions[n.Name] = n.Region
	}
	for _, s := range g.Services {
		regions[s.Name] = s.Region
	}
	var out []Finding
	for _, r := range g.Requires {
		if !r.Missing {
			continue
		}
		region, key := regions[r.From], r.Key
		if r.Of != "" {
			key = r.Of + "/" + key
		}
		i := slices.IndexFunc(out, func(f Finding) bool { return f.Region == region && f.Key == key })
		if i < 0 {
			text := "nothing provides it" + g.notUp(r)
			out = append(out, b.finding(region, "missing", "error", key, nil, text))
			i = len(out) - 1
			out[i].Hint = "`listener put " + r.Key + " VALUE`, or start who provides it"
		}
		out[i].By = append(out[i].By, r.From)
	}
	for i := range out {
		out[i].Text += "; required by " + strings.Join(out[i].By, ", ")
	}
	return out
}

// shadowed has a finding per operator value and region whose providers it hides.
func (b *builder) shadowed() []Finding {
	if b.in.Fleet == nil {
		return nil
	}
	var out []Finding
	for _, v := range b.in.Fleet.Values {
		hidden := map[string][]string{} // by region
		for _, p := range b.in.Fleet.Providers {
			if p.Key == v.Key && p.State == "up" && (v.Region == "" || v.Region == p.Region) {
				hidden[p.Region] = append(hidden[p.Region], p.Node+"/"+p.Service)
			}
		}
		for _, region := range slices.Sorted(maps.Keys(hidden)) {
			by := hidden[region]
			f := b.finding(region, "shadowed", "warning", v.Key, by,
				fmt.Sprintf("%s at revision %d hides %d that are up: %s", valueWords(v.Region), v.Revision, len(by), few(by)))
			f.Hint = "`listener delete " + v.Key + regionFlag(v.Region) + "` makes them count"
			out = append(out, f)
		}
	}
	return out
}

func valueWords(region string) string {
	if region == "" {
		return "the value"
	}
	return "the value of region " + region
}

func regionFlag(region string) string {
	if region == "" {
		return ""
	}
	return " --region " + region
}

// few names some of many.
func few(names []string) string {
	const n = 6
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}
