package etcd

import (
	"context"
	"errors"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// call makes one request on the present connection. It waits for a connection
// for as long as a request may take. One that was refused for its token is
// made again after a login, and one that only reads after a broken connection.
func (s *Store) call(ctx context.Context, doing doing, fn func(context.Context, *conn) error) error {
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ours, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	c := s.conn()
	if !doing.reads {
		var done func()
		ours, done = s.whileLed(ours, c)
		defer done()
	}
	began := time.Now()
	err := s.loggedIn(ours, c, true, fn)
	if doing.reads && status.Code(err) == codes.Unavailable && ours.Err() == nil {
		c = s.conn()
		err = s.loggedIn(ours, c, true, fn)
	}
	switch {
	case err == nil:
		c.hear()
		return nil
	case s.ctx.Err() != nil:
		return store.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(ours), errNewLeader):
		return s.explain(doing, errNewLeader)
	case ours.Err() != nil && !c.heardSince(began):
		err = c.why(err)
		s.retire(c)
	}
	return s.explain(doing, err)
}

// why is what keeps c from being connected, or err: the client forgets it.
func (c *conn) why(err error) error {
	cc := c.ActiveConnection()
	if cc.GetState() != connectivity.TransientFailure {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Ctx(), connectTimeout)
	defer cancel()
	_, failed := pb.NewKVClient(cc).Txn(ctx, &pb.TxnRequest{}, grpc.WaitForReady(false))
	if status.Code(failed) != codes.Unavailable {
		return err
	}
	return failed
}

// loggedIn makes one request with a token, with a new one if that is refused.
// wait: a login waits for a connection.
func (s *Store) loggedIn(ctx context.Context, c *conn, wait bool, fn func(context.Context, *conn) error) error {
	token, known := s.login.current()
	if !known {
		if err := s.login.ensure(ctx, c, wait, token); err != nil {
			return err
		}
		token, _ = s.login.current()
	}
	err := fn(ctx, c)
	if !tokenRefused(err) {
		return err
	}
	if err := s.login.ensure(ctx, c, wait, token); err != nil {
		return err
	}
	return fn(ctx, c)
}

// isTimeout says whether err is our own patience or a server's.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}
