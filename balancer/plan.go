package balancer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/listener-agent/listener/store"
)

// defaultPublicPort is where the world expects HTTP.
const defaultPublicPort = 80

// MakePlan says what a balancer should do. It is pure, and fast enough to be
// made anew for each change. What cannot be done is left out and named in
// Problems; the rest stands.
func MakePlan(in Input) *Plan {
	m := &maker{in: in, plan: &Plan{Kind: in.Kind, Region: in.Region}, ranks: map[string]int{in.Region: 0}}
	for i, r := range in.RegionOrder {
		if _, ok := m.ranks[r]; !ok {
			m.ranks[r] = i + 1
		}
	}
	m.in.Bind = cmp.Or(m.in.Bind, "127.0.0.1")
	if _, err := netip.ParseAddr(m.in.Bind); err != nil && m.in.Bind != "*" {
		m.problem(BadEntry, "bind", nil, "%s is not an address: no frontend", plainText(m.in.Bind))
		return m.plan
	}
	claims := m.claims()
	if m.in.Kind == Public {
		m.public(claims)
	} else {
		m.ports(claims)
	}
	slices.SortFunc(m.plan.Problems, compareProblems)
	m.plan.Problems = slices.Compact(m.plan.Problems)
	return m.plan
}

// maker builds one plan.
type maker struct {
	in    Input
	plan  *Plan
	ranks map[string]int // region → how far it is; others are ignored
}

// candidate is a provider that may become a server.
type candidate struct {
	*Entry
	endpoint
	rank int // of its region
}

// claim is what one key wants: a port, or a path for hosts.
type claim struct {
	key        string
	port       int    // local_port; 0 of a public one
	path       string // of a public one
	candidates []candidate
}

// claims sorts the usable providers of all keys by what they want: keys in
// order, and of each key ports or paths.
func (m *maker) claims() []claim {
	keys := slices.SortedFunc(slices.Values(m.in.Keys), func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	var claims []claim
	for i, k := range keys {
		switch {
		case !keyName(k.Name):
			m.problem(BadEntry, plainText(k.Name), nil, "it is not a key, so its providers are left out")
		case i > 0 && keys[i-1].Name == k.Name:
			m.problem(BadEntry, k.Name, nil, "it is given twice, only one of them counts")
		default:
			claims = append(claims, m.claimsOf(k)...)
		}
	}
	return claims
}

func (m *maker) claimsOf(k Key) []claim {
	type want struct {
		port int
		path string
	}
	wants := map[want][]candidate{}
	for _, c := range m.candidates(k) {
		w := want{port: c.LocalPort}
		if m.in.Kind == Public {
			w = want{path: c.path}
		}
		wants[w] = append(wants[w], c)
	}
	claims := make([]claim, 0, len(wants))
	for _, w := range slices.SortedFunc(maps.Keys(wants), func(a, b want) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.path, b.path))
	}) {
		claims = append(claims, claim{k.Name, w.port, w.path, m.sameClass(k.Name, wants[w])})
	}
	return claims
}

// candidates are the providers of k that this balancer is for and whose
// entries are good, sorted by region, node and service.
func (m *maker) candidates(k Key) []candidate {
	list := make([]candidate, 0, len(k.Entries))
	for i := range k.Entries {
		if c, ok := m.candidate(k.Name, &k.Entries[i]); ok {
			list = append(list, c)
		}
	}
	if !slices.IsSortedFunc(list, compareCandidates) {
		slices.SortStableFunc(list, compareCandidates)
	}
	return slices.CompactFunc(list, func(a, b candidate) bool {
		if compareCandidates(a, b) != 0 {
			return false
		}
		m.problem(BadEntry, k.Name, b.Entry, "it is given twice, only one of them counts")
		return true
	})
}

func compareCandidates(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Service, b.Service))
}

// candidate reads one entry. ok is false for those that are none of this
// balancer's business, and for bad ones, which are named.
func (m *maker) candidate(key string, e *Entry) (c candidate, ok bool) {
	rank, ok := m.ranks[e.Region]
	if !ok || m.in.Kind == Public && !e.Public || m.in.Kind != Public && e.LocalPort == 0 {
		return c, false
	}
	ep, why := parseValue(e.Value, e.Port)
	switch {
	case why != "":
	case e.LocalPort < 0 || e.LocalPort > 65535:
		why = "its local_port is not between 1 and 65535"
	case e.Weight < 0 || e.Weight > store.MaxWeight:
		why = "its weight is not between 0 and " + strconv.Itoa(store.MaxWeight)
	case m.in.Kind == Public && !ep.http():
		why = "its value is not an http URL, which the public balancer needs"
	case m.in.Kind == Public && !goodPath(ep.path):
		why = "the path of its value has characters that cannot be a prefix to choose by"
	case m.in.Kind == Local && !ep.own(e):
		m.problem(Elsewhere, key, e, "its value is not its own host and port, so local_port does not apply to it")
		return c, false
	case m.in.Kind != Public && ep.port == e.LocalPort && m.self(ep.host):
		why = "it is the balancer itself"
	}
	if why != "" {
		m.problem(BadEntry, key, e, "%s; it is left out", why)
		return c, false
	}
	return candidate{e, ep, rank}, true
}

// own reports whether the endpoint is what e says of itself.
func (ep endpoint) own(e *Entry) bool {
	return ep.port == e.Port && (ep.host == e.Host || ep.host == canonicalHost(e.Host))
}

// self reports whether a frontend of this balancer listens on host.
func (m *maker) self(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	bind, err := netip.ParseAddr(m.in.Bind)
	return err == nil && bind.Unmap() == addr || (err != nil || bind.IsUnspecified()) && addr.IsLoopback()
}

// sameClass leaves out those whose scheme is not that of most: a client that
// speaks one to the balancer would reach the other.
func (m *maker) sameClass(key string, all []candidate) []candidate {
	class := most(all, func(c candidate) string { return c.class() })
	return slices.DeleteFunc(all, func(c candidate) bool {
		other := c.class() != class
		if other {
			m.problem(Mixed, key, c.Entry, "its value has another scheme than those of most providers; it is left out")
		}
		return other
	})
}

// most is what most candidates say; of two with the same number the lesser.
func most(all []candidate, of func(candidate) string) string {
	if len(all) == 0 {
		return ""
	}
	first := of(all[0])
	if !slices.ContainsFunc(all, func(c candidate) bool { return of(c) != first }) {
		return first
	}
	counts := map[string]int{}
	for _, c := range all {
		counts[of(c)]++
	}
	return slices.MinFunc(slices.Collect(maps.Keys(counts)), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

// keyName reports whether s is [A-Z][A-Z0-9_]*, of a length that fits a line.
func keyName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && !digit(c) && c != '_' {
			return false
		}
	}
	return true
}
