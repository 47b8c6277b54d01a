package etcd

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// written is the message of a write.
func written(id int64, key string, rev int64) *pb.WatchResponse {
	return &pb.WatchResponse{WatchId: id, Events: []*mvccpb.Event{event(key, rev)}}
}

// Of two prefixes the one is written to while the watch of the other one is
// being made: the server says that it is made after that, and was made before.
func TestWrittenWhileMade(t *testing.T) {
	f := newFake(t)
	f.hold, f.held = make(chan struct{}), make(chan struct{}, 10)
	ch := watchFake(t, f, "/t/a", "/t/b")
	<-f.held
	f.set(func() { f.rev = 101 })
	f.tell(t, 1, written(0, "/t/a", 101))
	want(t, ch, store.Change, 101)
	close(f.hold)
	f.set(func() { f.rev = 102 })
	f.tell(t, 2, written(1, "/t/b", 102))
	want(t, ch, store.Change, 102)
}

// A watch waits for its state again, long after it did so at first.
func TestCompactedLater(t *testing.T) {
	f := newFake(t)
	ch := watchFake(t, f, "/t/")
	time.Sleep(patience + 100*time.Millisecond)
	f.set(func() { f.rev = 200 })
	f.tell(t, 1, &pb.WatchResponse{Canceled: true, CompactRevision: 150})
	want(t, ch, store.Reset, 200)
}

// progress is the answer to a progress request.
func progress() *pb.WatchResponse { return &pb.WatchResponse{WatchId: clientv3.InvalidWatchID} }

// still fails the test if the watch says anything while the store is looked at
// again and again.
func still(t *testing.T, f *fake, ch <-chan store.Update) {
	t.Helper()
	looks := func() (n int) {
		f.set(func() { n = f.looks })
		return n
	}
	from, deadline := looks(), time.After(30*time.Second)
	for looks() < from+10 {
		select {
		case u := <-ch:
			t.Fatalf("nothing happened: %+v", u)
		case <-deadline:
			t.Fatalf("%d checks of 10", looks()-from)
		case <-time.After(time.Millisecond):
		}
	}
}

// All that a watch follows was removed when its state is read again.
func TestEmptiedUnseen(t *testing.T) {
	f := newFake(t)
	f.writes = []int64{50}
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.rev, f.gone = 110, 105 })
	f.tell(t, 1, &pb.WatchResponse{Canceled: true, CompactRevision: 104})
	want(t, ch, store.Reset, 110)
	f.tell(t, 2, progress(), progress())
	still(t, f, ch)
}

// An old etcd tells its progress before the event that it is of.
func TestProgressBeforeEvent(t *testing.T) {
	f := newFake(t)
	f.writes = []int64{50}
	ch := watchFake(t, f, "/t/")
	f.set(func() { f.rev = 104 })
	f.tell(t, 1, progress())
	f.set(func() { f.rev, f.writes = 105, []int64{50, 105} })
	f.tell(t, 1, progress())
	still(t, f, ch)
	f.tell(t, 1, written(0, "/t/a", 105))
	want(t, ch, store.Change, 105)
	still(t, f, ch)
}

// A stream is not taken for one whose server leaves when it is opened on a
// connection that was made just now.
func TestOneStream(t *testing.T) {
	f := newFake(t)
	const stores = 100
	for range stores {
		s, err := Open(Options{Endpoints: []string{f.url}})
		if err != nil {
			t.Fatal(err)
		}
		want(t, s.Watch(t.Context(), "/t/"), store.Reset, 100)
		s.Close()
	}
	f.set(func() {
		if f.streams != stores {
			t.Errorf("%d streams of %d watches", f.streams, stores)
		}
	})
}

// Another store is found when a second watch begins: the first one follows what
// is not there any more.
func TestOtherHistoryFoundByAnother(t *testing.T) {
	f := newFake(t)
	s, err := Open(Options{Endpoints: []string{f.url}, CheckEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	first := s.Watch(t.Context(), "/t/")
	want(t, first, store.Reset, 100)
	f.set(func() { f.created = 2 })
	second := s.Watch(t.Context(), "/t/a")
	for _, ch := range []<-chan store.Update{first, second} {
		want(t, ch, store.Lost, 0)
		if u := want(t, ch, store.Reset, 100); !u.OtherHistory || u.KVs[0].Created != 2 {
			t.Errorf("another history: %+v", u)
		}
	}
}

// A watch ends while another one finds that the store has another history.
func TestOtherHistoryAfterLeave(t *testing.T) {
	l := newLink(&Store{})
	l.cur = &stream{}
	var both []*watch
	for range 2 {
		w := &watch{feed: feed.New([]string{"/t/"}), prefixes: []string{"/t/"}}
		l.join(w)
		both = append(both, w)
	}
	then := &state{rev: 100, kvs: []*mvccpb.KeyValue{event("/t/a", 100).Kv}}
	l.mark.reset(then)
	r := readResult{stream: l.cur, watch: both[1], state: then, marks: [2]mark{l.mark}, era: l.era, other: true}
	l.leave(both[0])
	l.onRead(r)
	go both[1].feed.Run(t.Context(), nil)
	if u := want(t, both[1].feed.C(), store.Reset, 100); !u.OtherHistory {
		t.Error("the Reset does not say that it is of another history")
	}
}

// History is compacted before one watch of the server has caught up, while
// another one of the same is being made.
func TestCompactedWhileMade(t *testing.T) {
	f := newFake(t)
	f.hold, f.held = make(chan struct{}), make(chan struct{}, 10)
	ch := watchFake(t, f, "/t/a", "/t/b")
	<-f.held
	f.set(func() { f.rev = 200 })
	f.tell(t, 1, &pb.WatchResponse{Canceled: true, CompactRevision: 150})
	close(f.hold)
	want(t, ch, store.Reset, 200)
	f.set(func() { f.rev = 201 })
	f.tell(t, 4, written(3, "/t/b", 201))
	want(t, ch, store.Change, 201)
}

// The server answers the first of two requests for its progress when the second
// one was made, and a read in between said more.
func TestSlowProgress(t *testing.T) {
	l := newLink(&Store{})
	w := &watch{feed: feed.New([]string{"/t/"}), prefixes: []string{"/t/"}, phase: live}
	l.join(w)
	now := time.Now()
	l.timer = time.NewTimer(time.Hour)
	l.cur = &stream{newest: 100, heard: now.Add(-askAfter), watches: map[int64]*watch{0: w}, answered: true}
	l.askForLife(now)
	if err := l.cur.plausible(&state{rev: 120}, 100); err != nil {
		t.Fatal(err)
	}
	l.askForLife(now.Add(askAgain))
	if n := len(l.cur.toSend); n != 2 {
		t.Fatalf("asked %d times", n)
	}
	late := progress()
	late.Header = &pb.ResponseHeader{Revision: 110}
	if err := l.message(received{resp: late}, nil); err != nil {
		t.Error(err)
	}
}

// What was wrong when the last watch ended need not be so when the next begins.
func TestReasonOfBefore(t *testing.T) {
	l := newLink(&Store{})
	l.err = errSilent
	before, after := &watch{feed: feed.New([]string{"/t/"})}, &watch{feed: feed.New([]string{"/t/"})}
	l.join(before)
	l.leave(before)
	if l.join(after); after.told {
		t.Error("a watch is Lost before anything was tried")
	}
}
