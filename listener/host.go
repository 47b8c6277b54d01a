package listener

import (
	"fmt"
	"time"
)

// hostPause is the longest pause between two looks for this node's address.
const hostPause = 30 * time.Second

// findHost looks for the address of this node until it has one: an agent may
// start before the network does. One that is known stays until a reload.
func (a *Agent) findHost() {
	if a.host != "" || a.findingHost {
		return
	}
	a.findingHost = true
	a.wg.Go(func() {
		for pause := time.Second; ; pause = min(2*pause, hostPause) {
			select {
			case <-time.After(pause):
			case <-a.runCtx.Done():
				return
			}
			if host := a.opt.FindHost(); host != "" {
				a.post(func() { a.hostFound(host) })
				return
			}
		}
	})
}

func (a *Agent) hostFound(host string) {
	a.findingHost = false
	if a.host != "" { // a reload was faster
		return
	}
	cfg := *a.cfg
	cfg.Host = host
	a.cfg, a.host = &cfg, host
	a.table.staleAll()
	a.pub.stale, a.lanesStale = true, true
	a.emit("host found", fmt.Sprintf("the address of this node is %s", host))
}
