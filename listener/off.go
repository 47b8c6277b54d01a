package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
)

// The lanes that can be off by themselves.
const (
	laneProvision = "provision"
	laneBalancer  = "balancer"
)

// offState is state_dir/off, as it is in force. The zero value is on.
type offState struct {
	status.Off

	is bool
	// End is when `off --for` ends: CLOCK_BOOTTIME under Boot, wall time in
	// any other boot.
	End  time.Duration `json:"end,omitempty"`
	Boot string        `json:"boot,omitempty"`
}

func offPath(dir string) string { return filepath.Join(dir, "off") }

// loadOff reads the file. One that is there but cannot be read or understood
// means off: nobody asked for on.
func loadOff(dir string) offState {
	data, err := os.ReadFile(offPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return offState{}
	}
	o := offState{}
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		o = offState{Off: status.Off{Who: "unknown", Reason: "state_dir/off cannot be read: " + err.Error()}}
	}
	o.is = true
	return o
}

// holdsBalancers reports whether the balancer lane is off.
func (o *offState) holdsBalancers() bool { return o.is && o.Lane != laneProvision }

// holds reports whether the provision lane is off.
func (o *offState) holds() bool {
	return o.is && o.Lane != laneBalancer
}

// text says who switched off, why, since when and until when.
func (o *offState) text() string {
	s := "off"
	if o.Lane != "" {
		s += " for the " + o.Lane + " lane"
	}
	s += " by " + o.Who
	if !o.Since.IsZero() {
		s += " since " + o.Since.Local().Format(time.DateTime)
	}
	if !o.Until.IsZero() {
		s += " until " + o.Until.Local().Format(time.DateTime)
	}
	if o.Reason != "" {
		s += ": " + o.Reason
	}
	return s
}

// remaining is how long `off --for` still lasts; ok is false without --for.
func (o *offState) remaining(now throttle.Now) (d time.Duration, ok bool) {
	switch {
	case !o.is || o.Until.IsZero():
		return 0, false
	case o.Boot == now.Boot:
		return max(0, o.End-now.Up), true
	}
	return max(0, o.Until.Sub(now.Wall)), true
}

// rebase shortens an `off --for` that would last longer than was asked for,
// see state.rebase.
func (o *offState) rebase(now throttle.Now) {
	if o.is && !o.Until.IsZero() && o.Boot == now.Boot {
		o.End = min(o.End, now.Up+o.Until.Sub(o.Since))
	}
}

// with is o, asked for while old is in force: who switches one lane off does
// not switch the other one on, nor earlier than it was to come on by itself.
func (o offState) with(old offState) offState {
	if !old.is || o.Lane == "" || old.Lane == o.Lane {
		return o
	}
	o.Lane = ""
	if old.Until.IsZero() || !o.Until.IsZero() && old.Until.After(o.Until) {
		o.Until, o.End, o.Boot = old.Until, old.End, old.Boot
	}
	return o
}

// Off switches a lane off; it survives restarts and reboots.
func (a *Agent) Off(ctx context.Context, r api.OffRequest) error {
	if r.Lane != "" && r.Lane != laneProvision && r.Lane != laneBalancer {
		return fmt.Errorf("off: no lane is called %q", r.Lane)
	}
	if r.For < 0 {
		return fmt.Errorf("off: the time is negative: %s", r.For)
	}
	return a.do(ctx, func() {
		now := a.now()
		o := offState{is: true, Off: status.Off{Who: r.Who, Reason: r.Reason, Since: time.Now(), Lane: r.Lane}}
		if r.For > 0 {
			o.Until, o.End, o.Boot = now.Wall.Add(r.For), now.Up+r.For, now.Boot
		}
		o = o.with(a.off)
		a.off, a.pub.stale = o, true
		a.fault("off file", a.writeOff()) // off all the same, as long as this agent lives
		a.emit("off", o.text())
	})
}

// On switches a lane on again and forces a run; changed is false if it was on.
func (a *Agent) On(ctx context.Context, lane string) (changed bool, err error) {
	err = a.do(ctx, func() {
		if !a.off.is || lane != "" && a.off.Lane != "" && a.off.Lane != lane {
			return
		}
		changed = true
		a.switchOn("on", lane)
	})
	return changed, err
}

// writeOff makes the file say what a.off does.
func (a *Agent) writeOff() error {
	path := offPath(a.cfg.StateDir)
	if !a.off.is {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(a.off)
	if err != nil {
		return err
	}
	return atomicfile.WriteSync(path, append(data, '\n'), 0o600)
}

// switchOn raises forced before it removes the file: a crash in between
// leaves it off, never on without its run. With lane, of two lanes that are
// off the other one stays off.
func (a *Agent) switchOn(reason, lane string) {
	a.pub.stale = true
	if a.off.Lane != laneBalancer && lane != laneBalancer {
		a.st.force(reason)
		a.save()
		if err := atomicfile.SyncFile(a.statePath()); err != nil {
			a.fault("state_dir", err)
		}
	}
	if lane != "" && a.off.Lane == "" {
		a.off.Lane = map[string]string{laneProvision: laneBalancer, laneBalancer: laneProvision}[lane]
		a.fault("off file", a.writeOff())
		a.emit("on", "the "+lane+" lane is on")
		return
	}
	a.off = offState{}
	a.fault("off file", a.writeOff()) // on all the same, as long as this agent lives
	a.slow.sync(offPath(a.cfg.StateDir))
	a.emit("on", "the agent is on")
}

// expireOff ends an `off --for` whose time is over.
func (a *Agent) expireOff(now throttle.Now) {
	left, ok := a.off.remaining(now)
	if !ok {
		return
	}
	if left > 0 {
		a.timers.in(left)
		return
	}
	a.switchOn("off --for is over", "")
}
