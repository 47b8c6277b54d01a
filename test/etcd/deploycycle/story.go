package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/listener-agent/listener/status"
)

// ttl is that of the example's settings.
const ttl = 2 * time.Second

// story is the deploy cycle. Each step waits for what it says.
func (w *world) story(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{
		w.nobodyProvides, w.aProviderComes, w.moreCome, w.oneIsDrained, w.oneDies, w.theStoreIsAway, w.allDie,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return w.summary(ctx)
}

func (w *world) nobodyProvides(ctx context.Context) error {
	w.tell("== www1 and lb1 start. Nobody provides API_URL yet.")
	if err := w.start(ctx, "www1", "lb1"); err != nil {
		return err
	}
	if err := w.until(ctx, "www1", "to wait for API_URL", func(s status.Status) bool { return has(s, "waiting", "API_URL") }); err != nil {
		return err
	}
	w.tell("www1: waiting for API_URL; no run")
	return nil
}

func (w *world) aProviderComes(ctx context.Context) error {
	w.tell("== api1 starts: it provisions its service, the check rises, API_URL is published.")
	if err := w.start(ctx, "api1"); err != nil {
		return err
	}
	if err := w.until(ctx, "api1", "to publish API_URL", func(s status.Status) bool { return published(s, "up") }); err != nil {
		return err
	}
	w.tell("api1: API_URL is up")
	if err := w.until(ctx, "www1", "to publish WWW_URL", func(s status.Status) bool { return published(s, "up") }); err != nil {
		return err
	}
	w.tell("www1: provisioned with API_URL=%s, behind its local balancer; WWW_URL is up", w.apiURL("www1"))
	if err := w.answers(ctx, "www1 with api1"); err != nil {
		return err
	}
	w.tell("lb1: GET http://www.example.com/ says %q", "www1 with api1")
	w.traffic = newTraffic(ctx, w.port("public"))
	w.tell("four clients ask lb1 from now on, without a pause")
	return nil
}

func (w *world) moreCome(ctx context.Context) error {
	w.tell("== api2 and www2 come: balancers take them in; www1 is not provisioned again.")
	runs, reloads, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	if err := w.start(ctx, "api2", "www2"); err != nil {
		return err
	}
	if err := w.until(ctx, "www1", "to use both api", func(s status.Status) bool { return balances(s, 2) }); err != nil {
		return err
	}
	for _, answer := range []string{"www1 with api2", "www2 with api1", "www2 with api2"} {
		if err := w.answers(ctx, answer); err != nil {
			return err
		}
	}
	now, again, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	w.tell("www1: %d more runs, %d more reloads of its balancer: api2 came over HAProxy's runtime socket", now-runs, again-reloads)
	if now != runs || again != reloads {
		return fmt.Errorf("api2 cost www1 %d runs and %d reloads", now-runs, again-reloads)
	}
	return w.unharmed("api2 and www2 came")
}

func (w *world) oneIsDrained(ctx context.Context) error {
	w.tell("== listener drain on api1, and undrain.")
	if err := w.command(ctx, "api1", "drain", "-m", "a new disk"); err != nil {
		return err
	}
	if err := w.until(ctx, "www1", "to let go of api1", func(s status.Status) bool { return balances(s, 1) }); err != nil {
		return err
	}
	w.tell("www1: only api2 is left")
	if err := w.command(ctx, "api1", "undrain"); err != nil {
		return err
	}
	if err := w.until(ctx, "www1", "to use api1 again", func(s status.Status) bool { return balances(s, 2) }); err != nil {
		return err
	}
	w.tell("www1: api1 is back")
	return w.unharmed("api1 was drained")
}

func (w *world) oneDies(ctx context.Context) error {
	w.tell("== api2 dies: kill -9 of its service and of its agent.")
	w.nodes["api2"].die()
	if err := w.until(ctx, "www1", "to let go of api2", func(s status.Status) bool { return balances(s, 1) }); err != nil {
		return err
	}
	w.tell("www1: api2 is gone; what it was doing, api1 did")
	return w.unharmed("api2 died")
}

func (w *world) theStoreIsAway(ctx context.Context) error {
	w.tell("== etcd is stopped, for longer than every ttl, and comes back.")
	runs, _, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	w.etcd.stop()
	if err := w.until(ctx, "www1", "to see that the store is away", func(s status.Status) bool { return has(s, "store unreachable", "") }); err != nil {
		return err
	}
	w.tell("www1: store unreachable; everything stays as it is")
	select {
	case <-time.After(2 * ttl):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.etcd.start(); err != nil {
		return err
	}
	for _, name := range []string{"api1", "www1", "www2", "lb1"} {
		if err := w.until(ctx, name, "to be in step again", func(s status.Status) bool { return s.Synced && s.Store.State == "ok" }); err != nil {
			return err
		}
	}
	now, _, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	w.tell("everybody is in step again; www1 made %d more runs", now-runs)
	if now != runs {
		return fmt.Errorf("an outage cost www1 %d runs", now-runs)
	}
	return w.unharmed("the store was away")
}

func (w *world) allDie(ctx context.Context) error {
	w.traffic.stop()
	w.tell("== api1 dies, too: nobody provides API_URL any more.")
	runs, _, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	w.nodes["api1"].die()
	if err := w.until(ctx, "www1", "to see that api1 expired", func(s status.Status) bool { return has(s, "degraded", "API_URL") }); err != nil {
		return err
	}
	w.tell("www1: degraded: API_URL is last known good; its files stay, no run")
	if err := w.start(ctx, "api2"); err != nil {
		return err
	}
	if err := w.command(ctx, "api2", "provision", "--wait"); err != nil {
		return err
	}
	if err := w.answers(ctx, "www1 with api2"); err != nil {
		return err
	}
	if err := w.until(ctx, "www1", "to be in step", func(s status.Status) bool { return s.Synced && !has(s, "degraded", "API_URL") }); err != nil {
		return err
	}
	now, _, err := w.counts(ctx, "www1")
	if err != nil {
		return err
	}
	w.tell("api2: agent started again, listener provision: it serves; www1 made %d more runs", now-runs)
	if now != runs {
		return fmt.Errorf("the death of all providers cost www1 %d runs", now-runs)
	}
	return nil
}

func (w *world) summary(ctx context.Context) error {
	w.tell("== %d requests went through lb1, www and api; %d failed.", w.traffic.asked.Load(), w.traffic.failed.Load())
	for _, name := range []string{"www1", "www2", "lb1"} {
		runs, reloads, err := w.counts(ctx, name)
		if err != nil {
			return err
		}
		w.tell("%s: %d runs, %d reloads of its balancers", name, runs, reloads)
	}
	return nil
}

// unharmed fails if a request did.
func (w *world) unharmed(when string) error {
	if n := w.traffic.failed.Load(); n > 0 {
		return fmt.Errorf("%d requests failed when %s: %v", n, when, w.traffic.first.Load())
	}
	w.tell("%d requests so far, none failed", w.traffic.asked.Load())
	return nil
}

func has(s status.Status, name, key string) bool {
	return slices.ContainsFunc(s.Conditions, func(c status.Condition) bool { return c.Name == name && c.Key == key })
}

// published reports whether everything that the node offers has this state.
func published(s status.Status, state string) bool {
	if s.Publishing == nil || len(s.Publishing.Published) == 0 {
		return false
	}
	return !slices.ContainsFunc(s.Publishing.Published, func(p status.Published) bool { return p.State != state })
}

// balances reports whether the node's first balancer has n servers, and is through.
func balances(s status.Status, n int) bool {
	return len(s.Balancers) > 0 && s.Balancers[0].Servers == n && s.Balancers[0].State == "ok"
}

// die ends a node at once: its agent and its service.
func (n *node) die() {
	_ = n.agent.Process.Signal(syscall.SIGKILL)
	_ = n.agent.Wait()
	n.agent = nil
	n.killService()
}
