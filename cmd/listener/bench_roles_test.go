package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/listener"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// The floor and the agent that it is compared with are processes of their own:
// this test's program, started again in a role. Each opens a local store,
// commits to it when told to, and says what it measured.
const (
	roleVariable = "LISTENER_BENCH_ROLE" // floor or agent
	roleDir      = "LISTENER_BENCH_DIR"  // of the node
)

func init() {
	if r := os.Getenv(roleVariable); r != "" {
		if err := playRole(r, os.Getenv(roleDir)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", r+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// order is what a role is told, one JSON document each.
type order struct {
	// Changes is how many values to put, one after another; with Burst all
	// during one run.
	Changes int
	Burst   bool
}

// measured is a role's answer.
type measured struct {
	// Latency is from the return of Commit to the command's first instruction.
	Latency []time.Duration
	// Decision is the process's CPU from before Commit to the last gate.
	Decision []time.Duration
	// Begun is its CPU from before Commit until the run is handed on.
	Begun []time.Duration
	// Whole is its CPU from before Commit until the run is recorded.
	Whole []time.Duration
	// Runs is how many began.
	Runs int
	// Err says what went wrong.
	Err string
}

// actor is a process in a role.
type actor struct {
	dir    string
	cfg    *config.Config
	store  store.Store
	stamps benchenv.Stamps
	begun  chan time.Duration // for each run, the CPU used when it was started
	gates  atomic.Int64       // the CPU used when the last gate was looked at last
	ended  chan struct{}      // for each run, after all of it
	values int
}

func playRole(role, dir string) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	s, _, err := openStore(cfg, false)
	if err != nil {
		return err
	}
	defer s.Close()
	a := &actor{dir: dir, cfg: cfg, store: s, begun: make(chan time.Duration, 4), ended: make(chan struct{}, 4)}
	if a.stamps, err = benchenv.OpenStamps(filepath.Join(dir, "stamps")); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	run := a.bareLoop
	if role == "agent" {
		run = a.agent
	}
	go func() { ran <- run(ctx) }()
	err = a.obey()
	cancel()
	return errors.Join(err, <-ran)
}

// bareLoop is the floor: wait on the store, then fork and exec.
func (a *actor) bareLoop(ctx context.Context) error {
	for u := range a.store.Watch(ctx, a.key()) {
		if u.Kind == store.Lost {
			return u.Err
		}
		a.begun <- 0
		pid, err := syscall.ForkExec(a.cfg.Provision.Command[0], a.cfg.Provision.Command, &syscall.ProcAttr{Dir: "/"})
		if err != nil {
			return err
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
		a.ended <- struct{}{}
	}
	return nil
}

// agent is the whole agent but for its API, supervised by the real binary.
func (a *actor) agent(ctx context.Context) error {
	log, err := os.Create(filepath.Join(a.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := provision.New(provision.Options{StateDir: a.cfg.StateDir, RunDir: a.cfg.RunDir, Exe: filepath.Join(a.dir, "listener")})
	if err != nil {
		return err
	}
	thrifty()
	ag, err := listener.New(listener.Options{
		Config: a.cfg, Store: a.store, Runner: gatekeeper{p, a}, Log: slog.New(slog.NewTextHandler(log, nil)),
		OnEvent: func(ev status.Event) {
			switch ev.Name {
			case "run started":
				a.begun <- benchenv.ProcessCPU(os.Getpid())
			case "run ended":
				a.ended <- struct{}{}
			}
		},
	})
	if err != nil {
		return err
	}
	return ag.Run(ctx)
}

// gatekeeper notes when the agent asks whether another step runs, which is
// the last gate: whatever it does after is a run.
type gatekeeper struct {
	*provision.Provisioner
	a *actor
}

func (g gatekeeper) Busy() (bool, error) {
	busy, err := g.Provisioner.Busy()
	g.a.gates.Store(int64(benchenv.ProcessCPU(os.Getpid())))
	return busy, err
}

// obey carries out orders until there are no more.
func (a *actor) obey() error {
	if _, err := a.oneRun(); err != nil { // the first, which the start makes due
		return fmt.Errorf("first run: %w", err)
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var m measured
		err := error(nil)
		if o.Burst {
			err = a.burst(o.Changes, &m)
		} else {
			err = a.changes(o.Changes, &m)
		}
		if err != nil {
			m.Err = err.Error()
		}
		if err := out.Encode(m); err != nil {
			return err
		}
	}
}

// breath lets what follows a run end before the next change; the floor has it too.
const breath = 2 * time.Millisecond

// changes puts n values, each after the run for the one before.
func (a *actor) changes(n int, m *measured) error {
	pid := os.Getpid()
	for range n {
		time.Sleep(breath)
		cpu := benchenv.ProcessCPU(pid)
		at, err := a.put()
		if err != nil {
			return err
		}
		begun := <-a.begun
		first, err := a.stamps.Next()
		if err != nil {
			return err
		}
		<-a.ended
		m.Latency = append(m.Latency, first-at)
		m.Decision = append(m.Decision, time.Duration(a.gates.Load())-cpu)
		m.Begun = append(m.Begun, begun-cpu)
		m.Whole = append(m.Whole, benchenv.ProcessCPU(pid)-cpu)
		m.Runs++
	}
	return nil
}

// put commits another value and returns when Commit did.
func (a *actor) put() (time.Duration, error) {
	a.values++
	_, err := a.store.Commit(context.Background(), nil, store.Op{Key: a.key(), Value: a.value()})
	return benchenv.Monotonic(), err
}

func (a *actor) value() []byte { return fmt.Appendf(nil, "value-%d", a.values) }

// key is the one that changes.
func (a *actor) key() string {
	return store.Space{Prefix: a.cfg.Store.Prefix, Federation: "default"}.Value("", benchKey(0, 0))
}

// oneRun waits for a run from begin to end.
func (a *actor) oneRun() (first time.Duration, err error) {
	select {
	case <-a.begun:
	case <-time.After(benchenv.Patience):
		return 0, errors.New("no run began")
	}
	if first, err = a.stamps.Next(); err == nil {
		<-a.ended
	}
	return first, err
}

// burst puts n values while a run is in progress, and counts the runs after it.
func (a *actor) burst(n int, m *measured) error {
	hold := filepath.Join(a.dir, "hold") // see writeSettings
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		return err
	}
	if _, err := a.put(); err != nil {
		return err
	}
	<-a.begun
	if _, err := a.stamps.Next(); err != nil { // it runs, and waits until hold is gone
		return err
	}
	for range n {
		if _, err := a.put(); err != nil {
			return err
		}
	}
	if err := os.Remove(hold); err != nil {
		return err
	}
	<-a.ended
	for quiet := time.After(benchenv.Patience); ; quiet = time.After(time.Second) {
		select {
		case <-a.begun:
			m.Runs++
			if _, err := a.stamps.Next(); err != nil {
				return err
			}
			<-a.ended
		case <-quiet:
			return a.lastValue()
		}
	}
}

// lastValue checks that the newest value is the one that was provisioned.
func (a *actor) lastValue() error {
	data, err := os.ReadFile(filepath.Join(a.cfg.Env.Dir, benchService(0)+".conf"))
	if err == nil && !strings.Contains(string(data), "'"+string(a.value())+"'") {
		err = fmt.Errorf("the value provisioned last is not %s:\n%s", a.value(), data)
	}
	return err
}

// child is a process in a role, seen from the benchmark.
type child struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

// startRole starts this program in a role; it ends with the benchmark.
func startRole(b *testing.B, role, dir string) *child {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, roleDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", role, err)
		}
	})
	return &child{cmd, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

func (c *child) do(b *testing.B, o order) measured {
	b.Helper()
	var m measured
	err := c.in.Encode(o)
	if err == nil {
		err = c.out.Decode(&m)
	}
	if err != nil || m.Err != "" {
		b.Fatal(err, m.Err)
	}
	return m
}
