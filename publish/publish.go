// Package publish tells the store what this node's services provide: one entry
// per provided key, kept under one session, with the state that checks, drains
// and claims give it.
//
// It is level-triggered: one goroutine compares what is wanted with what the
// store holds and writes the differences. Everything else only wakes it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// Options say what a Publisher is for. All are required but those that name
// a default.
type Options struct {
	Store store.Store
	Space store.Space

	Node   string
	Region string
	// MachineID and BootID tell this node from another one of its name, and
	// this boot from an earlier one.
	MachineID string
	BootID    string

	// StateDir keeps the session (publish.json) and a drain (drain), both 0600.
	StateDir string
	// TTL of the node's session, at least store.MinTTL.
	TTL time.Duration
	// AntiEntropy is how often the own entries are compared with the store.
	AntiEntropy time.Duration
	// DrainWait is how long entries are draining before they leave. 0: they
	// leave at once.
	DrainWait time.Duration
	Check     CheckSettings

	// Changed is told, by Run's goroutine, after Status differs in more than
	// counters and times of checks. It must not block. Default: nobody.
	Changed func()
	// Event is told what happened, by Run's goroutine, with pairs of attribute
	// and text; it must not block. Default: nobody.
	Event func(name, text string, attrs ...string)
}

// Service is what one service of the node wants published.
type Service struct {
	ID string
	// Ready: its step succeeded in this boot, or it needs none: it may be
	// published. What was published in this boot stays when Ready is lost.
	Ready bool
	// Offers are its entries by key. State, Incarnation and Claim are filled in
	// here. nil: not known; what was published of it in this boot stays what it is.
	Offers map[string]store.Provider
	// Exclusive are the keys of Offers that one node of the federation may have up.
	Exclusive []string
	// Check decides between up and down; nil: up.
	Check *Check
	// Grace: the node's own provision runs; failed checks do not count meanwhile.
	Grace bool
}

// Status is what the Publisher says of itself.
type Status struct {
	status.Publishing
	// Conditions are in no order that means anything.
	Conditions []status.Condition
}

// Publisher publishes for one node. Its methods may be called from any
// goroutine, before, while and after Run runs.
type Publisher struct {
	o     Options
	wake  chan struct{}
	probe func(context.Context, Check) error

	// files makes changes of the drain file one at a time.
	files sync.Mutex

	mu     sync.Mutex // guards what follows
	in     wanted
	health map[string]*health // by service
	moved  map[string]bool    // tickets that a watch saw go
	report Status
	kept   memory // what New found; Run's from then on
}

// wanted is the desired state as it was last told.
type wanted struct {
	services    []Service
	servicesSet bool // Set was called: what is not in services is not offered
	node        store.NodeRecord
	nodeSet     bool
	drain       *drain // nil: none
	leave       *leave // nil: the agent stays
}

// told reports whether it is known what is offered; before that, nothing that
// an earlier process published is withdrawn.
func (w *wanted) told() bool { return w.servicesSet || w.leave != nil }

// New reads what an earlier process left in StateDir. It does not touch the store.
func New(o Options) (*Publisher, error) {
	switch {
	case o.Store == nil || o.Node == "" || o.Region == "" || o.StateDir == "":
		return nil, errors.New("publish: no store, node, region or state directory given")
	case o.MachineID == "" || o.BootID == "":
		return nil, errors.New("publish: no machine id or boot id given")
	case o.AntiEntropy <= 0 || o.DrainWait < 0:
		return nil, fmt.Errorf("publish: anti_entropy is %v, drain_wait %v", o.AntiEntropy, o.DrainWait)
	}
	if err := store.CheckTTL(o.TTL); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if err := o.Check.validate(); err != nil {
		return nil, err
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Event == nil {
		o.Event = func(string, string, ...string) {}
	}
	p := &Publisher{
		o:      o,
		wake:   make(chan struct{}, 1),
		probe:  probe,
		health: map[string]*health{},
		moved:  map[string]bool{},
		kept:   loadMemory(o),
	}
	p.in.drain = loadDrain(o.StateDir)
	p.report.Drain = p.in.drain.status(o.DrainWait, time.Now(), false)
	p.report.Published, p.report.Checks = []status.Published{}, []status.CheckResult{}
	return p, nil
}

// Set says what shall be published from now on; an entry of a service or key
// that it does not name is withdrawn, unless the service's Offers are nil. services and what they refer to must
// not be changed afterwards. It does not block.
func (p *Publisher) Set(services []Service) {
	p.change(func(in *wanted) { in.services, in.servicesSet = services, true })
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range services { // before a check that fails now is counted
		if h := p.health[services[i].ID]; h != nil {
			h.excuse(services[i].Grace)
		}
	}
}

// SetNode says what the node tells of itself; MachineID, BootID and Region are
// filled in here, and the state of a drain. Nothing is published before the
// first call. It does not block.
func (p *Publisher) SetNode(n store.NodeRecord) {
	p.change(func(in *wanted) { in.node, in.nodeSet = n, true })
}

func (p *Publisher) change(f func(*wanted)) {
	p.mu.Lock()
	f(&p.in)
	p.mu.Unlock()
	p.poke()
}

// poke makes Run's goroutine look again.
func (p *Publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Status returns the present state. It does not block.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.report
	s.Checks = p.checksLocked()
	// A turn takes as long as the store does; what was asked for is told at once.
	switch d := p.in.drain; {
	case d == nil:
		s.Drain = nil
	case s.Drain == nil || !s.Drain.Since.Equal(d.Since):
		s.Drain = d.status(p.o.DrainWait, time.Now(), false)
	}
	return s
}

// Run publishes until ctx ends, and returns nil after its goroutines have
// ended. Entries stay in the store: they are there for as long as the session
// lives, and the next process of this boot takes it over.
func (p *Publisher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	r := newReconciler(p)
	defer r.end()
	defer cancel()
	for ctx.Err() == nil {
		next := r.turn(ctx)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-r.lost():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// tell makes s the status and says so if it differs.
func (p *Publisher) tell(s Status) {
	p.mu.Lock()
	s.Checks = p.checksLocked()
	for i := range s.Checks { // what differs with each check is not news
		s.Checks[i].At, s.Checks[i].Passed, s.Checks[i].Failed = time.Time{}, 0, 0
	}
	differs := !reflect.DeepEqual(p.report, s)
	p.report = s
	p.mu.Unlock()
	if differs {
		p.o.Changed()
	}
}
