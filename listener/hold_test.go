package listener

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// holding starts a hold; it ends with release, and held is closed when it has begun.
func (n *node) holding(held chan struct{}) (release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- n.agent.Hold(ctx, api.HoldRequest{Who: "ann", PID: 12, Service: "app", Command: "migrate"}, func() error {
			close(held)
			return nil
		})
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			n.t.Errorf("hold: %v", err)
		}
	}
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A hold waits for the run in progress; then nothing runs and no file is
// written until it ends, not even at once, and then one run has the newest.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.manifest("files", requires("files", `"command": false`, "DB"))
		n.put("DB", "one")
		n.runner.use(func(provision.Job) provision.Result {
			time.Sleep(time.Minute)
			return provision.Result{Outcome: "exited"}
		})
		n.up()
		synctest.Wait()
		held := make(chan struct{})
		release := n.holding(held)
		synctest.Wait()
		if closed(held) || !n.status().Holds[0].Waiting {
			t.Fatal("it is held although a run is in progress")
		}
		time.Sleep(2 * time.Minute)
		if h := n.status().Holds; !closed(held) || len(h) != 1 || h[0].Waiting || h[0].PID != 12 {
			t.Fatalf("the run has ended: %+v", h)
		}
		n.put("DB", "two")
		q, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Now: true, Who: "bob"})
		if err != nil || q.Held == "" {
			t.Errorf("provision --now does not say that it is held: %+v, %v", q, err)
		}
		time.Sleep(24 * time.Hour)
		if len(n.steps()) != 1 || n.env("app") != "export V_DB='one'\n" || n.env("files") != "export V_DB='one'\n" {
			t.Errorf("%d runs, %s, %s", len(n.steps()), n.env("app"), n.env("files"))
		}
		if p := n.status().Pending; p == nil || p.Gate != "hold" {
			t.Errorf("pending is %+v", p)
		}
		if _, gate, err := n.agent.WaitDue(t.Context()); err != nil || gate == "" {
			t.Errorf("once would wait for ever: %q, %v", gate, err)
		}
		release()
		time.Sleep(2 * time.Minute)
		if len(n.steps()) != 2 || n.env("app") != "export V_DB='two'\n" || n.env("files") != "export V_DB='two'\n" {
			t.Errorf("after it: %d runs, %s, %s", len(n.steps()), n.env("app"), n.env("files"))
		}
		if h := n.status().Holds; len(h) != 0 {
			t.Errorf("after it: %+v", h)
		}
	})
}

// A hold that is given up before it begins holds nothing; two are both waited for.
func TestHolds(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.manifest("files", requires("files", `"command": false`, "DB"))
		n.put("DB", "one")
		n.up()
		synctest.Wait()
		first, second := make(chan struct{}), make(chan struct{})
		endFirst, endSecond := n.holding(first), n.holding(second)
		synctest.Wait()
		n.put("DB", "two")
		endFirst()
		time.Sleep(time.Hour)
		if len(n.steps()) != 1 {
			t.Error("the second one does not hold")
		}
		endSecond()
		synctest.Wait()
		if len(n.steps()) != 2 {
			t.Error("nothing ran after both")
		}
		release := n.holding(make(chan struct{}))
		n.stop() // the agent's end is that of the hold
		synctest.Wait()
		_ = release
	})
}

// A follower gets the present environment, then the newest of each burst; what
// is missing is not told.
func TestFollowEnvironment(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "DB"))
		n.up()
		synctest.Wait()
		env, err := n.agent.Environment(t.Context(), "app")
		if err != nil || env.State != "waiting" || len(env.Waiting) != 1 || len(env.Vars) != 0 {
			t.Errorf("without the key: %+v, %v", env, err)
		}
		if _, err := n.agent.Environment(t.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("no such service: %v", err)
		}
		n.put("DB", "one")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		got, ended := make(chan string, 100), make(chan error, 1)
		go func() {
			ended <- n.agent.FollowEnvironment(ctx, "app", func(env status.Environment) error {
				got <- env.State + " " + env.Vars["V_DB"]
				time.Sleep(time.Minute) // it is slow: what comes meanwhile is one
				return nil
			})
		}()
		synctest.Wait()
		for _, v := range []string{"two", "three", "four"} {
			n.put("DB", v)
			synctest.Wait()
		}
		n.put("OTHER", "x")
		time.Sleep(3 * time.Minute)
		n.del("DB")
		time.Sleep(3 * time.Minute)
		n.put("DB", "five")
		time.Sleep(3 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(got)
		var all []string
		for g := range got {
			all = append(all, g)
		}
		if len(all) != 3 || all[0] != "ready one" || all[1] != "ready four" || all[2] != "ready five" {
			t.Errorf("told %q", all)
		}
	})
}
