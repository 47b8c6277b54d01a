package listener

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/listener-agent/listener/publish"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/store"
)

// publishing is the agent's publisher, and what it was told last. The loop's
// goroutine owns it.
type publishing struct {
	p     *publish.Publisher // nil: none, or the one before has not ended yet
	end   context.CancelFunc
	ended chan struct{}
	next  bool // one starts when the one before has ended
	// stale: something that is published may be other than what p was told.
	stale bool
	node  store.NodeRecord
	// services are what p was told last; told is false before that.
	services []publish.Service
	told     bool
}

// startPublishing starts a publisher for the present federation, after the one
// before has ended; the entries of another federation expire.
func (a *Agent) startPublishing() {
	if a.opt.NoPublish {
		return
	}
	if !a.stopPublishing() {
		if ended := a.pub.ended; !a.pub.next {
			a.pub.next = true
			a.wg.Go(func() {
				select {
				case <-ended:
					a.post(a.startPublishing)
				case <-a.runCtx.Done():
				}
			})
		}
		return
	}
	p, err := publish.New(publish.Options{
		Store: a.opt.Store, Space: a.space, Node: a.node, Region: a.region,
		MachineID: orUnknown(a.opt.MachineID), BootID: orUnknown(a.st.Boot), StateDir: a.cfg.StateDir,
		TTL: a.cfg.Publish.TTL, AntiEntropy: a.cfg.Publish.AntiEntropy, DrainWait: a.cfg.Publish.DrainWait,
		Check: publish.CheckSettings{
			Interval: a.cfg.Check.Interval, Timeout: a.cfg.Check.Timeout, Rise: a.cfg.Check.Rise, Fall: a.cfg.Check.Fall,
		},
		Changed: func() { a.later(func() {}) },
		Event:   func(name, text string, attrs ...string) { a.later(func() { a.emit(name, text, attrs...) }) },
	})
	a.fault("publish", err)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.runCtx)) // it withdraws after the loop
	ended := make(chan struct{})
	a.pub = publishing{p: p, end: cancel, ended: ended, stale: true}
	a.publisher.Store(p)
	go func() {
		defer close(ended)
		_ = p.Run(ctx)
	}()
}

// publishEnd is how long the loop waits for a publisher to end: its calls end
// with it, unless the store hangs.
const publishEnd = 3 * time.Second

// stopPublishing ends the publisher; what it published stays. ok is false when
// it has not ended yet: a store that hangs does not stop the loop, nor the agent's end.
func (a *Agent) stopPublishing() (ok bool) {
	if a.pub.p != nil {
		a.pub.end()
		a.publisher.Store(nil)
		a.pub = publishing{ended: a.pub.ended}
	}
	if a.pub.ended == nil {
		return true
	}
	if !a.pub.next { // else it was waited for before
		select {
		case <-a.pub.ended:
		case <-time.After(publishEnd):
		}
	}
	select {
	case <-a.pub.ended:
		a.pub = publishing{}
		return true
	default:
		return false
	}
}

// orUnknown lets a machine without an id publish, too.
func orUnknown(id string) string {
	if id == "" {
		return "unknown"
	}
	return id
}

// publish tells the publisher what this node offers now, if that changed.
func (a *Agent) publish() {
	if a.pub.p == nil {
		return
	}
	if node := a.nodeRecord(); !a.pub.told || !reflect.DeepEqual(node, a.pub.node) {
		a.pub.node = node
		a.pub.p.SetNode(node)
	}
	if !a.pub.stale || !a.booted {
		return // before that, what an earlier agent published stays
	}
	a.pub.stale = false
	services, adopted := []publish.Service{}, false
	for _, id := range a.table.ids {
		r := a.table.rows[id]
		adopted = a.adoptOffers(id, r) || adopted
		if len(r.m.Provides) == 0 {
			continue
		}
		services = append(services, publish.Service{
			ID: id, Ready: a.publishable(id, r), Offers: a.st.service(id).Offers,
			Exclusive: r.m.Exclusive, Check: a.check(id, r), Grace: a.exec != nil,
		})
	}
	if adopted { // before others see it: the next process must know of it
		a.save()
	}
	if !a.pub.told || !reflect.DeepEqual(services, a.pub.services) {
		a.pub.services, a.pub.told = services, true
		a.pub.p.Set(services)
	}
}

