package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A member hands a write to the leader that it knows. If that one has just
// died the write is lost, and the member waits for it until its own timeout,
// which is longer than ours. A new leader has, when it begins, all that was
// written before: what has no answer soon after will never have one.

const (
	// doubtAfter is how long a write may have no answer before its member is
	// asked for the leader, each doubtEvery.
	doubtAfter = time.Second
	doubtEvery = 200 * time.Millisecond
	// settle is how long answers may take after there is a new leader.
	settle = 500 * time.Millisecond
)

var errNewLeader = fmt.Errorf("%w: the leader changed meanwhile, so it may be done or not", store.ErrUnavailable)

// whileLed returns a context for one write, which ends with errNewLeader when
// the leader changed and the write was lost. done frees it.
func (s *Store) whileLed(ctx context.Context, c *conn) (led context.Context, done func()) {
	led, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	term := s.term.Load()
	timer := time.AfterFunc(doubtAfter, func() {
		defer close(ended)
		if c.newLeader(led, term) && wait(led, settle) {
			cancel(errNewLeader)
		}
	})
	return led, func() {
		cancel(nil)
		if !timer.Stop() {
			<-ended
		}
	}
}

// newLeader waits until there is a leader of a later term. Term 0 is not known.
func (c *conn) newLeader(ctx context.Context, term uint64) bool {
	for {
		st, err := pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
		switch {
		case err != nil:
		case term == 0:
			term = st.RaftTerm
		case st.RaftTerm > term && st.Leader != 0:
			return true
		}
		if !wait(ctx, doubtEvery) {
			return false
		}
	}
}

// wait returns false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// sawTerm notes the term of an answer.
func (s *Store) sawTerm(h *pb.ResponseHeader) {
	if term := h.GetRaftTerm(); term != 0 {
		s.term.Store(term)
	}
}
