package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// result returns what the only check found.
func (n *node) result() status.CheckResult {
	n.fl.Helper()
	synctest.Wait()
	checks := n.p.Status().Checks
	if len(checks) != 1 {
		n.fl.Fatalf("checks are %+v", checks)
	}
	return checks[0]
}

// Rise and fall, counted in a row.
func TestCount(t *testing.T) {
	t.Parallel()
	s := CheckSettings{Rise: 2, Fall: 3}
	for _, tc := range []struct{ results, want string }{
		{"+", "?"},
		{"++", "u"},
		{"+-++", "u"},
		{"+-+-+-", "?"},
		{"--", "?"},
		{"---", "d"},
		{"++--", "u"},
		{"++--+--", "u"},
		{"++---", "d"},
		{"++---+", "d"},
		{"++---+-+", "d"},
		{"++---++", "u"},
		{"(----)", "?"},
		{"++(------)--", "u"},
		{"++--(-)--", "u"},
		{"++(----)---", "d"},
		{"---(++)", "u"},
	} {
		h := &health{}
		for _, c := range tc.results {
			switch c {
			case '+':
				h.count(nil, s, time.Time{})
			case '-':
				h.count(errors.New("no"), s, time.Time{})
			default:
				h.excuse(c == '(')
			}
		}
		if got := map[verdict]string{unknown: "?", up: "u", down: "d"}[h.verdict]; got != tc.want {
			t.Errorf("%s: %s, want %s", tc.results, got, tc.want)
		}
	}
}

func TestRiseAndFall(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.finds(errors.New("refused"))
		s := checked(api())
		s.Ready = false
		n.start(s)
		time.Sleep(time.Minute)
		if got := n.p.Status().Checks; len(got) != 0 {
			t.Errorf("checked before it was provisioned: %+v", got)
		}
		n.p.Set([]Service{checked(api())})
		time.Sleep(time.Minute)
		path := n.path("API_URL", "api")
		fl.is(path, "") // it never rose
		if c := n.result(); c.State != "down" || c.Error != "refused" || c.Failed < 11 || c.Kind != "tcp" || c.Target != "127.0.0.1:8080" {
			t.Errorf("check is %+v", c)
		}
		if p := n.p.Status().Published[0]; p.Why != "its check fails" {
			t.Errorf("status is %+v", p)
		}
		n.condition("check down", true)
		n.finds(nil)
		time.Sleep(4 * time.Second)
		fl.is(path, "")
		time.Sleep(6 * time.Second)
		fl.is(path, store.Up)
		n.condition("check down", false)
		n.finds(errors.New("refused"))
		time.Sleep(9 * time.Second)
		fl.is(path, store.Up)
		time.Sleep(7 * time.Second)
		fl.is(path, store.Down)
		if want := []string{"check down", "check up", "published", "check down", "published"}; !slices.Equal(n.told(), want) {
			t.Errorf("events are %q, want %q", n.told(), want)
		}
	})
}

// A check that hangs fails after its timeout, never runs twice, and keeps
// nothing up.
func TestHang(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.hang = true
		n.start(checked(api()), Service{ID: "other", Ready: true, Offers: map[string]store.Provider{"OTHER_URL": offer("http://x/")}})
		fl.is(n.path("OTHER_URL", "other"), store.Up)
		time.Sleep(20 * time.Second)
		if c := n.result(); c.State != "down" || c.Error != "no result within 1s" {
			t.Errorf("check is %+v", c)
		}
		n.finds(nil)
		time.Sleep(11 * time.Second)
		fl.is(n.path("API_URL", "api"), store.Up)
	})
}

// One that cannot even be ended is not started again meanwhile.
func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var running, started atomic.Int32
		a := attempt{timeout: time.Second, probe: func(context.Context, Check) error {
			started.Add(1)
			if running.Add(1) > 1 {
				t.Error("two at once")
			}
			<-release
			running.Add(-1)
			return nil
		}}
		for i := range 3 {
			began := time.Now()
			if err := a.run(t.Context(), Check{}); err == nil {
				t.Error("a check that hangs passed")
			}
			if took, most := time.Since(began), time.Second+killWait; took > most {
				t.Errorf("try %d took %v", i, took)
			}
		}
		if started.Load() != 1 {
			t.Errorf("started %d times", started.Load())
		}
		close(release)
		if err := a.run(t.Context(), Check{}); err != nil {
			t.Errorf("after it ended: %v", err)
		}
	})
}

