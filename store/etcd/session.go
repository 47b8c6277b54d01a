package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// session is one holder of a lease.
type session struct {
	store *Store
	id    clientv3.LeaseID
	ttl   time.Duration // as granted, which may be more than was asked for

	ctx  context.Context // ends when it is not refreshed any more
	stop context.CancelFunc
	done chan struct{}
	lose func() // closes done, once
}

var _ store.Session = (*session)(nil)

// Session implements store.Store. The ID is the lease's in hexadecimal, as
// etcdctl shows it.
func (s *Store) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	if err := store.CheckTTL(ttl); err != nil {
		return nil, err
	}
	began := time.Now()
	var id clientv3.LeaseID
	var granted int64
	var err error
	if resume == "" {
		id, granted, err = s.grantLease(ctx, ttl)
	} else {
		id, granted, err = s.resumeLease(ctx, resume)
	}
	if err != nil {
		return nil, err
	}
	x := &session{store: s, id: id, ttl: time.Duration(granted) * time.Second, done: make(chan struct{})}
	x.ctx, x.stop = context.WithCancel(s.ctx)
	x.lose = sync.OnceFunc(func() { close(x.done) })
	if !s.start(func() { x.refresh(began) }) {
		x.stop()
		return nil, store.ErrClosed
	}
	return x, nil
}

func (s *Store) grantLease(ctx context.Context, ttl time.Duration) (id clientv3.LeaseID, granted int64, err error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	err = s.call(ctx, doing{verb: "start a session"}, func(ctx context.Context, c *conn) error {
		resp, err := c.Grant(ctx, seconds)
		if err == nil {
			id, granted = resp.ID, resp.TTL
		}
		return err
	})
	return id, granted, err
}

func (s *Store) resumeLease(ctx context.Context, text string) (id clientv3.LeaseID, granted int64, err error) {
	if id, err = parseID(text); err != nil {
		return 0, 0, err
	}
	if granted, err = s.refreshLease(ctx, id); err != nil {
		return 0, 0, err
	}
	if granted <= 0 {
		return 0, 0, fmt.Errorf("%w: %s", store.ErrSession, text)
	}
	return id, granted, nil
}

// refreshLease returns how long the lease lives from now, in seconds; 0 means
// that it is gone.
func (s *Store) refreshLease(ctx context.Context, id clientv3.LeaseID) (ttl int64, err error) {
	err = s.call(ctx, doing{verb: "refresh a session", reads: true}, func(ctx context.Context, c *conn) error {
		ctx, end := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer end()
		stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
			return err
		}
		resp, err := stream.Recv()
		if err == nil {
			ttl = resp.TTL
		}
		return err
	})
	return ttl, err
}

// refresh keeps the lease alive. When it could not for as long as the lease
// lives, the session counts as lost: others may see its keys gone, and a
// holder of a lock must not go on.
func (x *session) refresh(alive time.Time) {
	defer x.stop()
	for wait := x.ttl / 3; ; {
		select {
		case <-time.After(wait):
		case <-x.ctx.Done():
			return
		}
		began := time.Now()
		left := x.ttl - began.Sub(alive)
		if left <= 0 {
			x.lose()
			return
		}
		ctx, cancel := context.WithTimeout(x.ctx, left)
		ttl, err := x.store.refreshLease(ctx, x.id)
		cancel()
		switch {
		case err == nil && ttl <= 0:
			x.lose()
			return
		case err == nil:
			alive, wait = began, x.ttl/3
		case errors.Is(err, store.ErrClosed):
			return
		default:
			wait = min(pause(maxBackoff), max(0, x.ttl-time.Since(alive)))
		}
	}
}

// pause is a random part of the longest one.
func pause(longest time.Duration) time.Duration { return rand.N(longest) + time.Millisecond }

func (x *session) ID() string { return formatID(x.id) }

func (x *session) Done() <-chan struct{} { return x.done }

// Orphan implements store.Session.
func (x *session) Orphan() { x.stop() }

// Close implements store.Session. The lease's keys are removed with it, in
// one transaction.
func (x *session) Close(ctx context.Context) error {
	err := x.store.call(ctx, doing{verb: "end a session"}, func(ctx context.Context, c *conn) error {
		_, err := c.Revoke(ctx, x.id)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrSession) {
		return err
	}
	x.stop()
	x.lose()
	return nil
}

func formatID(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// parseID is the inverse of formatID; what that cannot have made is the ID of
// no session.
func parseID(text string) (clientv3.LeaseID, error) {
	n, err := strconv.ParseInt(text, 16, 64)
	if id := clientv3.LeaseID(n); err == nil && n > 0 && formatID(id) == text {
		return id, nil
	}
	return 0, fmt.Errorf("%w: %q", store.ErrSession, text)
}
