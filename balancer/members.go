package balancer

import (
	"cmp"

	"github.com/listener-agent/listener/store"
)

// tier is how good a candidate is: own region first, then lower priority.
type tier struct{ rank, priority int }

func (t tier) compare(u tier) int {
	return cmp.Or(cmp.Compare(t.rank, u.rank), cmp.Compare(t.priority, u.priority))
}

func (c *candidate) tier() tier { return tier{c.rank, c.Priority} }

// members are the servers of a backend, in the order of the candidates.
//
// The best tier that somebody serves in is active and the next such tier is its
// backup; worse ones are not in. (With all of them in, HAProxy could only use
// a single server as backup, or mix near and far ones.) Up servers get their
// weight, draining ones 0; those that are down, left or stand by are not in. When
// nobody serves at all, those that are down are used as if they were up, and
// down is true: a check that is wrong everywhere must not end all service.
func members(all []candidate) (in []Server, down bool) {
	active, backup, n := tiers(all, store.Up)
	if n == 0 {
		if active, backup, n = tiers(all, store.Down); n > 0 {
			down = true
		}
	}
	in = make([]Server, 0, len(all))
	for i := range all {
		c := &all[i]
		s := Server{Region: c.Region, Node: c.Node, Service: c.Service, Host: c.host, Port: c.port, Weight: c.Weight}
		switch {
		case n > 0 && c.tier().compare(backup) > 0:
			continue
		case c.State == store.Up || down && c.State == store.Down:
		case c.State == store.Draining:
			s.Weight, s.Draining = 0, true
		default:
			continue
		}
		s.Name = serverName(c.Region, c.Node, c.Service)
		s.Backup = n > 0 && c.tier().compare(active) > 0
		in = append(in, s)
	}
	return in, down
}

// tiers are the best and the second best one in which a candidate in state
// takes a share; n is how many there are, at most 2. With one, both are it.
func tiers(all []candidate, state store.State) (active, backup tier, n int) {
	for i := range all {
		if all[i].State != state || all[i].Weight == 0 {
			continue
		}
		switch t := all[i].tier(); {
		case n == 0:
			active, backup, n = t, t, 1
		case t.compare(active) < 0:
			active, backup, n = t, active, 2
		case t != active && (n == 1 || t.compare(backup) < 0):
			backup, n = t, 2
		}
	}
	return active, backup, n
}