func TestGrace(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		path := n.path("API_URL", "api")
		time.Sleep(time.Minute)
		busy := checked(api())
		busy.Grace = true
		n.p.Set([]Service{busy})
		n.finds(errors.New("restarting"))
		time.Sleep(10 * time.Minute)
		fl.is(path, store.Up)
		if c := n.result(); !c.Grace || c.State != "up" || c.Error != "restarting" {
			t.Errorf("check is %+v", c)
		}
		n.p.Set([]Service{checked(api())})
		time.Sleep(9 * time.Second)
		fl.is(path, store.Up)
		time.Sleep(7 * time.Second)
		fl.is(path, store.Down)
		n.p.Set([]Service{busy})
		n.finds(nil) // a rise is told at any time
		time.Sleep(11 * time.Second)
		fl.is(path, store.Up)
	})
}

// A report that fails is tried again until it is in.
func TestReportWhileAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		time.Sleep(time.Minute)
		n.client().Refuse(store.ErrUnavailable)
		n.finds(errors.New("refused"))
		time.Sleep(time.Minute)
		fl.is(n.path("API_URL", "api"), store.Up)
		if p := n.p.Status().Published[0]; p.State != "up" || p.Want != "down" {
			t.Errorf("status is %+v", p)
		}
		n.client().Refuse(nil)
		time.Sleep(longestPause)
		fl.is(n.path("API_URL", "api"), store.Down)
	})
}

// Another check of the same service: what it was found to be stays.
func TestCheckChanges(t *testing.T) {
	t.Parallel()
	bubble(t, func(fl *fleet) {
		n := fl.node("web1")
		n.start(checked(api()))
		time.Sleep(time.Minute)
		s := checked(api())
		s.Check.TCP = "127.0.0.1:9090"
		n.p.Set([]Service{s})
		time.Sleep(time.Minute)
		if c := n.result(); c.Target != "127.0.0.1:9090" || c.State != "up" {
			t.Errorf("check is %+v", c)
		}
		n.p.Set([]Service{api()})
		time.Sleep(time.Minute)
		if got := n.p.Status().Checks; len(got) != 0 {
			t.Errorf("checks are %+v", got)
		}
		if got := fl.seen.history(n.path("API_URL", "api")); !slices.Equal(got, []store.State{store.Up}) {
			t.Errorf("others saw %q", got)
		}
	})
}

// The check before a change has ended before the one after it begins.
func TestCheckChangesOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fl := newFleet(t)
		o := fl.options("web1")
		p, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		var running, done atomic.Int32
		p.probe = func(context.Context, Check) error { // slow, and deaf
			if running.Add(1) > 1 {
				t.Error("two at once")
			}
			time.Sleep(900 * time.Millisecond)
			running.Add(-1)
			done.Add(1)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		p.SetNode(store.NodeRecord{})
		for i := range 1000 {
			s := checked(api())
			s.Check.TCP = fmt.Sprintf("127.0.0.1:%d", 1000+i)
			p.Set([]Service{s})
			time.Sleep(time.Duration(i%7) * time.Second)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if done.Load() == 0 {
			t.Error("nothing was checked")
		}
	})
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		check Check
		want  string
	}{
		{Check{HTTP: "http://user:secret@127.0.0.1:80/health?token=secret"}, "http://127.0.0.1:80/health"},
		{Check{TCP: "127.0.0.1:80"}, "127.0.0.1:80"},
		{Check{Exec: []string{"/bin/sh", "-c", "true\nfalse"}}, "/bin/sh -c true false"},
		{Check{Exec: []string{strings.Repeat("x", 300)}}, strings.Repeat("x", 200) + "…"},
	} {
		if got := tc.check.target(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.check, got, tc.want)
		}
	}
}
