package listener

import (
	"time"

	"github.com/listener-agent/listener/status"
)

// alive tells who asked that the loop works. next is when the loop would look
// again; it returns when it has to.
func (a *Agent) alive(next time.Duration) time.Duration {
	if a.opt.Alive == nil {
		return next
	}
	a.opt.Alive(a.headline())
	if every := a.opt.AliveEvery; every > 0 {
		next = min(next, every)
	}
	return next
}

// headline is the agent in one line: what is worst, else what it does.
func (a *Agent) headline() string {
	c := a.worst()
	switch {
	case c.Severity == grave:
		return "ERROR: " + c.Name + ": " + c.Text
	case a.off.is:
		return a.off.text()
	case c.Severity == warning:
		return c.Name + ": " + c.Text
	case a.st.Run != nil:
		return "run " + a.st.Run.Run.ID + " is in progress"
	case !a.booted:
		return "waiting for the store"
	}
	return "on, " + status.Count(len(a.table.ids), "service")
}

// worst is the first of the gravest conditions.
func (a *Agent) worst() (worst status.Condition) {
	rank := map[string]int{info: 1, warning: 2, grave: 3}
	for _, c := range a.conds.now {
		if rank[c.Severity] > rank[worst.Severity] {
			worst = c
		}
	}
	return worst
}
