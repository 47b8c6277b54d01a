package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// route is a route with the claims that want it.
type route struct {
	host, path string
}

// public makes the one frontend, and a backend for each key and path.
func (m *maker) public(claims []claim) {
	port := cmp.Or(m.in.Port, defaultPublicPort)
	if by := m.taken(port); by != "" {
		var keys []string
		for _, c := range claims {
			keys = append(keys, c.key)
		}
		m.problem(Collision, cmp.Or(list(keys), "public"), nil, "port %d of the public balancer is taken on this node by %s: no frontend", port, by)
		return
	}
	wanted := map[route][]claim{}
	for _, c := range claims {
		for host := range m.hosts(c) {
			r := route{host, c.path}
			wanted[r] = append(wanted[r], c)
		}
	}
	f := Frontend{Name: string(Public), Bind: m.in.Bind, Port: port, HTTP: true}
	used := map[string]bool{}
	for r, claims := range wanted {
		chosen, ok := settle(claims)
		if !ok || !sameServers(claims) {
			m.collide(claims, "the route "+r.text(), "none of them has it")
			continue
		}
		name := claimName(chosen)
		used[name] = true
		f.Routes = append(f.Routes, Route{Host: r.host, Path: r.path, Backend: name})
		for _, c := range claims {
			f.Keys = append(f.Keys, c.key)
		}
	}
	slices.SortFunc(f.Routes, compareRoutes)
	slices.Sort(f.Keys)
	f.Keys = slices.Compact(f.Keys)
	m.plan.Frontends = []Frontend{f}
	for _, c := range claims {
		if name := claimName(c); used[name] {
			m.add(m.backend(name, c))
		}
	}
}

func (r route) text() string {
	return fmt.Sprintf("%s %s", cmp.Or(r.host, "any host"), r.path)
}

// claimName is its backend's: the key, and the path if there is one.
func claimName(c claim) string {
	if c.path == "/" {
		return c.key
	}
	return backendName(c.key + c.path)
}

// hosts are all that the providers of a claim are to be reached by; "" is any.
func (m *maker) hosts(c claim) map[string]bool {
	hosts := map[string]bool{}
	for _, p := range c.candidates {
		if len(p.Hosts) == 0 {
			hosts[""] = true
		}
		for _, h := range p.Hosts {
			if host, ok := publicHost(h); ok {
				hosts[host] = true
			} else {
				m.problem(BadEntry, c.key, p.Entry, "%s of its hosts is not a host name, nor *.domain; it is left out", plainText(h))
			}
		}
	}
	return hosts
}

// sameServers reports whether claims of one route mean the same servers: then
// it does not matter by which key a request gets there. A service on one node that
// has two addresses for two keys offers two things.
func sameServers(claims []claim) bool {
	if len(claims) == 1 {
		return true
	}
	type id struct{ region, node, service string }
	type addr struct {
		host string
		port int
	}
	seen := map[id]addr{}
	for _, c := range claims {
		for _, p := range c.candidates {
			i, a := id{p.Region, p.Node, p.Service}, addr{p.host, p.port}
			if was, ok := seen[i]; ok && was != a {
				return false
			}
			seen[i] = a
		}
	}
	return true
}

// compareRoutes puts what matches less before what matches more: host names,
// then *.domain, the longer first, then any host; of one host the longer path.
func compareRoutes(a, b Route) int {
	wild := func(r Route) int {
		switch {
		case r.Host == "":
			return 2
		case strings.HasPrefix(r.Host, "*."):
			return 1
		}
		return 0
	}
	if c := cmp.Compare(wild(a), wild(b)); c != 0 {
		return c
	}
	if wild(a) == 1 {
		if c := cmp.Compare(len(b.Host), len(a.Host)); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path))
}
