package publish

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
)

func (n *node) drain(t *testing.T) {
	t.Helper()
	if err := n.p.Drain(context.Background(), "ann", "new disk", false); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (n *node) undrain(t *testing.T) {
	t.Helper()
	if _, err := n.p.Undrain(context.Background()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (n *node) drainState() string {
	synctest.Wait()
	if d := n.p.Status().Drain; d != nil {
		return d.State
	}
	return ""
}

func TestDrain(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		path := n.path("API_URL", "api")
		time.Sleep(time.Minute)
		n.drain(t)
		fl.is(path, store.Draining)
		if d := n.p.Status().Drain; d == nil || d.Who != "ann" || d.Reason != "new disk" || d.State != "draining" || d.Until.Sub(d.Since) != wait {
			t.Errorf("drain is %+v", d)
		}
		n.condition("drained", true)
		time.Sleep(wait - time.Second)
		fl.is(path, store.Draining)
		time.Sleep(time.Second + recordEvery)
		fl.is(path, store.Left)
		if r, ok := fl.record("web1"); !ok || r.AgentState != "drained" {
			t.Errorf("record is %+v", r)
		}
		if got := n.drainState(); got != "drained" {
			t.Errorf("drain is %q", got)
		}

		time.Sleep(3 * leftFor) // what left is gone, the node is not
		fl.is(path, "")
		if r, ok := fl.record("web1"); !ok || r.AgentState != "drained" {
			t.Errorf("record is %+v", r)
		}
		n.undrain(t)
		fl.is(path, store.Up)
		time.Sleep(recordEvery)
		if r, _ := fl.record("web1"); r.AgentState != "up" {
			t.Errorf("record is %+v", r)
		}
		if got := fl.seen.history(path); !slices.Equal(got, []store.State{store.Up, store.Draining, store.Left, "", store.Up}) {
			t.Errorf("others saw %q", got)
		}
	})
}

// A drain goes on through restarts of the agent, and a boot.
func TestDrainRestart(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		path := n.path("API_URL", "api")
		n.drain(t)
		n.end()
		time.Sleep(wait / 2)
		n.start(api())
		fl.is(path, store.Draining)
		time.Sleep(wait/2 + time.Second)
		fl.is(path, store.Left)
		time.Sleep(recordEvery)
		before := fl.seen.count()
		n.end()
		n.start(api())
		time.Sleep(look)
		if got := fl.seen.count() - before; got != 0 {
			t.Errorf("%d writes by a restart of a drained node", got)
		}
		n.end()
		n.o.BootID = "boot-2"
		n.start(api())
		time.Sleep(10 * look)
		if got := n.drainState(); got != "drained" {
			t.Errorf("drain is %q", got)
		}
		n.undrain(t)
		fl.is(path, store.Up)
		n.end()
		n.start(api())
		if got := n.drainState(); got != "" {
			t.Errorf("drain is %q after undrain and restart", got)
		}
		if got := fl.seen.history(path); !slices.Equal(got, []store.State{store.Up, store.Draining, store.Left, store.Up}) {
			t.Errorf("others saw %q", got)
		}
	})
}

func TestUndrainInTheMiddle(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		path := n.path("API_URL", "api")
		time.Sleep(time.Minute)
		n.drain(t)
		n.end()
		n.start(checked(api())) // its check is unknown again
		n.undrain(t)
		time.Sleep(time.Minute)
		fl.is(path, store.Up)
		if got := fl.seen.history(path); !slices.Equal(got, []store.State{store.Up, store.Draining, store.Up}) {
			t.Errorf("others saw %q", got)
		}
	})
}

// A drain while the store is away is carried out when it is back.
func TestDrainWhileAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		n.client().Cut()
		n.drain(t)
		time.Sleep(ttl / 2)
		n.client().Heal()
		time.Sleep(ttl)
		fl.is(n.path("API_URL", "api"), store.Left)
	})
}