// adoptOffers makes what the manifest says now what the service offers, but
// not while its step is due, or cannot be: until that succeeds, the service is
// what it was. It reports whether that changed anything.
func (a *Agent) adoptOffers(id string, r *row) bool {
	var offers map[string]store.Provider
	switch {
	case len(r.m.Provides) == 0: // what it offered before is not offered when it offers something again
	case len(r.offers) == 0 || r.res.State != resolve.Ready || a.table.due(id):
		return false
	default:
		offers = a.offersOf(id, r)
	}
	if was := a.st.service(id).Offers; len(was) == 0 && len(offers) == 0 || reflect.DeepEqual(offers, was) {
		return false
	}
	a.st.edit(id).Offers = offers
	return true
}

// offersOf are the entries of what the service offers now; nil: nothing.
func (a *Agent) offersOf(id string, r *row) map[string]store.Provider {
	if len(r.offers) == 0 {
		return nil
	}
	offers := make(map[string]store.Provider, len(r.offers))
	for key := range r.offers {
		offers[key] = a.offer(id, r, key)
	}
	return offers
}

// offer is the entry of a key that the service offers, but for what only the
// publisher knows.
func (a *Agent) offer(id string, r *row, key string) store.Provider {
	if p, ok := a.st.service(id).Offers[key]; ok && r.res.State == resolve.Kept {
		return p
	}
	p := store.Provider{
		Value: r.offers[key], Host: a.host, LocalPort: r.m.LocalPort, Public: r.m.Public, Hosts: r.m.Hosts,
		Priority: r.m.Priority, Weight: r.m.Weight, Balance: r.m.Balance,
	}
	p.Port = portOf(r.m.Port())
	if p.Host == "" { // not known just now: it is where it was
		p.Host = a.st.service(id).Offers[key].Host
	}
	return p
}

