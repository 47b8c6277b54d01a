package listener

import (
	"context"
	"errors"

	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
)

// OnceResult is what one pass of the agent did.
type OnceResult struct {
	Runs []status.Run
	// Held names the gate that holds what is due; "" when nothing is.
	Held string
	// Waiting are the services that lack something, sorted.
	Waiting []string
	// NoStore: the store did not answer and there is no replica.
	NoStore bool
}

// Once runs what is due, waits for it and returns, instead of Run. It waits
// for the first Reset or boot_wait, and for settle, but for no other gate.
func (a *Agent) Once(ctx context.Context) (OnceResult, error) {
	loop, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(loop) }()
	var r OnceResult
	var err error
	r.Runs, r.Held, err = a.WaitDue(ctx)
	if err == nil {
		err = a.do(ctx, func() {
			r.NoStore = !a.view.known
			for _, id := range a.table.ids {
				if a.table.rows[id].res.State == resolve.Waiting {
					r.Waiting = append(r.Waiting, id)
				}
			}
		})
	}
	stop()
	if runErr := <-ended; runErr != nil || errors.Is(err, ErrStopped) {
		return r, runErr
	}
	return r, err
}

// shutdown writes down what a next start would otherwise learn later. A step
// in progress is left alone.
func (a *Agent) shutdown() {
	a.saveManifests()
	a.stopLanes()
	if err := a.writeReplicaNow(); err != nil {
		a.log.Warn("write replica", "error", err)
	}
}
