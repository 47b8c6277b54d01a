package etcd

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
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
