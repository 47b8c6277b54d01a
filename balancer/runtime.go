package balancer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxCommands is where a reload is cheaper than the commands that it saves.
const maxCommands = 3000

// Runtime changes the servers of a running HAProxy over its runtime socket,
// without a reload. One goroutine owns it.
type Runtime struct {
	haproxy HAProxy
	timeout time.Duration
	// gone are servers taken out that still had connections, by backend and name.
	gone map[string]map[string]Server
}

// NewRuntime prepares one for the HAProxy that runs what h renders; h.Socket is
// required. A call takes at most timeout; 0: 5 s.
func NewRuntime(h HAProxy, timeout time.Duration) *Runtime {
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	return &Runtime{haproxy: h, timeout: timeout, gone: map[string]map[string]Server{}}
}

// Result is what came of an Apply.
type Result struct {
	// Reload is why HAProxy has to read its file again: something differs that
	// cannot be changed at run time, or it is not in the state that it should be
	// in. "": it does what the plan says, which was looked at.
	Reload string
	// Changes is how many commands were sent to change something.
	Changes int
	// Pending are servers, as backend/server, that get no requests any more and
	// are deleted when their last connection ends: by a later Apply or Sweep.
	Pending []string
}

// Apply makes a running HAProxy do what next says. old is the plan that it was
// last told, by file or by Apply; nil: not known. With old equal to next it
// compares all servers and repairs. The file with next has to be in place before:
// HAProxy may read it at any time, and a reload is the answer to every failure.
// It blocks for as long as HAProxy takes to answer, at most the timeout.
func (r *Runtime) Apply(ctx context.Context, old, next *Plan) Result {
	var res Result
	if old == nil {
		res.Reload = "it is not known what HAProxy was told last"
		return res
	}
	if why := r.haproxy.structure(old, next); why != "" {
		res.Reload = why
		return res
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	made, err := r.apply(ctx, old, next)
	res.Changes = made
	if err != nil {
		res.Reload = err.Error()
	}
	res.Pending = r.pending()
	return res
}

func (r *Runtime) apply(ctx context.Context, old, next *Plan) (made int, err error) {
	c, err := dial(ctx, r.haproxy.Socket)
	if err != nil {
		return 0, fmt.Errorf("runtime socket: %w", err)
	}
	defer c.close()
	backends := differing(old, next)
	now, pid, err := r.look(c, next, backends)
	if err != nil {
		return 0, err
	}
	d, err := r.diff(old, next, backends, now)
	if err != nil {
		return 0, err
	}
	if d.commands() > maxCommands {
		return 0, fmt.Errorf("%d changes at once, more than %d", d.commands(), maxCommands)
	}
	if err := r.send(c, d); err != nil {
		return c.made, fmt.Errorf("runtime socket: %w", err)
	}
	if d.commands() == 0 {
		return 0, nil
	}
	return c.made, r.verify(ctx, next, backends, d, pid)
}

// look reads the servers of backends, after making sure that it is a HAProxy
// with the configuration that next has but for the servers.
func (r *Runtime) look(c *cli, next *Plan, backends []string) (now map[string]map[string]running, pid string, err error) {
	text, pid, err := c.info()
	if err != nil {
		return nil, "", fmt.Errorf("runtime socket: %w", err)
	}
	if text != description(r.haproxy.shape(next)) {
		return nil, "", errors.New("HAProxy runs another configuration than the one that was written last")
	}
	now = map[string]map[string]running{}
	// One question for all is cheaper than many for few.
	if len(backends) > 4 {
		if now, err = c.servers(""); err != nil {
			return nil, "", fmt.Errorf("runtime socket: %w", err)
		}
		return now, pid, nil
	}
	for _, name := range backends {
		some, err := c.servers(name)
		if err != nil {
			return nil, "", fmt.Errorf("runtime socket: %w", err)
		}
		maps.Copy(now, some)
	}
	return now, pid, nil
}

// verify looks again, over a connection of its own: if HAProxy was reloaded in
// between, the old one was still talking to us.
func (r *Runtime) verify(ctx context.Context, next *Plan, backends []string, d *diff, pid string) error {
	c, err := dial(ctx, r.haproxy.Socket)
	if err != nil {
		return fmt.Errorf("runtime socket: %w", err)
	}
	defer c.close()
	now, again, err := r.look(c, next, backends)
	if err != nil {
		return err
	}
	for _, name := range backends {
		b := next.backend(name)
		if why := unlike(b.Servers, now[name], d.woken[name]); why != "" {
			if again != pid {
				why += "; HAProxy was restarted or reloaded meanwhile"
			}
			return fmt.Errorf("backend %s after the change: %s", name, why)
		}
	}
	return nil
}

// unlike says how the servers of a backend differ from those that are wanted.
// Whether a server is in maintenance counts for those in woken only: others may have
// been taken out by an operator.
func unlike(want []Server, now map[string]running, woken map[string]bool) string {
	wanted := make(map[string]bool, len(want))
	for i := range want {
		s := &want[i]
		wanted[s.Name] = true
		is, ok := now[s.Name]
		switch {
		case !ok:
			return "server " + s.Name + " is not there"
		case is.host != s.Host || is.port != s.Port:
			return "server " + s.Name + " has another address"
		case is.weight != s.Weight:
			return "server " + s.Name + " has another weight"
		case is.maint && woken[s.Name]:
			return "server " + s.Name + " is in maintenance"
		}
	}
	for name, is := range now {
		if !wanted[name] && !is.maint {
			return "server " + name + " is still there"
		}
	}
	return ""
}

// Sweep deletes servers that were taken out earlier and whose connections have
// ended since, and returns how many are left. With none it does nothing.
func (r *Runtime) Sweep(ctx context.Context) (left int, err error) {
	if len(r.pending()) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	c, err := dial(ctx, r.haproxy.Socket)
	if err != nil {
		return len(r.pending()), fmt.Errorf("runtime socket: %w", err)
	}
	defer c.close()
	now, err := c.servers("")
	if err != nil {
		return len(r.pending()), fmt.Errorf("runtime socket: %w", err)
	}
	for backend, servers := range r.gone {
		for name := range servers {
			// In use again after a reload, or gone with one.
			if is, ok := now[backend][name]; !ok || !is.maint {
				delete(servers, name)
				continue
			}
			deleted, err := c.remove(backend, name)
			if err != nil {
				return len(r.pending()), fmt.Errorf("runtime socket: %w", err)
			}
			if deleted {
				delete(servers, name)
			}
		}
	}
	return len(r.pending()), nil
}

// remove deletes a server in maintenance; it does nothing while the server has
// connections.
func (c *cli) remove(backend, name string) (deleted bool, err error) {
	err = c.change("Server deleted", "del server "+backend+"/"+name)
	if refused, ok := errors.AsType[*refusedError](err); ok && strings.Contains(refused.answer, "connections") {
		return false, nil
	}
	return err == nil, err
}

func (r *Runtime) pending() []string {
	var list []string
	for backend, servers := range r.gone {
		for name := range servers {
			list = append(list, backend+"/"+name)
		}
	}
	slices.Sort(list)
	return list
}

// isAddress reports whether a host is one that no lookup is needed for.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
