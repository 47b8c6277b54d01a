package balancer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/listener-agent/listener/store"
)

// ports makes a frontend for each local_port that is claimed and free.
func (m *maker) ports(claims []claim) {
	byPort := map[int][]claim{}
	for _, c := range claims {
		byPort[c.port] = append(byPort[c.port], c)
	}
	for _, port := range slices.Sorted(maps.Keys(byPort)) {
		claims := byPort[port]
		if by := m.taken(port); by != "" {
			for _, c := range claims {
				m.problem(Collision, c.key, nil, "local_port %d of %s is taken on this node by %s: no frontend, the key resolves directly",
					port, list(services(c)), by)
			}
			continue
		}
		chosen, ok := settle(claims)
		if !ok {
			m.collide(claims, fmt.Sprintf("local_port %d", port), "no frontend, the keys resolve directly")
			continue
		}
		name := string(m.in.Kind) + "-" + strconv.Itoa(port)
		b := m.backend(name, chosen)
		// A port serves TCP for all when one of its keys needs it to.
		for _, c := range claims {
			if len(c.candidates) > 0 && !c.candidates[0].http() {
				b.HTTP = false
			}
		}
		f := Frontend{Name: name, Bind: m.in.Bind, Port: port, HTTP: b.HTTP, Backend: name}
		for _, c := range claims {
			f.Keys = append(f.Keys, c.key)
		}
		m.plan.Frontends = append(m.plan.Frontends, f)
		m.add(b)
	}
}

// taken says who on this node listens on port; "" is nobody.
func (m *maker) taken(port int) string {
	var by []string
	for who, p := range m.in.Taken {
		if p == port {
			by = append(by, plainText(who))
		}
	}
	return list(by)
}

// settle chooses the claim whose servers can stand for all of claims. A service
// that offers several keys has one local_port for them, so they share a
// frontend; a server behind it has to offer each of them. So it is the claim
// whose services are among those of every other one; of several the one with
// most servers: a node that already publishes all keys of a service is joined
// by those that do not yet.
func settle(claims []claim) (claim, bool) {
	if len(claims) == 1 {
		return claims[0], true
	}
	in := map[string]int{} // how many claims each service is in
	all := make([][]string, len(claims))
	for i, c := range claims {
		all[i] = services(c)
		for _, name := range all[i] {
			in[name]++
		}
	}
	best := -1
	for i, c := range claims {
		every := !slices.ContainsFunc(all[i], func(name string) bool { return in[name] < len(claims) })
		if every && (best < 0 || len(c.candidates) > len(claims[best].candidates)) {
			best = i
		}
	}
	if best < 0 {
		return claim{}, false
	}
	return claims[best], true
}

// services are those of a claim's candidates, sorted.
func services(c claim) []string {
	var names []string
	last := ""
	for _, c := range c.candidates {
		if c.Service != last {
			last = c.Service
			names = append(names, plainText(last))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// rivals is how many others each claim is told of by name: one node can make as
// many claims as it likes.
const rivals = 3

// collide tells each claim of others.
func (m *maker) collide(claims []claim, what, so string) {
	by := make([]string, len(claims))
	for i, c := range claims {
		by[i] = list(services(c))
	}
	for i, c := range claims {
		told := 0
		for j, other := range claims {
			if i == j {
				continue
			}
			if left := len(claims) - 1 - told; told == rivals && left > 1 {
				m.problem(Collision, c.key, nil, "%s of %s is that of %d more keys too: %s", what, by[i], left, so)
				break
			}
			told++
			m.problem(Collision, c.key, nil, "%s of %s is that of %s of %s too: %s", what, by[i], other.key, by[j], so)
		}
	}
}

// backend makes one of a claim: who is in it, and how much each gets.
func (m *maker) backend(name string, c claim) Backend {
	b := Backend{Name: name, Key: c.key}
	if len(c.candidates) > 0 {
		b.HTTP = c.candidates[0].http()
	}
	in, down := members(c.candidates)
	if down {
		m.problem(AllDown, c.key, nil, "no provider is up; those that are down are used, as the alternative is none")
	}
	b.Balance = cmp.Or(most(c.candidates, func(c candidate) string { return cmp.Or(c.Balance, store.RoundRobin) }), store.RoundRobin)
	if !slices.Contains([]string{store.RoundRobin, store.LeastConn, store.Hash}, b.Balance) {
		m.problem(BadEntry, c.key, nil, "balance %s is unknown, it is %s", plainText(b.Balance), store.RoundRobin)
		b.Balance = store.RoundRobin
	}
	b.Servers = in
	return b
}

// add puts a backend into the plan, once it is known whether it is HTTP.
func (m *maker) add(b Backend) {
	if b.Balance == store.Hash {
		if b.HTTP {
			setIDs(b.Servers)
		} else {
			m.problem(Mixed, b.Key, nil, "balance %s is by the URI, which only http has; it is %s", store.Hash, store.RoundRobin)
			b.Balance = store.RoundRobin
		}
	}
	m.plan.Backends = append(m.plan.Backends, b)
}
