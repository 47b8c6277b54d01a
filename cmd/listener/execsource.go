package main

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// environmentSource is where exec has a service's environment from.
type environmentSource interface {
	now(ctx context.Context) (status.Environment, error)
	// follow calls fn for what comes later, and perhaps for what is there
	// already, until ctx ends. While the source is away nothing is called.
	follow(ctx context.Context, fn func(status.Environment))
	close()
}

// environmentSource is the agent, if there is one, else manifests and store.
func (a *app) environmentSource(ctx context.Context, service string) (environmentSource, error) {
	if a.storeFlag == "" && a.env("LISTENER_STORE") == "" {
		cl, err := a.connect()
		if err == nil {
			return &agentSource{a: a, cl: cl, service: service}, nil
		}
		if a.namedSocket() != "" || !noAgent(err) {
			return nil, err
		}
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	o, err := a.offline(ctx, cfg)
	if err != nil {
		return nil, err
	}
	open := func() (api.Values, store.Store, error) { return direct(cfg, false) }
	return &storeSource{a: a, cfg: cfg, o: o, service: service, open: open}, nil
}

// followRetry is how often a source that is away is asked again.
const followRetry = time.Second

type agentSource struct {
	a       *app
	cl      *api.Client
	service string
}

func (s *agentSource) now(ctx context.Context) (status.Environment, error) {
	return s.cl.Environment(ctx, s.service)
}

func (s *agentSource) close() { s.cl.Close() }

func (s *agentSource) follow(ctx context.Context, fn func(status.Environment)) {
	away := false
	for ctx.Err() == nil {
		err := s.cl.FollowEnvironment(ctx, s.service, func(env status.Environment) error {
			if away {
				away = false
				s.a.note("the agent is back")
			}
			if env.State != "waiting" {
				fn(env)
			}
			return nil
		})
		if !away && ctx.Err() == nil {
			away = true
			s.a.note("the environment is not followed, the command goes on with what it has: %v", err)
		}
		rest(ctx, followRetry)
	}
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// storeSource resolves by itself. Providers that are in use stay so while they
// are up, as with an agent.
type storeSource struct {
	a       *app
	cfg     *config.Config
	o       *offline
	service string
	open    func() (api.Values, store.Store, error)
}

func (s *storeSource) close() {}

func (s *storeSource) now(context.Context) (status.Environment, error) {
	m := s.manifest()
	if m == nil {
		return status.Environment{}, known(s.service, nil)
	}
	return s.resolve(m, s.o), nil
}

func (s *storeSource) manifest() *manifest.Manifest {
	for _, m := range s.o.manifests {
		if m.ID == s.service {
			return m
		}
	}
	return nil
}

func (s *storeSource) resolve(m *manifest.Manifest, o *offline) status.Environment {
	res := resolve.Service(m, o.node, o, nil)
	env := status.Environment{Service: s.service, State: "ready", Vars: map[string]string{}}
	if res.State == resolve.Waiting {
		env.State, env.Waiting = "waiting", res.Missing
		return env
	}
	for _, v := range res.Vars {
		env.Vars[v.Name] = v.Value
	}
	for _, u := range res.Uses {
		if choice, chosen, ok := u.Chosen(); ok {
			s.o.chosen[choice] = chosen
		}
	}
	return env
}

// follow watches the keys that the service requires. A local store is not
// followed: while it is open here, nobody else could change it.
func (s *storeSource) follow(ctx context.Context, fn func(status.Environment)) {
	m := s.manifest()
	keys := m.RequiredKeys()
	if s.cfg.Store.Kind == "local" {
		s.a.note("without an agent a local store is not followed; the command keeps its environment")
		return
	}
	v, st, err := s.open()
	if err != nil {
		s.a.note("the store is not followed; the command keeps its environment: %v", err)
		return
	}
	defer func() { _ = st.Close() }()
	var prefixes []string
	for _, key := range keys {
		prefixes = append(prefixes, v.Space.Value("", key), v.Space.Value(s.o.node.Region, key), v.Space.Providers(key))
	}
	if len(prefixes) == 0 {
		return
	}
	for u := range st.Watch(ctx, prefixes...) {
		if u.Kind == store.Lost {
			continue // the command lives on with what it has
		}
		next := &offline{
			node: s.o.node, attrs: s.o.attrs, manifests: s.o.manifests, chosen: s.o.chosen,
			values: map[string]map[string]resolve.Entry{}, providers: map[string][]resolve.Provider{},
		}
		if err := errors.Join(next.load(ctx, v), next.loadProviders(ctx, v)); err != nil {
			continue // a Lost follows, or another change
		}
		if env := s.resolve(m, next); env.State == "ready" {
			fn(env)
		}
	}
}

// same reports whether a command would see no difference.
func same(a, b status.Environment) bool { return maps.Equal(a.Vars, b.Vars) }
