package publish

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

const (
	ttl  = 30 * time.Second
	look = time.Minute // anti-entropy
	wait = 10 * time.Second
)

var space = store.Space{Prefix: "/listener/v1", Federation: "test"}

// fleet is a store in memory, and a client that watches what is written.
type fleet struct {
	*testing.T
	m    *storetest.Memory
	seen *observer
}

// bubble runs f with a fleet in fake time.
func bubble(t *testing.T, f func(*fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newFleet(t)) })
}

func newFleet(t *testing.T) *fleet {
	m := storetest.NewMemory()
	fl := &fleet{T: t, m: m, seen: observe(m.Dial())}
	t.Cleanup(func() { // after every process has ended
		fl.seen.m.Close()
		m.Close()
	})
	return fl
}

// observer counts the updates that a second client gets.
type observer struct {
	m *storetest.Memory

	mu     sync.Mutex
	writes int
	states map[string][]store.State // of each entry, one after the other; "" when it goes
}

func observe(m *storetest.Memory) *observer {
	o := &observer{m: m, states: map[string][]store.State{}}
	updates := m.Watch(context.Background(), space.Key()+"/")
	go func() {
		for u := range updates {
			o.take(u)
		}
	}()
	synctest.Wait()
	return o
}

func (o *observer) take(u store.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if u.Kind == store.Change {
		o.writes++
	}
	for _, kv := range u.KVs {
		if p, err := store.DecodeProvider(kv.Value); err == nil && strings.Contains(kv.Key, "/provides/") {
			if s := o.states[kv.Key]; len(s) == 0 || s[len(s)-1] != p.State {
				o.states[kv.Key] = append(s, p.State)
			}
		}
	}
	for _, g := range u.Gone {
		if s := o.states[g.Key]; len(s) > 0 {
			o.states[g.Key] = append(s, "")
		}
	}
}

// count returns how many updates there were so far.
func (o *observer) count() int {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writes
}

func (o *observer) history(path string) []store.State {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.states[path])
}

// node is one node of a fleet, whose process may be started more than once.
type node struct {
	fl  *fleet
	o   Options
	p   *Publisher
	end func()

	mu     sync.Mutex
	health error // what its checks find
	hang   bool
	events []string
}

func (fl *fleet) options(name string) Options {
	return Options{
		Store: fl.m.Dial(), Space: space, Node: name, Region: "r1", MachineID: "machine-" + name, BootID: "boot-1",
		StateDir: fl.TempDir(), TTL: ttl, AntiEntropy: look, DrainWait: wait,
		Check: CheckSettings{Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
	}
}

func (fl *fleet) node(name string) *node {
	return &node{fl: fl, o: fl.options(name)}
}

// start starts a process; it publishes services.
func (n *node) start(services ...Service) {
	n.fl.Helper()
	n.launch()
	n.p.SetNode(store.NodeRecord{Version: "1", AgentState: "up"})
	n.p.Set(services)
	synctest.Wait()
}

// launch starts a process that is told nothing yet.
func (n *node) launch() {
	n.fl.Helper()
	n.o.Event = func(name, _ string, _ ...string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, name)
	}
	p, err := New(n.o)
	if err != nil {
		n.fl.Fatal(err)
	}
	p.probe = n.probe
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			n.fl.Error(err)
		}
	}()
	n.p, n.end = p, func() { cancel(); <-done }
	n.fl.Cleanup(n.end)
}

func (n *node) probe(ctx context.Context, _ Check) error {
	n.mu.Lock()
	err, hang := n.health, n.hang
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (n *node) finds(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.health, n.hang = err, false
}

// told returns the events so far.
func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

// client is the store as this node reaches it.
func (n *node) client() *storetest.Memory { return n.o.Store.(*storetest.Memory) }

func (n *node) path(key, service string) string {
	return space.Provider(key, n.o.Region, n.o.Node, service)
}

// entry returns what the store holds; State "" for nothing.
func (fl *fleet) entry(path string) store.Provider {
	fl.Helper()
	synctest.Wait()
	kv, err := fl.seen.m.Get(context.Background(), path)
	if errors.Is(err, store.ErrNotFound) {
		return store.Provider{}
	}
	if err != nil {
		fl.Fatal(err)
	}
	p, err := store.DecodeProvider(kv.Value)
	if err != nil {
		fl.Fatal(err)
	}
	return p
}

func (fl *fleet) is(path string, want store.State) {
	fl.Helper()
	if got := fl.entry(path).State; got != want {
		fl.Errorf("%s is %q, want %q", path, got, want)
	}
}

func (fl *fleet) record(name string) (store.NodeRecord, bool) {
	fl.Helper()
	synctest.Wait()
	kv, err := fl.seen.m.Get(context.Background(), space.Node(name))
	if errors.Is(err, store.ErrNotFound) {
		return store.NodeRecord{}, false
	}
	r, errDecode := store.DecodeNodeRecord(kv.Value)
	if err := errors.Join(err, errDecode); err != nil {
		fl.Fatal(err)
	}
	return r, true
}

func (n *node) conditions() []string {
	synctest.Wait()
	names := map[string]bool{}
	for _, c := range n.p.Status().Conditions {
		names[c.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (n *node) condition(name string, want bool) {
	n.fl.Helper()
	if got := n.conditions(); slices.Contains(got, name) != want {
		n.fl.Errorf("conditions are %q, want %q: %v", got, name, want)
	}
}

func offer(value string) store.Provider {
	return store.Provider{Value: value, Host: "10.0.0.1", Port: 8080, Weight: 100}
}

// api offers API_URL; it is ready.
func api() Service {
	return Service{ID: "api", Ready: true, Offers: map[string]store.Provider{"API_URL": offer("http://10.0.0.1:8080/")}}
}

func checked(s Service) Service {
	s.Check = &Check{TCP: "127.0.0.1:8080", UID: -1, GID: -1}
	return s
}

func exclusive(s Service) Service {
	s.Exclusive = []string{"API_URL"}
	return s
}
