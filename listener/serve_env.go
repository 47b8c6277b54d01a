package listener

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// follower is told of one service's environment. The loop owns it, but for the
// receiving end of newest.
type follower struct {
	service string
	told    map[string]string
	newest  chan status.Environment // of one: what nobody has taken yet is replaced
}

// Environment is that of a service as it is now, or store.ErrNotFound.
func (a *Agent) Environment(ctx context.Context, service string) (env status.Environment, err error) {
	doErr := a.do(ctx, func() {
		if a.booted {
			a.resolve()
		}
		var ok bool
		if env, ok = a.environment(service); !ok {
			err = fmt.Errorf("service %s: %w", service, store.ErrNotFound)
		}
	})
	if doErr != nil {
		return env, doErr
	}
	return env, err
}

// FollowEnvironment calls fn for the present environment and whenever it
// changes, until ctx ends or fn fails. Those in between may be left out, the
// newest never is. While the service lacks something, or has no manifest any
// more, nothing is told: it is what it was.
func (a *Agent) FollowEnvironment(ctx context.Context, service string, fn func(status.Environment) error) error {
	env, err := a.Environment(ctx, service)
	if err != nil {
		return err
	}
	f := &follower{service: service, told: env.Vars, newest: make(chan status.Environment, 1)}
	if err := a.do(ctx, func() { a.followers = append(a.followers, f) }); err != nil {
		return err
	}
	defer func() {
		_ = a.do(context.WithoutCancel(ctx), func() {
			a.followers = slices.DeleteFunc(a.followers, func(o *follower) bool { return o == f })
		})
	}()
	for {
		if err := fn(env); err != nil {
			return err
		}
		select {
		case env = <-f.newest:
		case <-ctx.Done():
			return nil
		case <-a.stopped:
			return ErrStopped
		}
	}
}

// environment is a snapshot of a row; ok is false when there is none.
func (a *Agent) environment(service string) (env status.Environment, ok bool) {
	r := a.table.rows[service]
	if r == nil {
		return env, false
	}
	env = status.Environment{Service: service, State: stateNames[r.res.State], Vars: map[string]string{}, Waiting: r.res.Missing, Revision: a.view.rev}
	switch {
	case !a.booted:
		env.State, env.Waiting = stateNames[resolve.Waiting], []string{"the store"}
	case r.res.State != resolve.Waiting:
		for _, v := range r.res.Vars {
			env.Vars[v.Name] = v.Value
		}
	}
	return env, true
}

// tellFollowers hands on what differs from what was told.
func (a *Agent) tellFollowers() {
	for _, f := range a.followers {
		env, ok := a.environment(f.service)
		if !ok || env.State == stateNames[resolve.Waiting] || maps.Equal(env.Vars, f.told) {
			continue
		}
		f.told = env.Vars
		select {
		case <-f.newest:
		default:
		}
		f.newest <- env // the loop alone sends
	}
}
