package listener

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
)

// Hold keeps provisions away until ctx ends. What is due stays due. held is
// called once, when no run is in progress any more; its error ends the hold.
func (a *Agent) Hold(ctx context.Context, r api.HoldRequest, held func() error) error {
	h := &status.Hold{
		Who: r.Who, PID: r.PID, Service: r.Service, Command: r.Command, Since: time.Now().Round(0), Waiting: true,
	}
	free := make(chan struct{})
	w := &waiter{ended: func(*runState, status.Run) {}}
	w.idle = func() bool {
		switch {
		case ctx.Err() != nil:
			return true
		case a.exec != nil || a.adopting:
			return false
		}
		h.Waiting = false
		a.emit("held", "runs are kept away by "+holdText(h))
		close(free)
		return true
	}
	if err := a.do(ctx, func() { a.holders, a.waiters = append(a.holders, h), append(a.waiters, w) }); err != nil {
		return err
	}
	defer func() { // not with ctx, which has ended
		_ = a.do(context.WithoutCancel(ctx), func() { a.release(h) })
	}()
	select {
	case <-free:
		if err := held(); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-a.stopped:
		return ErrStopped
	}
	select {
	case <-ctx.Done():
		return nil
	case <-a.stopped:
		return ErrStopped
	}
}

func (a *Agent) release(h *status.Hold) {
	a.holders = slices.DeleteFunc(a.holders, func(o *status.Hold) bool { return o == h })
	if !h.Waiting {
		a.emit("hold over", "runs are not kept away any more by "+holdText(h))
	}
}

// holdText says who holds.
func holdText(h *status.Hold) string {
	text := h.Command
	if h.Service != "" {
		text += " of " + h.Service
	}
	return fmt.Sprintf("%s (%s, pid %d) since %s", text, h.Who, h.PID, h.Since.Local().Format(time.DateTime))
}

// heldBy says who holds, "" nobody.
func (a *Agent) heldBy() string {
	var all []string
	for _, h := range a.holders {
		all = append(all, holdText(h))
	}
	if len(all) == 0 {
		return ""
	}
	return "until it ends, runs are kept away by " + strings.Join(all, ", and by ")
}

func (a *Agent) holdStatus() []status.Hold {
	out := []status.Hold{} // never null in JSON
	for _, h := range a.holders {
		out = append(out, *h)
	}
	return out
}

func gateHold(a *Agent, _ *work, _ throttle.Kind, _ throttle.Now) gate {
	if why := a.heldBy(); why != "" {
		return gate{name: "hold", why: why}
	}
	return gate{name: "hold", open: true, why: "no command holds it"}
}
