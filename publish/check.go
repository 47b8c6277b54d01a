package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/listener-agent/listener/status"
)

// CheckSettings are those of all checks.
type CheckSettings struct {
	// Interval from one start to the next, Timeout of one; both above 0. One
	// that takes longer than Interval delays the next.
	Interval, Timeout time.Duration
	// Rise and Fall are how many in a row must pass or fail; at least 1.
	Rise, Fall int
}

func (s CheckSettings) validate() error {
	if s.Interval <= 0 || s.Timeout <= 0 || s.Rise < 1 || s.Fall < 1 {
		return fmt.Errorf("publish: check with interval %v, timeout %v, rise %d, fall %d", s.Interval, s.Timeout, s.Rise, s.Fall)
	}
	return nil
}

// Check is the health check of a service; exactly one of HTTP, TCP and Exec is
// set. With none nothing is asked, and what was found before holds.
type Check struct {
	HTTP string   // URL: any 2xx or 3xx answer passes, redirects are not followed
	TCP  string   // host:port: a connection passes
	Exec []string // argv: exit 0 passes

	// UID and GID run Exec, without other groups; -1: the agent's.
	UID, GID int
	// Env is the environment of Exec, beside a PATH if it names none.
	Env []string
}

func (c Check) empty() bool { return c.HTTP == "" && c.TCP == "" && len(c.Exec) == 0 }

// Kind of a check.
func (c Check) kind() string {
	switch {
	case c.HTTP != "":
		return "http"
	case c.TCP != "":
		return "tcp"
	}
	return "exec"
}

// target is what people are shown: no passwords.
func (c Check) target() string {
	switch c.kind() {
	case "http":
		u, err := url.Parse(c.HTTP)
		if err != nil {
			return "not a URL"
		}
		u.User, u.RawQuery = nil, ""
		return u.String()
	case "tcp":
		return c.TCP
	}
	return clip(strings.Join(c.Exec, " "))
}

// health is a service's check and what it found. Publisher.mu guards all but
// check, stop and ended, which do not change.
type health struct {
	check Check
	stop  context.CancelFunc
	ended chan struct{} // closed when no check of it runs any more

	verdict verdict
	since   time.Time
	passed  int
	failed  int
	grace   bool
	at      time.Time
	err     string
	told    verdict // by an event
}

// follow starts the checks of services that may be published, and ends those
// of others. What a service was found to be stays when its check changes.
func (r *reconciler) follow(ctx context.Context, services []Service) {
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	checked := map[string]bool{}
	for i := range services {
		s := &services[i]
		if s.Check == nil || s.Check.empty() || !s.Ready && !r.published(s) {
			continue
		}
		checked[s.ID] = true
		h := p.health[s.ID]
		if h == nil || !reflect.DeepEqual(h.check, *s.Check) {
			h = r.startCheck(ctx, *s.Check, h)
			p.health[s.ID] = h
		}
		h.excuse(s.Grace)
	}
	for id, h := range p.health {
		if !checked[id] {
			h.stop()
			delete(p.health, id)
		}
	}
}

func (r *reconciler) startCheck(ctx context.Context, c Check, old *health) *health {
	h := &health{check: c, since: time.Now(), ended: make(chan struct{})}
	ctx, h.stop = context.WithCancel(ctx)
	var before <-chan struct{}
	if old != nil {
		h.verdict, h.since, h.told, before = old.verdict, old.since, old.told, old.ended
		old.stop()
	}
	r.running.Go(func() {
		defer close(h.ended)
		if before != nil {
			<-before // never two at once for a service
		}
		r.p.checks(ctx, h)
	})
	return h
}

// tellChecks tells which checks rose or fell.
func (r *reconciler) tellChecks() {
	type news struct{ service, verdict, text string }
	var all []news
	r.p.mu.Lock()
	for _, id := range sortedKeys(r.p.health) {
		h := r.p.health[id]
		if h.verdict == h.told {
			continue
		}
		h.told = h.verdict
		n := news{id, h.verdict.String(), "the check of " + id + " rose"}
		if h.verdict == down {
			n.text = "the check of " + id + " fell: " + h.err
		}
		all = append(all, n)
	}
	r.p.mu.Unlock()
	for _, n := range all {
		r.o.Event("check "+n.verdict, n.text, "service", n.service)
	}
}

// checks checks until ctx ends, from a random moment within the interval on.
func (p *Publisher) checks(ctx context.Context, h *health) {
	a := attempt{probe: p.probe, timeout: p.o.Check.Timeout}
	next := time.Now().Add(rand.N(p.o.Check.Interval))
	for sleep(ctx, time.Until(next)) {
		next = time.Now().Add(p.o.Check.Interval)
		err := a.run(ctx, h.check)
		if ctx.Err() != nil {
			return
		}
		p.checked(h, err)
	}
}

// checked counts a result, and wakes Run's goroutine if it says anything new.
func (p *Publisher) checked(h *health, err error) {
	p.mu.Lock()
	was, wasErr := h.verdict, h.err
	h.count(err, p.o.Check, time.Now())
	news := h.verdict != was || h.err != wasErr
	p.mu.Unlock()
	if news {
		p.poke()
	}
}

// excuse begins or ends a grace; what failed until then does not count after it.
func (h *health) excuse(grace bool) {
	if h.grace = grace; grace {
		h.failed = 0
	}
}

func (h *health) count(err error, s CheckSettings, now time.Time) {
	was := h.verdict
	h.at = now
	if err == nil {
		h.err, h.failed = "", 0
		if h.passed++; h.passed >= s.Rise {
			h.verdict = up
		}
	} else {
		h.err, h.passed = clip(err.Error()), 0
		if !h.grace {
			h.failed++
		}
		if h.failed >= s.Fall {
			h.verdict = down
		}
	}
	if h.verdict != was {
		h.since = now
	}
}

func (p *Publisher) checksLocked() []status.CheckResult {
	all := make([]status.CheckResult, 0, len(p.health))
	for _, id := range sortedKeys(p.health) {
		h := p.health[id]
		all = append(all, status.CheckResult{
			Service: id, Kind: h.check.kind(), Target: h.check.target(),
			State: h.verdict.String(), Since: h.since, Passed: h.passed, Failed: h.failed,
			Grace: h.grace, At: h.at, Error: h.err,
		})
	}
	return all
}

// attempt runs the checks of one service, one at a time.
type attempt struct {
	probe   func(context.Context, Check) error
	timeout time.Duration
	stuck   chan outcome // of one that did not end when told to
}

type outcome struct{ err error }

// killWait is how long a check that was told to end may take to do so.
const killWait = 2 * time.Second

// run returns within timeout and killWait, whatever the check does.
func (a *attempt) run(ctx context.Context, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if a.stuck != nil {
		select {
		case <-a.stuck:
			a.stuck = nil
		case <-ctx.Done():
			return errors.New("an earlier check still runs and cannot be ended")
		}
	}
	result := make(chan outcome, 1)
	go func() { result <- outcome{a.probe(ctx, c)} }()
	select {
	case o := <-result:
		if o.err == nil || ctx.Err() == nil {
			return o.err
		}
		return a.late()
	case <-ctx.Done():
	}
	select {
	case <-result:
	case <-time.After(killWait):
		a.stuck = result
	}
	return a.late()
}

func (a *attempt) late() error { return fmt.Errorf("no result within %v", a.timeout) }

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// clip makes one short line of text from elsewhere.
func clip(s string) string {
	const most = 200
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
