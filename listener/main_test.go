package listener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/throttle"
)

// fakeRunner runs steps as functions, in the time of the test.
type fakeRunner struct {
	mu      sync.Mutex
	jobs    []provision.Job // all that were started
	results map[provision.Ref]provision.Result
	going   map[provision.Ref]chan struct{}
	overlap bool

	// command decides how a step ends; nil: it succeeds at once.
	command func(job provision.Job) provision.Result
	// forgetting sees what is about to be forgotten, and may keep it.
	forgetting  func(provision.Ref) (keep bool)
	forgetError error
}

func newFakeRunner() *fakeRunner {
	return &fakeRunner{results: map[provision.Ref]provision.Result{}, going: map[provision.Ref]chan struct{}{}}
}

func (f *fakeRunner) Warm()        {}
func (f *fakeRunner) Close() error { return nil }

func (f *fakeRunner) Run(ctx context.Context, job provision.Job) (provision.Result, error) {
	ref := provision.Ref{Run: job.Run, Step: job.Step}
	done := make(chan struct{})
	f.mu.Lock()
	f.overlap = f.overlap || len(f.going) > 0
	f.jobs = append(f.jobs, job)
	f.going[ref] = done
	f.mu.Unlock()
	go func() { // as the supervisor, it outlives the agent
		f.mu.Lock()
		command := f.command
		f.mu.Unlock()
		res := provision.Result{Outcome: "exited"}
		if command != nil {
			res = command(job)
		}
		res.Run, res.Step = job.Run, job.Step
		f.mu.Lock()
		defer f.mu.Unlock()
		f.results[ref] = res
		delete(f.going, ref)
		close(done)
	}()
	return f.wait(ctx, ref, done)
}

func (f *fakeRunner) wait(ctx context.Context, ref provision.Ref, done chan struct{}) (provision.Result, error) {
	select {
	case <-done:
	case <-ctx.Done():
		return provision.Result{}, ctx.Err()
	}
	if ctx.Err() != nil {
		return provision.Result{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.results[ref], nil
}

func (f *fakeRunner) Cancel(string, string) error { return nil }

func (f *fakeRunner) Left() ([]provision.Ref, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var refs []provision.Ref
	for r := range f.results {
		refs = append(refs, r)
	}
	for r := range f.going {
		refs = append(refs, r)
	}
	return refs, nil
}

func (f *fakeRunner) Adopt(ctx context.Context, ref provision.Ref, _ time.Duration) (provision.Result, error) {
	f.mu.Lock()
	done := f.going[ref]
	if done == nil {
		done = make(chan struct{})
		close(done)
		if _, ok := f.results[ref]; !ok {
			f.results[ref] = provision.Result{Run: ref.Run, Step: ref.Step, Outcome: "lost"}
		}
	}
	f.mu.Unlock()
	return f.wait(ctx, ref, done)
}

func (f *fakeRunner) Forget(ref provision.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forgetting != nil && f.forgetting(ref) {
		return nil
	}
	if f.forgetError != nil {
		return f.forgetError
	}
	delete(f.results, ref)
	return nil
}

func (f *fakeRunner) Busy() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.going) > 0, nil
}

// failForget makes Forget return err, nil: as it should.
func (f *fakeRunner) failForget(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgetError = err
}

// use changes how steps end from now on.
func (f *fakeRunner) use(command func(provision.Job) provision.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.command = command
}

func (f *fakeRunner) started() []provision.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]provision.Job(nil), f.jobs...)
}

// node is a node of the test: files, settings, a store and a fake runner, all
// of which outlive its agents.
type node struct {
	t      *testing.T
	dir    string
	cfg    *config.Config
	store  store.Store
	runner *fakeRunner
	boot   string
	start  time.Time

	reloadConfig func() (*config.Config, error)
	onEvent      func(status.Event)
	alive        func(headline string)
	aliveEvery   time.Duration

	address atomic.Value // what is found where the settings have no host; nil: none

	agent *Agent
	stop  func()
}

// newNode makes a node whose command is fake, without spacing of runs.
func newNode(t *testing.T, s store.Store, edit ...func(*config.Config)) *node {
	t.Helper()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Node, cfg.Host = "n1", "10.0.0.1"
	cfg.Manifests = []string{filepath.Join(dir, "service")}
	cfg.Attributes = []string{filepath.Join(dir, "attributes.toml")}
	cfg.StateDir, cfg.RunDir = filepath.Join(dir, "state"), filepath.Join(dir, "run")
	cfg.Env.Dir = filepath.Join(dir, "env")
	cfg.Provision.Command = []string{"provision", "{NODE_JSON}"}
	cfg.Throttle = config.Throttle{}
	for _, f := range edit {
		f(cfg)
	}
	for _, d := range []string{cfg.Manifests[0], cfg.StateDir, cfg.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n := &node{t: t, dir: dir, cfg: cfg, store: s, runner: newFakeRunner(), boot: "boot-1", start: time.Now()}
	t.Cleanup(func() {
		if n.stop != nil {
			n.stop()
		}
		if n.runner.overlap {
			t.Error("two steps ran at once")
		}
	})
	return n
}

// up starts an agent on the node.
func (n *node) up() *node {
	n.t.Helper()
	a, err := New(Options{
		Config: n.cfg, Store: n.store, Runner: n.runner, NoFileWatch: true, MachineID: "m1",
		Clock: n.clock, Reload: n.reloadConfig, OnEvent: n.onEvent, FindHost: n.findHost,
		Alive: n.alive, AliveEvery: n.aliveEvery,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	n.agent = a
	n.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("run: %v", err)
		}
		n.stop = nil
	}
	return n
}

func (n *node) findHost() string {
	address, _ := n.address.Load().(string)
	return address
}

func (n *node) clock() throttle.Now {
	return throttle.Now{Wall: time.Now(), Boot: n.boot, Up: time.Since(n.start)}
}

// manifest writes a manifest.
func (n *node) manifest(id, text string) {
	n.t.Helper()
	n.write(filepath.Join(n.cfg.Manifests[0], id+".json"), text)
}

func (n *node) write(path, text string) {
	n.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) put(key, value string) {
	n.t.Helper()
	s := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "default"}
	if _, err := n.store.Commit(n.t.Context(), nil, store.Put(s.Value("", key), []byte(value))); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) del(key string) {
	n.t.Helper()
	s := store.Space{Prefix: n.cfg.Store.Prefix, Federation: "default"}
	if _, err := n.store.Commit(n.t.Context(), nil, store.Delete(s.Value("", key))); err != nil {
		n.t.Fatal(err)
	}
}

// env is the content of a service's environment file, "" when it is not there
// or no file.
func (n *node) env(id string) string {
	data, err := os.ReadFile(filepath.Join(n.cfg.Env.Dir, id+".conf"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EISDIR) {
		n.t.Fatal(err)
	}
	return string(data)
}

// runs lists the steps that ran, as run-less words.
func (n *node) steps() []string {
	var out []string
	for _, j := range n.runner.started() {
		out = append(out, stepName(j.Step))
	}
	return out
}

// jobEnv is one variable of a job.
func jobEnv(j provision.Job, name string) string {
	for _, kv := range j.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// requires is a manifest that requires keys as variables of the same name.
func requires(id string, more string, keys ...string) string {
	var vars []string
	for _, k := range keys {
		vars = append(vars, fmt.Sprintf("%q: %q", "V_"+k, "{"+k+"}"))
	}
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"id": %q, "requires": {%s}%s}`, id, strings.Join(vars, ", "), more)
}
