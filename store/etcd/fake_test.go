package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server that lies as it is told to. It has one key, /t/a, whose
// value is its revision.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	url string

	mu      sync.Mutex // guards following
	rev     int64
	cluster uint64
	created int64                // revision that created /t/a
	writes  []int64              // that wrote it, in order; nil: each one does
	gone    int64                // that removed it; 0: none did
	looks   int                  // how often a key was read
	streams int                  // how many there were
	hold    chan struct{}        // closed when a second watch may be made; nil: it may
	held    chan struct{}        // gets one each time it is asked for
	behind  int64                // how far the revision is back when a watch is made
	stream  pb.Watch_WatchServer // the newest
	made    int                  // watches on it
}

func newFake(t *testing.T) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{url: "http://" + ln.Addr().String(), rev: 100, created: 1, cluster: 1}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, f)
	pb.RegisterWatchServer(s, f)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return f
}

func (f *fake) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fake) headerLocked() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: f.rev, ClusterId: f.cluster}
}

func event(key string, rev int64) *mvccpb.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: fmt.Append(nil, rev), ModRevision: rev, CreateRevision: 1}}
}

func (f *fake) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rangeLocked(r)
}

func (f *fake) rangeLocked(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.looks++
	if r.Revision > f.rev {
		return nil, rpctypes.ErrGRPCFutureRev
	}
	found := &pb.RangeResponse{Header: f.headerLocked()}
	if string(r.Key) != "/t/a" && len(r.RangeEnd) == 0 {
		return found, nil
	}
	for _, kv := range f.keysLocked(cmp.Or(r.Revision, f.rev)) {
		found.Count = 1
		if kv.ModRevision >= r.MinModRevision {
			found.Kvs = append(found.Kvs, kv)
		}
	}
	return found, nil
}

// keysLocked is what is there at a revision.
func (f *fake) keysLocked(rev int64) []*mvccpb.KeyValue {
	if f.gone > 0 && rev >= f.gone {
		return nil
	}
	for _, written := range slices.Backward(f.writes) {
		if written <= rev {
			rev = written
			break
		}
	}
	return []*mvccpb.KeyValue{f.eventLocked("/t/a", rev).Kv}
}

func (f *fake) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &pb.TxnResponse{Header: f.headerLocked(), Succeeded: true}
	for _, op := range r.Success {
		found, err := f.rangeLocked(op.GetRequestRange())
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: found}})
	}
	return resp, nil
}

func (f *fake) Watch(s pb.Watch_WatchServer) error {
	f.set(func() {
		f.streams++
		if s.Context().Err() == nil { // else a newer one may be there already
			f.stream, f.made = s, 0
		}
	})
	for id := int64(0); ; {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if r.GetCreateRequest() == nil {
			continue
		}
		var h *pb.ResponseHeader
		f.set(func() { h = f.headerLocked() })
		if f.hold != nil && id > 0 {
			f.held <- struct{}{}
			<-f.hold
		}
		f.set(func() {
			h.Revision -= f.behind
			if err = s.Send(&pb.WatchResponse{Header: h, Created: true, WatchId: id}); err == nil && f.stream == s {
				f.made++
			}
		})
		if err != nil {
			return err
		}
		id++
	}
}

// tell sends messages on the newest stream, once that has n watches.
func (f *fake) tell(t *testing.T, n int, all ...*pb.WatchResponse) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		if f.made >= n && f.stream.Context().Err() == nil {
			break
		}
		f.mu.Unlock()
		if time.Now().After(end) {
			t.Fatalf("not %d watches", n)
		}
	}
	defer f.mu.Unlock()
	for _, r := range all {
		r.Header = f.headerLocked()
		if err := f.stream.Send(r); err != nil {
			t.Error(err)
		}
	}
}

// watchFake follows the fake.
func watchFake(t *testing.T, f *fake, prefixes ...string) <-chan store.Update {
	t.Helper()
	s, err := Open(Options{Endpoints: []string{f.url}, CheckEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ch := s.Watch(t.Context(), prefixes...)
	want(t, ch, store.Reset, 100)
	return ch
}

func next(t *testing.T, ch <-chan store.Update) store.Update {
	t.Helper()
	select {
	case u := <-ch:
		return u
	case <-time.After(30 * time.Second):
		t.Fatal("no update")
		panic("unreachable")
	}
}

func want(t *testing.T, ch <-chan store.Update, kind store.Kind, rev uint64) store.Update {
	t.Helper()
	u := next(t, ch)
	if u.Kind != kind || u.Rev != rev {
		t.Fatalf("kind %d to revision %d (%v), want %d to %d", u.Kind, u.Rev, u.Err, kind, rev)
	}
	return u
}

// The store goes back while the stream lives, as it may behind a proxy.
func TestWentBackBehindProxy(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.rev = 50 })
	if u := want(t, ch, store.Lost, 0); !errors.Is(u.Err, errWentBack) {
		t.Errorf("lost: %v", u.Err)
	}
	want(t, ch, store.Reset, 50)
	f.set(func() { f.cluster, f.rev = 2, 60 })
	if u := want(t, ch, store.Lost, 0); !errors.Is(u.Err, errOther) {
		t.Errorf("lost: %v", u.Err)
	}
	want(t, ch, store.Reset, 60)
}

