// Package listener is the agent: it keeps the node's view of the store,
// decides when a provision is due, runs it, and can always say why.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/publish"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/throttle"
)

// Errors that callers branch on.
var (
	// ErrOff: the agent is switched off and the request would have run something.
	ErrOff = api.ErrOff
	// ErrRunning: another agent holds the state directory.
	ErrRunning = errors.New("another agent uses this state directory")
	// ErrStopped: the agent has stopped, or is about to.
	ErrStopped = fmt.Errorf("%w: the agent has stopped", store.ErrUnavailable)
	// ErrNothing: no run was made, since no service here has a command.
	ErrNothing = errors.New("nothing to run: neither the node nor a service has a command")
)

// Options is what New needs.
type Options struct {
	// Config is required; New keeps it.
	Config *config.Config
	// Reload reads the settings again; nil: they stay as they are.
	Reload func() (*config.Config, error)
	// Store is required; the agent does not close it.
	Store store.Store
	// Version is what status says; "" is "dev".
	Version string
	// Exe is the listener binary, which supervises steps; "" is this one.
	Exe string
	// Log gets one line per event that an operator cares about; nil: none.
	Log *slog.Logger
	// OnEvent is called with the same events, from the loop: it must not block.
	OnEvent func(status.Event)
	// Alive is called by the loop each time that it has looked at everything,
	// and at least each AliveEvery (0: only when there is reason to look).
	// headline is the agent in one line. It may not take long; nil: nobody asks.
	Alive      func(headline string)
	AliveEvery time.Duration
	// Runner replaces the provisioner, for tests.
	Runner Runner
	// Clock replaces the boot id and CLOCK_BOOTTIME, for tests.
	Clock func() throttle.Now
	// MachineID replaces /etc/machine-id, for tests.
	MachineID string
	// FindHost replaces config.DefaultHost, for tests. It may block for a second.
	FindHost func() string
	// NoPublish keeps what this node provides to itself. For one pass.
	NoPublish bool
	// ShuttingDown says whether the machine is going down, so that an agent
	// that stops withdraws what it published; nil: nobody knows, it does not.
	ShuttingDown func() bool
	// NoFileWatch leaves out the directory watch, so that only the rescan each
	// 60 s and Reload see changed files. For tests in fake time.
	NoFileWatch bool
	// CancelOnStop ends a step in progress when Run's ctx ends, instead of
	// leaving it to the next agent. For `listener dev`.
	CancelOnStop bool
}

// Agent is one node's agent. Its methods may be called from any goroutine
// while Run runs.
type Agent struct {
	opt     Options
	log     *slog.Logger
	runner  Runner
	history *provision.History
	clock   func() throttle.Now
	space   store.Space
	node    string
	region  string
	host    string
	started time.Time

	inbox   chan func()
	updates chan tagged
	scans   chan scanned
	queue   chan func() // see later
	slow    *writer
	events  *broadcast
	stopped chan struct{} // closed when the loop has ended
	// publisher is that of pub, for who asks from outside of the loop; nil: none.
	publisher atomic.Pointer[publish.Publisher]

	// What follows is owned by the loop's goroutine.
	cfg         *config.Config
	st          *state
	dig         *digester
	throttle    *throttle.Record
	view        *view
	booted      bool // resolving is allowed: a Reset came, or boot_wait is over
	attrs       attributes
	svcs        *services
	table       *table
	watch       watchState
	replica     replicaTimes
	pub         publishing
	lanes       []*lane
	lanesEnding []*lane // of earlier settings, that are busy still
	lanesStale  bool    // their plans may be other ones
	off         offState
	exec        *execution // the run in progress; nil: none
	adopting    bool
	pend        pending
	meanwhile   pending // what became due during the run: first, last, since
	drift       driftState
	filesFailed map[string]filesTry // by service
	conds       conditions
	waiters     []*waiter
	holders     []*status.Hold // commands that keep provisions away
	followers   []*follower
	faults      map[string]error // what does not work now, by name: "state_dir", "history", …
	unstamped   bool             // last_provision lacks the start of a run
	unforgotten []provision.Ref  // steps that have ended, and whose result is still in run_dir
	rng         *rand.Rand
	runsTotal   uint64
	lastRun     *status.Run
	lastForced  uint64 // that lastRun covered, if it ended in this process
	vain        uint64 // the forced count up to which there was nothing to run
	timers      deadline
	looks       int // how often step was called
	foreign     foreignState
	savedFiles  *fileCache
	wg          sync.WaitGroup
	runCtx      context.Context
	saidOwners  bool // that user and group are ignored
	findingHost bool // a goroutine looks for it

	stopWatching context.CancelFunc // of the files
}

