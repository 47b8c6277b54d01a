package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

type request = pb.WatchRequest

// received is one message of a stream, or its end.
type received struct {
	resp *pb.WatchResponse
	err  error
}

// stream is one watch stream. The link's goroutine owns what has no other
// owner named.
type stream struct {
	store  *Store
	conn   *conn
	ctx    context.Context
	cancel context.CancelFunc
	in     chan received
	out    chan *request

	toSend  []*request
	watches map[int64]*watch // by the server's id
	queue   []*watch         // whose watches are to be made
	// creating is the one whose watches are being made, one at a time: a gRPC
	// proxy answers in any order.
	creating *watch
	parts    map[int64][]*mvccpb.Event // of answers that come in fragments

	cluster uint64
	newest  int64 // revision seen
	opened  time.Time
	token   string // that the server checks for each new watch
	heard   time.Time
	// asked is since when a sign of life is awaited, askedAt the newest revision
	// then, askedLast when it was asked for last.
	asked, askedLast time.Time
	askedAt          int64
	checkAt          time.Time
	checking         bool

	answered bool // a progress request was, once
	polled   bool // none was: proofs take their place
	proving  bool
	proveAt  time.Time
	behind   []knownPlace // what the last proof found
}

// open starts to open a stream when it is time to.
func (l *link) open(now time.Time) {
	if l.opening {
		return
	}
	if now.Before(l.retry) {
		l.at(l.retry)
		return
	}
	l.opening = true
	unready := l.unready
	l.spawn(func() {
		s, err := l.store.openStream(unready)
		if !deliver(l, l.opened, opened{s, err}) && s != nil {
			s.cancel()
		}
	})
}