// The store goes back between the list and the watch, which would wait for
// ever for a revision to come.
func TestWentBackBeforeWatch(t *testing.T) {
	f := newFake(t)
	f.set(func() { f.behind = 10 })
	ch := watchFake(t, f, "/t/")
	if u := want(t, ch, store.Lost, 0); !errors.Is(u.Err, errWentBack) {
		t.Errorf("lost: %v", u.Err)
	}
	f.set(func() { f.behind = 0 })
	want(t, ch, store.Reset, 100)
}

func TestFragments(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.rev = 102 })
	f.tell(t, 1,
		&pb.WatchResponse{Fragment: true, Events: []*mvccpb.Event{event("/t/a", 102), event("/t/b", 102)}},
		&pb.WatchResponse{Fragment: true, Events: []*mvccpb.Event{event("/t/c", 102)}},
		&pb.WatchResponse{Events: []*mvccpb.Event{event("/t/d", 102)}})
	if u := want(t, ch, store.Change, 102); len(u.KVs) != 4 {
		t.Errorf("%d keys of 4 that were written together", len(u.KVs))
	}
}

// Two prefixes: what was written together comes in two messages, which may be
// late; the revision does not go back.
func TestTwoPrefixes(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/a", "/t/b")
	f.set(func() { f.rev = 103 })
	f.tell(t, 2,
		&pb.WatchResponse{WatchId: 1, Events: []*mvccpb.Event{event("/t/b", 103)}},
		&pb.WatchResponse{WatchId: 0, Events: []*mvccpb.Event{event("/t/a", 102)}})
	for seen := 0; seen < 2; {
		u := next(t, ch)
		if u.Kind != store.Change || u.Rev != 103 {
			t.Fatalf("kind %d to revision %d", u.Kind, u.Rev)
		}
		seen += len(u.KVs)
	}
}

// Compaction is no loss: the state is read again.
func TestCompacted(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.rev = 200 })
	f.tell(t, 1, &pb.WatchResponse{Canceled: true, CompactRevision: 150})
	want(t, ch, store.Reset, 200)
}

// A server that answers no progress request, as etcd's gRPC proxy, is believed
// for as long as reads say the same as the watch.
func TestNoProgress(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	select {
	case u := <-ch:
		t.Fatalf("a watch of which nothing changes: %+v", u)
	case <-time.After(askAfter + silence + proveEvery + time.Second):
	}
	began := time.Now()
	f.set(func() { f.rev = 101 }) // and no event
	if u := want(t, ch, store.Lost, 0); !errors.Is(u.Err, errMissed) {
		t.Errorf("lost: %v", u.Err)
	}
	t.Logf("a dead watch was found after %v", time.Since(began))
	want(t, ch, store.Reset, 101)
}

// Another store takes the place of the one that was, at the same revision,
// while the stream lives.
func TestOtherHistory(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.created = 2 })
	want(t, ch, store.Lost, 0)
	if u := want(t, ch, store.Reset, 100); !u.OtherHistory {
		t.Error("the Reset does not say that it is of another history")
	}
	// Events come, and check after check finds the same history.
	f.set(func() { f.rev = 101 })
	f.tell(t, 1, &pb.WatchResponse{Events: []*mvccpb.Event{f.event("/t/a", 101)}})
	want(t, ch, store.Change, 101)
	f.set(func() { f.rev = 102 })
	f.tell(t, 1, &pb.WatchResponse{Events: []*mvccpb.Event{f.event("/t/a", 102)}})
	want(t, ch, store.Change, 102)
	select {
	case u := <-ch:
		t.Errorf("the same history: %+v", u)
	case <-time.After(200 * time.Millisecond): // ten checks
	}
}

func (f *fake) event(key string, rev int64) *mvccpb.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.eventLocked(key, rev)
}

func (f *fake) eventLocked(key string, rev int64) *mvccpb.Event {
	ev := event(key, rev)
	ev.Kv.CreateRevision = f.created
	return ev
}
