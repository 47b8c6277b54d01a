package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// fakeAgent answers from its fields.
type fakeAgent struct {
	store   *fakeStore
	replica map[string]store.KV // by full key; a zero KV: followed, not there
	age     time.Duration
	log     io.Reader
	seen    map[uint64]time.Time

	mu       sync.Mutex // guards what follows
	isOff    bool
	off      api.OffRequest
	asked    api.ProvisionRequest
	accepted string
	held     api.HoldRequest
	runErr   error
	reload   error
	run      status.Run
	events   chan status.Event
	status   status.Status
}

var _ api.Agent = (*fakeAgent)(nil)

func newFake() *fakeAgent {
	return &fakeAgent{
		store: newFakeStore(), replica: map[string]store.KV{}, events: make(chan status.Event, 8),
		run:    status.Run{ID: "r1", Result: "ok"},
		status: status.Status{Node: "web1", On: true, Version: "v1", Store: status.Store{Kind: "local", State: "ok"}},
	}
}

func (f *fakeAgent) Status(ctx context.Context) (status.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, ctx.Err()
}

func (f *fakeAgent) Explain(context.Context) (status.Explain, error) {
	return status.Explain{Verdict: "Nothing is due."}, nil
}

func (f *fakeAgent) On(context.Context, string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.isOff
	f.isOff = false
	return was, nil
}

func (f *fakeAgent) Off(_ context.Context, r api.OffRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.isOff, f.off = true, r
	return nil
}

func (f *fakeAgent) Provision(_ context.Context, r api.ProvisionRequest) (status.Queued, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = r
	if f.isOff && !r.EvenIfOff {
		return status.Queued{}, api.ErrOff
	}
	return status.Queued{Ticket: 7}, nil
}

func (f *fakeAgent) Drain(_ context.Context, who, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Publishing = &status.Publishing{Drain: &status.Drain{Who: who, Reason: reason, State: "draining"}}
	return nil
}

func (f *fakeAgent) Undrain(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.status.Publishing != nil
	f.status.Publishing = nil
	return was, nil
}

func (f *fakeAgent) SeenProviders(context.Context, string) (map[uint64]time.Time, error) {
	return f.seen, nil
}

func (f *fakeAgent) Environment(_ context.Context, service string) (status.Environment, error) {
	if service != "api" {
		return status.Environment{}, store.ErrNotFound
	}
	return status.Environment{Service: service, State: "ready", Vars: map[string]string{"X": "secret"}}, nil
}

func (f *fakeAgent) FollowEnvironment(ctx context.Context, service string, fn func(status.Environment) error) error {
	env, err := f.Environment(ctx, service)
	if err != nil {
		return err
	}
	return fn(env)
}

func (f *fakeAgent) Hold(ctx context.Context, r api.HoldRequest, held func() error) error {
	f.mu.Lock()
	f.held = r
	f.mu.Unlock()
	if err := held(); err != nil {
		return err
	}
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = api.HoldRequest{}
	return nil
}

func (f *fakeAgent) holder() api.HoldRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

func (f *fakeAgent) WaitRun(_ context.Context, ticket uint64) (status.Run, error) {
	if ticket != 7 {
		return status.Run{}, errors.New("unknown ticket")
	}
	return f.ShowRun(context.Background(), "r1")
}

func (f *fakeAgent) WaitDue(context.Context) ([]status.Run, string, error) {
	return nil, "min_interval", nil
}

func (f *fakeAgent) Runs(context.Context, int) ([]status.Run, error) { return []status.Run{f.run}, nil }

func (f *fakeAgent) ShowRun(_ context.Context, id string) (status.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id != "r1" {
		return status.Run{}, fmt.Errorf("history: %w", fs.ErrNotExist)
	}
	return f.run, f.runErr
}

func (f *fakeAgent) OpenLog(_ context.Context, id string) (io.Reader, string, error) {
	if id != "" && id != "r1" {
		return nil, "", store.ErrNotFound
	}
	return f.log, "r1", nil
}

func (f *fakeAgent) Resolve(_ context.Context, service string, reveal bool) ([]status.Resolved, error) {
	if service != "api" {
		return nil, store.ErrNotFound
	}
	v := "(redacted)"
	if reveal {
		v = "secret"
	}
	return []status.Resolved{{Service: "api", Name: "X", Value: v, Present: true}}, nil
}

func (f *fakeAgent) Accept(_ context.Context, key string) (status.Accepted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accepted = key
	return status.Accepted{}, nil
}

func (f *fakeAgent) Reload(context.Context) error { return f.reload }

func (f *fakeAgent) Subscribe(context.Context) <-chan status.Event { return f.events }
func (f *fakeAgent) Store() store.Store                            { return f.store }
func (f *fakeAgent) Region() string                                { return "default" }
func (f *fakeAgent) Space() store.Space {
	return store.Space{Prefix: "/listener/v1", Federation: "default"}
}

func (f *fakeAgent) Replica(_ context.Context, region, key string) (store.KV, time.Duration, bool) {
	kv, ok := f.replica[f.Space().Value(region, key)]
	return kv, f.age, ok
}

// fakeStore is a map with a revision; failing is what every method returns.
type fakeStore struct {
	store.Store // the methods that the API does not use
	mu          sync.Mutex
	rev         uint64
	kvs         map[string]store.KV
	failing     error
	watchers    []chan store.Update
}

func newFakeStore() *fakeStore { return &fakeStore{kvs: map[string]store.KV{}} }

func (s *fakeStore) Get(_ context.Context, key string) (store.KV, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kv, ok := s.kvs[key]
	if s.failing != nil {
		return kv, s.failing
	}
	if !ok {
		return kv, store.ErrNotFound
	}
	return kv, nil
}

func (s *fakeStore) List(_ context.Context, prefix string) ([]store.KV, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listLocked(prefix), s.rev, s.failing
}

func (s *fakeStore) listLocked(prefix string) (out []store.KV) {
	for k, kv := range s.kvs {
		if strings.HasPrefix(k, prefix) {
			out = append(out, kv)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

func (s *fakeStore) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan store.Update, 8)
	ch <- store.Update{Kind: store.Reset, Rev: s.rev, KVs: s.listLocked(prefixes[0])}
	s.watchers = append(s.watchers, ch)
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(w chan store.Update) bool { return w == ch })
		close(ch)
	})
	return ch
}

func (s *fakeStore) Commit(_ context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != nil {
		return 0, s.failing
	}
	for _, c := range conds {
		if s.kvs[c.Key].Rev != c.Rev {
			return 0, store.ErrConflict
		}
	}
	s.rev++
	u := store.Update{Kind: store.Change, Rev: s.rev}
	for _, op := range ops {
		if op.Delete {
			delete(s.kvs, op.Key)
			u.Gone = append(u.Gone, store.Gone{Key: op.Key, Rev: s.rev})
			continue
		}
		kv := store.KV{Key: op.Key, Value: op.Value, Rev: s.rev, Created: s.rev}
		s.kvs[op.Key] = kv
		u.KVs = append(u.KVs, kv)
	}
	for _, w := range s.watchers {
		w <- u
	}
	return s.rev, nil
}

// serve starts a server on a socket in a test directory.
func serve(t *testing.T, a api.Agent) (c *api.Client, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(socket, 0o600, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.New(api.Options{Agent: a}).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	if c, err = api.Dial(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, socket
}

// direct asks the handler without a socket.
func direct(a api.Agent) http.Handler { return api.New(api.Options{Agent: a}) }