// openStream fails at once when there is no connection; unready: it did so
// before, now it waits for one.
func (s *Store) openStream(unready bool) (*stream, error) {
	c := s.conn()
	if unready {
		ctx, cancel := context.WithTimeout(s.ctx, s.opts.CallTimeout)
		err := c.ready(ctx)
		cancel()
		if err != nil {
			s.retire(c)
			c = s.conn()
		}
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	in, cancelLogin := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancelLogin()
	var remote pb.Watch_WatchClient
	var token string
	err := s.loggedIn(in, c, false, func(context.Context, *conn) (err error) {
		token, _ = s.login.current()
		remote, err = pb.NewWatchClient(c.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(maxMessage))
		return err
	})
	if err != nil {
		cancel()
		return nil, err
	}
	now := time.Now()
	st := &stream{
		store: s, conn: c, ctx: ctx, cancel: cancel, token: token, opened: now, heard: now,
		in: make(chan received, 64), out: make(chan *request),
		watches: make(map[int64]*watch), parts: make(map[int64][]*mvccpb.Event),
	}
	s.work.Go(func() { st.receive(remote) })
	s.work.Go(func() { st.send(remote) })
	s.work.Go(st.leaving)
	return st, nil
}

// maxMessage is no limit: an answer is as long as what was written together.
const maxMessage = 1<<31 - 1

// receive is a goroutine of the stream.
func (s *stream) receive(remote pb.Watch_WatchClient) {
	for {
		resp, err := remote.Recv()
		if err == nil {
			s.conn.hear()
			s.store.sawTerm(resp.Header)
		}
		select {
		case s.in <- received{resp, err}:
		case <-s.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// send is a goroutine of the stream: a link that takes nothing must not block
// the one that watches over it.
func (s *stream) send(remote pb.Watch_WatchClient) {
	for {
		select {
		case r := <-s.out:
			if remote.Send(r) != nil {
				return // receive has the reason
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// errLeaving: the server is about to stop, or a proxy wants connections to be
// made anew.
var errLeaving = errors.New("the server is leaving")

// leaving is a goroutine of the stream. A server that stops waits for its
// streams to end, and takes no new requests meanwhile.
func (s *stream) leaving() {
	if !s.conn.unready(s.ctx) {
		return
	}
	select {
	case s.in <- received{err: errLeaving}:
	case <-s.ctx.Done():
	}
}

func (l *link) onOpened(o opened) {
	l.opening = false
	l.unready = o.err != nil
	switch {
	case o.err != nil:
		l.fail(o.err)
	case len(l.watches) == 0:
		o.stream.cancel()
	default:
		l.cur = o.stream
	}
}

// createNext asks the server for the watches of the next in the queue.
func (s *stream) createNext() {
	for s.creating == nil && len(s.queue) > 0 {
		w := s.queue[0]
		s.queue = s.queue[1:]
		if w.gone {
			continue
		}
		if w.missing = len(w.prefixes); w.missing == 0 {
			w.phase = live
			continue
		}
		s.creating, w.first = w, w.rev
		for _, p := range w.prefixes {
			from, end := bounds(p)
			create := &pb.WatchCreateRequest{Key: []byte(from), RangeEnd: []byte(end), StartRevision: w.rev + 1, Fragment: true}
			s.toSend = append(s.toSend, &request{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
		}
	}
}

// forget ends the watches of w.
func (s *stream) forget(w *watch) {
	for _, id := range w.ids {
		s.end(id)
	}
	w.ids, w.batch = nil, nil
}

func (s *stream) end(id int64) {
	delete(s.watches, id)
	delete(s.parts, id)
	cancel := &pb.WatchCancelRequest{WatchId: id}
	s.toSend = append(s.toSend, &request{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}})
}

func (s *stream) ask() {
	s.toSend = append(s.toSend, &request{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// plausible says what is wrong with an answer of the store, which was at the
// revision floor when it was asked. It notes what it says.
func (s *stream) plausible(st *state, floor int64) error {
	switch {
	case s.cluster != 0 && st.cluster != 0 && st.cluster != s.cluster:
		return fmt.Errorf("%w: %x, was %x", errOther, st.cluster, s.cluster)
	case st.rev < floor:
		return fmt.Errorf("%w: it is at revision %d, was at %d", errWentBack, st.rev, floor)
	}
	s.cluster, s.newest = st.cluster, max(s.newest, st.rev)
	return nil
}

// movable says whether another stream, opened at once, is likely to do where
// this one ended by err.
func (s *stream) movable(err error) bool {
	if errors.Is(err, errLeaving) {
		return true
	}
	// The token was good when the stream was opened, and is not any more. Where
	// a state could be read, a watch of the same keys is not refused for another
	// reason.
	token, known := s.store.login.current()
	return known && token != s.token &&
		(tokenRefused(err) || errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied))
}

// readable is a key that may be read and costs the server nothing.
func (s *stream) readable() string {
	for _, w := range s.watches {
		return w.prefixes[0]
	}
	return ""
}

// receive takes what has arrived, and hands it on together: the events of one
// transaction come in one message for each prefix, one right after the other.
func (l *link) receive(r received) {
	touched := make(map[*watch]struct{}, 1)
	for n, more := 0, true; more; n++ {
		if err := l.message(r, touched); err != nil {
			l.fail(err)
			return
		}
		if n < mostTogether {
			r, more = l.cur.next(n == 0)
		} else {
			more = false
		}
	}
	for w := range touched {
		if len(w.batch) > 0 {
			w.flush()
		}
	}
}

// mostTogether is how many messages may wait for each other.
const mostTogether = 256

// next returns the next message if it is there, or, when the goroutine that
// receives may be about to have it, very soon.
func (s *stream) next(soon bool) (r received, ok bool) {
	for {
		select {
		case r = <-s.in:
			return r, true
		default:
		}
		if !soon || len(s.watches) < 2 {
			return r, false
		}
		soon = false
		runtime.Gosched()
	}
}

// message handles one message; an error ends the stream.
func (l *link) message(r received, touched map[*watch]struct{}) error {
	s := l.cur
	if r.err != nil {
		if errors.Is(r.err, io.EOF) {
			return fmt.Errorf("%w: the server ended the watch stream", store.ErrUnavailable)
		}
		return r.err
	}
	s.heard = time.Now()
	m := r.resp
	rev := m.GetHeader().GetRevision()
	switch {
	case m.Created:
		return s.onCreated(m)
	case m.Canceled:
		return s.onCanceled(m)
	case len(m.Events) == 0: // a sign of life
		if m.WatchId != clientv3.InvalidWatchID || rev == 0 {
			return nil
		}
		s.answered, s.polled = true, false
		return s.plausible(&state{rev: rev, cluster: m.Header.ClusterId}, s.askedAt)
	}
	s.newest = max(s.newest, rev)
	events := m.Events
	if part, ok := s.parts[m.WatchId]; ok || m.Fragment {
		events = append(part, events...)
		if s.parts[m.WatchId] = events; m.Fragment {
			return nil
		}
		delete(s.parts, m.WatchId)
	}
	if w := s.watches[m.WatchId]; w != nil {
		for _, ev := range events {
			w.note(ev)
			l.noteEvent(ev)
		}
		w.batch = append(w.batch, events...)
		touched[w] = struct{}{}
	}
	return nil
}

func (s *stream) onCreated(m *pb.WatchResponse) error {
	w := s.creating
	if w == nil {
		if !m.Canceled {
			s.end(m.WatchId)
		}
		return nil
	}
	if m.Canceled {
		return cause(m.CancelReason)
	}
	if rev := m.GetHeader().GetRevision(); rev != 0 && rev < w.first {
		return fmt.Errorf("%w: it is at revision %d, was at %d", errWentBack, rev, w.first)
	}
	if w.gone || w.anew {
		s.end(m.WatchId)
	} else {
		s.watches[m.WatchId] = w
		w.ids = append(w.ids, m.WatchId)
	}
	if w.missing--; w.missing > 0 {
		return nil
	}
	s.creating, w.phase = nil, live
	if w.anew {
		w.wait()
	}
	return nil
}

// onCanceled handles the end of a watch that we did not ask for. (Those that
// we did are not known any more.)
func (s *stream) onCanceled(m *pb.WatchResponse) error {
	w := s.watches[m.WatchId]
	switch {
	case w == nil:
		return nil
	case m.CompactRevision == 0:
		return cause(m.CancelReason)
	}
	s.forget(w)
	if s.creating == w {
		w.anew = true
		return nil
	}
	w.wait()
	return nil
}