// Nothing that was not up comes up while the node goes out of service.
func TestDrainOthers(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		time.Sleep(time.Minute)
		n.finds(errors.New("broken"))
		time.Sleep(time.Minute)
		fl.is(n.path("API_URL", "api"), store.Down)
		n.drain(t)
		late := Service{ID: "late", Ready: true, Offers: map[string]store.Provider{"LATE_URL": offer("http://late/")}}
		n.p.Set([]Service{checked(api()), late})
		fl.is(n.path("API_URL", "api"), store.Down)
		fl.is(n.path("LATE_URL", "late"), "")
		time.Sleep(wait)
		fl.is(n.path("API_URL", "api"), store.Left)
		fl.is(n.path("LATE_URL", "late"), "")
		n.undrain(t)
		fl.is(n.path("API_URL", "api"), store.Down)
		fl.is(n.path("LATE_URL", "late"), store.Up)
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		path := n.path("API_URL", "api")
		began := time.Now()
		if err := n.p.Drain(context.Background(), "systemd", "shutdown", true); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < wait || took > wait+time.Second {
			t.Errorf("took %v", took)
		}
		fl.is(path, store.Left)
		if _, ok := fl.record("web1"); ok {
			t.Error("the node's record is still there")
		}
		if got := fl.seen.history(path); !slices.Equal(got, []store.State{store.Up, store.Draining, store.Left}) {
			t.Errorf("others saw %q", got)
		}
		n.end()
		n.o.BootID = "boot-2"
		n.start(api()) // a shutdown is no drain
		fl.is(path, store.Up)
	})
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		if err := n.p.Withdraw(context.Background()); err != nil {
			t.Fatal(err)
		}
		fl.is(n.path("API_URL", "api"), store.Left)
		if err := n.p.Withdraw(context.Background()); err != nil {
			t.Error("again:", err)
		}
		time.Sleep(5 * look)
		if _, ok := fl.record("web1"); ok {
			t.Error("the node's record is back")
		}
		n.undrain(t)
		fl.is(n.path("API_URL", "api"), store.Up)

		// A new process that was told nothing yet withdraws what is there.
		n.end()
		n.launch()
		if err := n.p.Withdraw(context.Background()); err != nil {
			t.Fatal(err)
		}
		fl.is(n.path("API_URL", "api"), store.Left)
		n.end()
		n.launch() // and one that has nothing to withdraw is through at once
		if err := n.p.Withdraw(context.Background()); err != nil {
			t.Fatal(err)
		}
		n.end()
	})
}

func TestWithdrawWhileAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		n.client().Cut()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := n.p.Withdraw(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("withdraw: %v", err)
		}
		undone := make(chan error)
		go func() { undone <- n.p.Drain(context.Background(), "", "", true) }()
		synctest.Wait()
		n.undrain(t)
		if err := <-undone; err == nil {
			t.Error("a shutdown that was taken back is no error")
		}
	})
}

// A clock that was set back does not make a drain wait.
func TestDrainFuture(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(api())
		n.drain(t)
		n.end()
		future := []byte(`{"who":"ann","since":"` + time.Now().AddDate(1, 0, 0).Format(time.RFC3339) + `"}`)
		if err := os.WriteFile(drainPath(n.o.StateDir), future, 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		time.Sleep(wait)
		fl.is(n.path("API_URL", "api"), store.Left)
	})
}

// A file that cannot be understood means drained.
func TestDrainUnreadable(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		if err := os.WriteFile(drainPath(n.o.StateDir), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(api())
		time.Sleep(look)
		fl.is(n.path("API_URL", "api"), "")
		if d := n.p.Status().Drain; d == nil || d.State != "drained" || d.Reason == "" || !d.Since.IsZero() {
			t.Errorf("drain is %+v", d)
		}
		n.undrain(t)
		fl.is(n.path("API_URL", "api"), store.Up)
	})
}

// While the store hangs no turn ends; what was asked for is told all the same,
// or listener drain would wait for what listener undrain ended long ago.
func TestDrainIsToldAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		p, err := New(fl.options("web1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Drain(t.Context(), "ann", "new disk", false); err != nil {
			t.Fatal(err)
		}
		drained := p.Status()
		if d := drained.Drain; d == nil || d.State != "draining" || d.Reason != "new disk" {
			t.Errorf("after drain: %+v", d)
		}
		for _, want := range []bool{true, false} {
			if changed, err := p.Undrain(t.Context()); err != nil || changed != want {
				t.Errorf("undrain: %v %v, not %v", changed, err, want)
			}
			p.tell(drained) // the turn that began before
			if d := p.Status().Drain; d != nil {
				t.Errorf("after undrain: %+v", d)
			}
		}
	})
}
