package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// structure says what differs between two plans that only a reload changes, in
// the words of an operator; "" is nothing.
func (h HAProxy) structure(old, next *Plan) string {
	if h.shape(old) == h.shape(next) {
		return ""
	}
	was := map[string]bool{}
	for i := range old.Frontends {
		was[old.Frontends[i].Name] = true
	}
	for i := range next.Frontends {
		name := next.Frontends[i].Name
		if !was[name] {
			return "frontend " + name + " is new"
		}
		delete(was, name)
	}
	for i := range old.Frontends {
		if name := old.Frontends[i].Name; was[name] {
			return "frontend " + name + " is gone"
		}
	}
	for i := range next.Backends {
		b := &next.Backends[i]
		switch o := old.backend(b.Name); {
		case o == nil:
			return "backend " + b.Name + " is new"
		case o.HTTP != b.HTTP:
			return "backend " + b.Name + " changes between http and tcp"
		case o.Balance != b.Balance:
			return "backend " + b.Name + " balances by " + b.Balance + " now"
		}
	}
	return "the settings of a frontend or backend changed"
}

// differing are the names of the backends with other servers, or of all when
// there are none: then the question is whether HAProxy does what it was told.
// The plans have the same backends.
func differing(old, next *Plan) []string {
	var some, all []string
	for i := range next.Backends {
		b := &next.Backends[i]
		all = append(all, b.Name)
		if o := old.backend(b.Name); o == nil || !slices.Equal(o.Servers, b.Servers) {
			some = append(some, b.Name)
		}
	}
	if len(some) == 0 {
		return all
	}
	return some
}

// diff is what has to be told to HAProxy.
type diff struct {
	add, set []command
	out      []outgoing
	// woken are the servers that add and set put to use, by backend.
	woken map[string]map[string]bool
}

// command is one for the runtime socket, with how its answer begins.
type command struct{ want, text string }

// outgoing is a server to be deleted.
type outgoing struct {
	backend string
	server  Server
	maint   bool // is taken out already
}

func (d *diff) commands() int { return len(d.add) + len(d.set) + 2*len(d.out) }

// diff compares what HAProxy has with what next wants. An error is something
// that only a reload can change.
func (r *Runtime) diff(old, next *Plan, backends []string, now map[string]map[string]running) (*diff, error) {
	d := &diff{woken: map[string]map[string]bool{}}
	for _, name := range backends {
		b := next.backend(name)
		known := map[string]Server{}
		for _, s := range old.backend(name).Servers {
			known[s.Name] = s
			delete(r.gone[name], s.Name)
		}
		d.woken[name] = map[string]bool{}
		wanted := make(map[string]bool, len(b.Servers))
		for i := range b.Servers {
			s := &b.Servers[i]
			wanted[s.Name] = true
			is, ok := now[name][s.Name]
			if !ok {
				if err := r.adding(d, b, s); err != nil {
					return nil, err
				}
				continue
			}
			was, ok := known[s.Name]
			left, out := r.gone[name][s.Name]
			if !ok && !out {
				return nil, fmt.Errorf("backend %s: it is not known how server %s got there", name, s.Name)
			}
			if !ok {
				was = left
			}
			if err := d.setting(b, s, &was, is, out); err != nil {
				return nil, err
			}
		}
		r.leaving(d, name, known, wanted, now[name])
	}
	return d, nil
}

// adding puts in a server that HAProxy does not have.
func (r *Runtime) adding(d *diff, b *Backend, s *Server) error {
	if !isAddress(s.Host) {
		return fmt.Errorf("backend %s: the host of server %s is a name, which HAProxy looks up when it loads its file", b.Name, s.Name)
	}
	name := b.Name + "/" + s.Name
	text := append([]byte("add server "+name+" "), appendAddress(nil, s.Host, s.Port)...)
	text = append(appendServerOptions(text, s), r.haproxy.check()...)
	d.add = append(d.add, command{"New server registered", string(text)})
	// It begins in maintenance and unchecked.
	if r.haproxy.check() != "" {
		d.add = append(d.add, command{"", "enable health " + name})
	}
	d.add = append(d.add, command{"", "enable server " + name})
	d.woken[b.Name][s.Name] = true
	return nil
}

// setting changes a server that HAProxy has. was is how it was put there, out
// that it was taken out by us.
func (d *diff) setting(b *Backend, s, was *Server, is running, out bool) error {
	name := b.Name + "/" + s.Name
	switch {
	case was.Backup != s.Backup:
		return fmt.Errorf("backend %s: server %s changes between active and backup", b.Name, s.Name)
	case was.ID != s.ID:
		return fmt.Errorf("backend %s: server %s has another id", b.Name, s.Name)
	case is.host != s.Host && !(isAddress(is.host) && isAddress(s.Host)):
		return fmt.Errorf("backend %s: the host of server %s is a name, which HAProxy looks up when it loads its file", b.Name, s.Name)
	}
	if is.host != s.Host || is.port != s.Port {
		d.set = append(d.set, command{"", "set server " + name + " addr " + s.Host + " port " + strconv.Itoa(s.Port)})
	}
	if is.weight != s.Weight {
		set := command{"", "set server " + name + " weight " + strconv.Itoa(s.Weight)}
		// Who gets more comes before who gets none, so that somebody always serves.
		if is.weight < s.Weight {
			d.add = append(d.add, set)
		} else {
			d.set = append(d.set, set)
		}
	}
	if out && is.maint {
		d.set = append(d.set, command{"", "set server " + name + " state ready"})
		d.woken[b.Name][s.Name] = true
	}
	return nil
}

// leaving takes out the servers that HAProxy has and nobody wants.
func (r *Runtime) leaving(d *diff, backend string, known map[string]Server, wanted map[string]bool, now map[string]running) {
	for name := range r.gone[backend] {
		if _, ok := now[name]; !ok {
			delete(r.gone[backend], name) // with a reload
		}
	}
	first := len(d.out)
	for name, is := range now {
		if wanted[name] {
			continue
		}
		s, ok := known[name]
		if !ok {
			s, ok = r.gone[backend][name]
		}
		if !ok {
			s = Server{Name: name, ID: -1} // put there by somebody else: never to be woken
		}
		d.out = append(d.out, outgoing{backend, s, is.maint})
	}
	slices.SortFunc(d.out[first:], func(a, b outgoing) int { return cmp.Compare(a.server.Name, b.server.Name) })
}

// send tells HAProxy: first those that come, then changes, then those that go.
func (r *Runtime) send(c *cli, d *diff) error {
	for _, cmd := range slices.Concat(d.add, d.set) {
		if err := c.change(cmd.want, cmd.text); err != nil {
			return err
		}
	}
	for backend, servers := range d.woken {
		for name := range servers {
			delete(r.gone[backend], name)
		}
	}
	for _, o := range d.out {
		if !o.maint {
			if err := c.change("", "set server "+o.backend+"/"+o.server.Name+" state maint"); err != nil {
				return err
			}
		}
		if r.gone[o.backend] == nil {
			r.gone[o.backend] = map[string]Server{}
		}
		r.gone[o.backend][o.server.Name] = o.server
	}
	for _, o := range d.out {
		deleted, err := c.remove(o.backend, o.server.Name)
		if err != nil {
			return err
		}
		if deleted {
			delete(r.gone[o.backend], o.server.Name)
		}
	}
	return nil
}