// portOf reads a port; 0 is none.
func portOf(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// publishable reports whether the service may be told to the fleet: its step
// succeeded since the machine booted, or, while the agent is off, ever. One
// that only declares needs to be ready.
func (a *Agent) publishable(id string, r *row) bool {
	st, step := a.st.service(id), a.stepOf(r.m)
	switch {
	case r.res.State == resolve.Waiting:
		return false
	case step == "":
		return true
	case st.Good == nil:
		return false
	}
	return a.off.holds() || a.st.Settled[step] >= a.st.BootForced
}

// check is the service's health check, with everything filled in.
func (a *Agent) check(id string, r *row) *publish.Check {
	m := r.m
	if m.Check == nil {
		return nil
	}
	c := &publish.Check{UID: -1, GID: -1}
	facts := a.nodeFacts()
	switch {
	case r.checkMissing != "": // nothing to ask: it is what it was
	case m.Check.Exec != nil && a.stepOf(m) != "" && a.st.service(id).Good == nil: // nor in which environment
	case m.Check.HTTP != nil:
		c.HTTP, _ = resolve.Offer(m, facts, *m.Check.HTTP)
	case m.Check.TCP != nil:
		c.TCP, _ = resolve.Offer(m, facts, *m.Check.TCP)
	default:
		for _, t := range m.Check.Exec {
			arg, _ := resolve.Offer(m, facts, t)
			c.Exec = append(c.Exec, arg)
		}
		if (m.User != "" || m.Group != "") && os.Geteuid() == 0 {
			uid, gid, err := render.Owner(m.User, m.Group)
			if a.fault("owner of "+id, err); err != nil {
				uid, gid = nobody, nobody // until the owner is there: never as root
			}
			c.UID, c.GID = uid, gid
		}
		c.Env = a.checkEnv(id)
	}
	return c
}

// nobody runs an exec check whose own user does not exist yet.
const nobody = 65534

// checkEnv is the environment of an exec check: that of the service.
func (a *Agent) checkEnv(id string) []string {
	env := maps.Clone(baseEnv())
	if good := a.st.service(id).Good; good != nil {
		maps.Copy(env, good.Vars)
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// nodeRecord is what this node says of itself to the fleet.
func (a *Agent) nodeRecord() store.NodeRecord {
	n := store.NodeRecord{
		Version: a.opt.Version, Region: a.region, Host: a.host, AgentState: "up", Revision: a.st.AppliedRev,
	}
	if a.off.is {
		n.AgentState = "off"
	}
	if r := a.lastRun; r != nil {
		n.Run, n.Result, n.Ended = r.ID, r.Result, r.Ended.UTC().Format(time.RFC3339)
	}
	if a.booted {
		for _, id := range a.table.ids {
			n.WaitingOn = append(n.WaitingOn, a.table.rows[id].res.Missing...)
		}
		slices.Sort(n.WaitingOn)
		n.WaitingOn = slices.Compact(n.WaitingOn)
		if more := len(n.WaitingOn) - waitingOnMax; more > 0 {
			n.WaitingOn = append(n.WaitingOn[:waitingOnMax:waitingOnMax], fmt.Sprintf("and %d more", more))
		}
	}
	return n
}

// waitingOnMax bounds the keys in a node's record.
const waitingOnMax = 20

var (
	errNotPublishing = errors.New("this agent does not publish")
	errPublishAnew   = fmt.Errorf("%w: publishing begins anew when it answers what is under way", store.ErrUnavailable)
)

// publishes has f change the publisher of now, and whichever one a reload put
// in its place meanwhile, which may not have seen what the first one kept.
func (a *Agent) publishes(ctx context.Context, f func(*publish.Publisher) error) error {
	p := a.publisher.Load()
	if p == nil {
		anew := false
		if err := a.do(ctx, func() { anew = a.pub.next }); err != nil {
			return err
		}
		switch p = a.publisher.Load(); {
		case p == nil && anew:
			return errPublishAnew
		case p == nil:
			return errNotPublishing
		}
	}
	for {
		if err := f(p); err != nil {
			return err
		}
		// One that the loop makes after this reads the file of a drain itself.
		if a.do(context.WithoutCancel(ctx), func() {}) != nil {
			return nil
		}
		next := a.publisher.Load()
		if next == p || next == nil {
			return nil
		}
		p = next
	}
}

// Drain takes this node's services out of service: they stay in the store as
// draining, then as left, until Undrain. It returns when the disk has it.
func (a *Agent) Drain(ctx context.Context, who, reason string) error {
	return a.publishes(ctx, func(p *publish.Publisher) error { return p.Drain(ctx, who, reason, false) })
}

// Undrain ends a drain; changed is false when there was none.
func (a *Agent) Undrain(ctx context.Context) (changed bool, err error) {
	err = a.publishes(ctx, func(p *publish.Publisher) error {
		was, err := p.Undrain(ctx)
		changed = changed || was
		return err
	})
	return changed, err
}

// withdraw takes back what is published when the agent stops, if the settings
// ask for it.
func (a *Agent) withdraw() {
	p := a.pub.p
	if p == nil {
		return
	}
	always := a.cfg.Publish.WithdrawOnStop == "always"
	shutdown := a.cfg.Publish.WithdrawOnStop == "shutdown" && a.opt.ShuttingDown != nil && a.opt.ShuttingDown()
	if !always && !shutdown {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Publish.DrainWait+withdrawTime)
	defer cancel()
	if err := p.Drain(ctx, "the agent", "the agent stops", true); err != nil {
		a.log.Warn("withdraw what is published", "error", err)
	}
}

// withdrawTime is how long the store has to take a withdrawal.
const withdrawTime = 5 * time.Second
