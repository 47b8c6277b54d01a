package nats_test

import (
	"fmt"
	"testing"

	"github.com/listener-agent/listener/store"
)

// BenchmarkCommit is one write at a time, beside the put of a bare client; it
// knows nothing of creation, conditions or sessions and asks for nothing.
func BenchmarkCommit(b *testing.B) {
	s := startServer(b, "")
	a := openStore(b, defaults(s.url()))
	answers(b, a)
	kv, err := jetStream(b, s).KeyValue(b.Context(), "listener")
	must(b, err)
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			_, err := kv.Put(b.Context(), "t.bare", []byte("x"))
			must(b, err)
		}
	})
	for _, n := range []int{1, 2, 20} {
		var ops []store.Op
		for i := range n {
			ops = append(ops, store.Put(fmt.Sprintf("/t/%d/k%d", n, i), []byte("x")))
		}
		b.Run(fmt.Sprintf("ops=%d", n), func(b *testing.B) {
			for b.Loop() {
				commit(b, a, nil, ops...)
			}
		})
	}
}

// BenchmarkWatch is the time from a bare client's put to the update, beside
// the same with a bare watch.
func BenchmarkWatch(b *testing.B) {
	s := startServer(b, "")
	a := openStore(b, defaults(s.url()))
	answers(b, a)
	kv, err := jetStream(b, s).KeyValue(b.Context(), "listener")
	must(b, err)
	b.Run("bare", func(b *testing.B) {
		w, err := kv.Watch(b.Context(), "t.k")
		must(b, err)
		defer w.Stop()
		for <-w.Updates() != nil { // the state, and nil behind it
		}
		for b.Loop() {
			rev, err := kv.Put(b.Context(), "t.k", []byte("x"))
			must(b, err)
			for e := range w.Updates() {
				if e.Revision() == rev {
					break
				}
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		updates := a.Watch(b.Context(), "/t/k")
		<-updates
		for b.Loop() {
			rev, err := kv.Put(b.Context(), "t.k", []byte("x"))
			must(b, err)
			for u := range updates {
				if u.Rev >= rev {
					break
				}
			}
		}
	})
}
