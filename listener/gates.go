package listener

import (
	"fmt"
	"time"

	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/throttle"
)

// gate is one check before a run. The zero gate is "none is closed".
type gate struct {
	name string
	open bool
	why  string
	// wait is how long until it opens or is worth another look; 0: something
	// else will wake the loop.
	wait time.Duration
	// timed: it opens after wait; else wait is only when to look again.
	timed bool
}

// gateCheck looks at one gate; it is called again just before the fork.
type gateCheck func(a *Agent, w *work, kind throttle.Kind, now throttle.Now) gate

// gateOrder is the order in which gates are looked at. The last gate, "still due?", is that
// the work is read anew at each look.
var gateOrder = [...]gateCheck{gateOn, gateHold, gateSettled, gateInterval, gateBucket, gateBackoff, gateSplay, gateForeign, gateLock}

// firstClosed returns the first gate that holds w back.
func (a *Agent) firstClosed(w *work, now throttle.Now) gate {
	kind := a.kind(w)
	for _, check := range gateOrder {
		if g := check(a, w, kind, now); !g.open {
			return g
		}
	}
	return gate{}
}

// skips reports whether the run passes the spacing gates: --now.
func (a *Agent) skips(kind throttle.Kind) bool {
	return kind == throttle.Manual && a.st.Manual.Now
}

func gateOn(a *Agent, _ *work, kind throttle.Kind, _ throttle.Now) gate {
	g := gate{name: "on", open: !a.off.holds(), why: "the agent is on"}
	if !g.open {
		g.why = a.off.text()
		if kind == throttle.Manual && a.st.Manual.EvenIfOff {
			g.open, g.why = true, "off, but the run was asked for with --even-if-off"
		}
	}
	return g
}

func gateSettled(a *Agent, _ *work, kind throttle.Kind, now throttle.Now) gate {
	if kind == throttle.Retry || a.skips(kind) {
		return gate{name: "settle", open: true, why: "a " + string(kind) + " run does not wait for quiet"}
	}
	return a.settleGate(now)
}

// settleGate is open once changes have been quiet for long enough.
func (a *Agent) settleGate(now throttle.Now) gate {
	s := throttleSettings(a.cfg)
	g := gate{name: "settle", timed: true}
	if a.pend.sig != "" {
		g.wait = throttle.Settle(s, a.pend.first, a.pend.last, now.Up)
	}
	if g.open = g.wait == 0; g.open {
		g.why = "changes have been quiet for " + s.Settle.String()
	} else {
		g.why = fmt.Sprintf("waits until changes have been quiet for %s, at most %s", s.Settle, s.SettleMax)
	}
	return g
}

func gateInterval(a *Agent, _ *work, kind throttle.Kind, now throttle.Now) gate {
	s := throttleSettings(a.cfg)
	g := gate{name: "min_interval", timed: true}
	if kind != throttle.Retry && !a.skips(kind) {
		g.wait = a.throttle.Interval(s, now)
	}
	if g.open = g.wait == 0; g.open {
		g.why = "the last run is long enough ago"
	} else {
		g.why = fmt.Sprintf("runs are at least %s apart", s.MinInterval)
	}
	return g
}

func gateBucket(a *Agent, _ *work, kind throttle.Kind, now throttle.Now) gate {
	s := throttleSettings(a.cfg)
	g := gate{name: "burst", timed: true}
	if kind == throttle.Auto {
		g.wait = a.throttle.Bucket(s, now)
	}
	if g.open = g.wait == 0; g.open {
		g.why = "a token is left"
		if kind != throttle.Auto {
			g.why = "a " + string(kind) + " run takes no token"
		}
	} else {
		g.why = fmt.Sprintf("%d runs in %s are used up", s.Burst, s.Window)
	}
	return g
}

func gateBackoff(a *Agent, w *work, _ throttle.Kind, now throttle.Now) gate {
	g := gate{name: "back-off", open: !w.any() || w.eligible(), timed: true, why: "no failed step holds everything back"}
	if g.open {
		return g
	}
	step := nodeStep
	g.wait = w.heldUntil[nodeStep]
	if g.wait == 0 {
		for _, id := range w.own {
			if d := w.heldUntil[id]; a.st.Failures[id] != nil && (g.wait == 0 || d < g.wait) {
				g.wait, step = d, id
			}
		}
	}
	if f := a.st.Failures[step]; f != nil {
		g.why = fmt.Sprintf("step %s failed %d times in a row, last: %s", stepName(step), f.Count, f.Text)
		if f.Count == 1 {
			g.why = fmt.Sprintf("step %s failed: %s", stepName(step), f.Text)
		}
	}
	return g
}

func gateSplay(a *Agent, _ *work, kind throttle.Kind, now throttle.Now) gate {
	g := gate{name: "splay", timed: true, why: "no random delay is left"}
	if kind != throttle.Retry && !a.skips(kind) && a.pend.splay > 0 {
		g.wait = max(0, a.pend.splay-(now.Up-a.pend.first))
	}
	if g.open = g.wait == 0; !g.open {
		g.why = fmt.Sprintf("a random delay of up to %s spreads the fleet's runs", a.cfg.Throttle.Splay)
	}
	return g
}

// foreignState spaces the looks at a foreign lock that was found busy.
type foreignState struct {
	who   string
	next  time.Time
	delay time.Duration
}

const (
	foreignFirst = 2 * time.Second
	foreignMax   = 30 * time.Second
)

func gateForeign(a *Agent, _ *work, _ throttle.Kind, _ throttle.Now) gate {
	f := &a.foreign
	now := time.Now()
	if now.Before(f.next) {
		return gate{name: "foreign lock", why: f.who + " is running", wait: f.next.Sub(now)}
	}
	who, err := provision.ForeignBusy(a.cfg.Provision.Locks, a.cfg.Provision.Preset)
	a.fault("foreign lock", err)
	if who == "" {
		*f = foreignState{}
		return gate{name: "foreign lock", open: true, why: "no other provisioner is running"}
	}
	f.who = who
	f.delay = min(max(foreignFirst, f.delay*2), foreignMax)
	f.next = now.Add(f.delay)
	return gate{name: "foreign lock", why: who + " is running", wait: f.delay}
}

// lockLook is how soon the own lock is looked at again.
const lockLook = time.Second

func gateLock(a *Agent, _ *work, _ throttle.Kind, _ throttle.Now) gate {
	busy, err := a.runner.Busy()
	a.fault("provision lock", err)
	if err != nil {
		return gate{name: "own lock", why: "the lock cannot be looked at: " + err.Error(), wait: lockLook}
	}
	if busy {
		return gate{name: "own lock", why: "a step of an earlier agent is still running", wait: lockLook}
	}
	return gate{name: "own lock", open: true, why: "no run of ours is in progress"}
}