// New checks the options and opens what the agent needs. Nothing runs yet,
// and a state that is damaged is a condition, not an error.
func New(o Options) (*Agent, error) {
	if o.Config == nil || o.Store == nil {
		return nil, errors.New("new agent: Config and Store are required")
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		opt: o, log: o.Log, cfg: o.Config, runner: o.Runner, clock: o.Clock,
		node: o.Config.Node, region: o.Config.Region, host: o.Config.Host,
		inbox: make(chan func()), updates: make(chan tagged), scans: make(chan scanned), queue: make(chan func(), 64),
		events: newBroadcast(), stopped: make(chan struct{}),
		faults: map[string]error{}, filesFailed: map[string]filesTry{},
		drift: driftState{repairs: map[string][]time.Time{}}, started: time.Now(),
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
	a.slow = newWriter(a.faultLater)
	if a.clock == nil {
		if _, err := throttle.Clock(); err != nil {
			return nil, fmt.Errorf("new agent: %w", err)
		}
		a.clock = func() throttle.Now { now, _ := throttle.Clock(); return now }
	}
	if a.opt.FindHost == nil {
		a.opt.FindHost = func() string { return config.DefaultHost(o.Config.Store) }
	}
	if a.opt.MachineID == "" {
		id, _ := os.ReadFile("/etc/machine-id")
		a.opt.MachineID = strings.TrimSpace(string(id))
	}
	if a.runner == nil {
		r, err := a.newRunner()
		if err != nil {
			return nil, fmt.Errorf("new agent: %w", err)
		}
		a.runner = r
	}
	return a, nil
}

// Run takes the state directory and runs the loop until ctx ends. It returns
// after all its goroutines have ended; a step in progress lives on. It fails
// only at the start: ErrRunning, or a state directory that cannot be locked.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.stopped)
	unlock, err := lockState(a.cfg.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer a.wg.Wait()
	defer cancel()
	a.runCtx = ctx
	files := newFileWatch(a.cfg) // before load reads them
	a.load()
	slow, endSlow := context.WithCancel(context.Background())
	defer endSlow() // after the loop, which queues to its end
	a.wg.Go(func() { a.slow.run(slow) })
	a.startWatching(ctx, files)
	a.startPublishing()
	a.adopt(ctx)
	if a.exec == nil {
		a.runner.Warm()
	}
	a.emit("started", fmt.Sprintf("agent %s started on node %s, federation %s, region %s",
		a.opt.Version, a.node, a.space.Federation, a.region))
	a.loop(ctx)
	a.withdraw()
	_ = a.stopPublishing()
	if err := a.runner.Close(); err != nil {
		a.log.Warn("close provisioner", "error", err)
	}
	a.emit("stopped", "agent stopped")
	return nil
}

// lockState takes state_dir/agent.lock, so that one agent uses it. The file is
// not open for writing: that would keep an operator from making the file
// system read-only, and an agent that starts on such a one finds it, too. Where
// there is none and none can be made, the directory itself is locked.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	path := filepath.Join(dir, "agent.lock")
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		f, err = os.Open(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EBADF) { // NFS locks only what is open for writing
		f.Close()
		if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return nil, fmt.Errorf("lock state directory: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		return func() { f.Close() }, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: %s", ErrRunning, dir)
	}
	return nil, fmt.Errorf("lock state directory: %w", err)
}

// loop is the only goroutine that decides. Everything else only wakes it.
func (a *Agent) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(a.alive(a.step()))
		select {
		case <-ctx.Done():
			a.shutdown()
			return
		case u := <-a.updates:
			a.onUpdate(u)
		case s := <-a.scans:
			a.onScan(s)
		case f := <-a.inbox:
			f()
		case f := <-a.queue:
			f()
		case <-timer.C:
		}
		a.drain()
	}
}

// drain takes what else is there already, so that a burst is one decision.
func (a *Agent) drain() {
	for range 1000 {
		select {
		case u := <-a.updates:
			a.onUpdate(u)
		case s := <-a.scans:
			a.onScan(s)
		case f := <-a.inbox:
			f()
		case f := <-a.queue:
			f()
		default:
			return
		}
	}
}

// step brings everything up to date with what is known now and returns when
// to look again, if nothing happens before.
func (a *Agent) step() time.Duration {
	a.timers.reset()
	a.looks++
	now := a.now()
	a.removals()
	a.saveManifests()
	a.attributesGone()
	a.boot()
	a.findHost()
	a.refreshWatch()
	a.stopAsking()
	if a.replica.late {
		a.saveReplica()
	}
	if a.booted {
		a.releaseProviders()
		a.resolve()
		a.awaitBetter()
		a.expireOff(now)
		a.decide(now)
		a.decideLanes(now)
	}
	a.tellFollowers()
	a.publish()
	a.checkDrift()
	a.updateConditions()
	a.answerWaiters()
	return a.timers.next()
}

// do runs f in the loop and waits for it.
func (a *Agent) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.inbox <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.stopped:
		return ErrStopped
	}
}

// post hands f to the loop from one of the agent's own goroutines; it is
// dropped when the agent stops.
func (a *Agent) post(f func()) {
	select {
	case a.inbox <- f:
	case <-a.runCtx.Done():
	}
}

// later hands f to the loop without ever waiting; when too much is queued
// already, f is dropped.
func (a *Agent) later(f func()) {
	select {
	case a.queue <- f:
	default:
	}
}

// now is the clock that spacing of runs counts by.
func (a *Agent) now() throttle.Now { return a.clock() }

// deadline collects the moments at which the loop must look again.
type deadline struct{ d time.Duration }

// idleLook is how long the loop sleeps when nothing asks for less.
const idleLook = time.Hour

func (t *deadline) reset()             { t.d = idleLook }
func (t *deadline) in(d time.Duration) { t.d = min(t.d, max(d, 0)) }
func (t *deadline) next() time.Duration {
	return t.d
}
