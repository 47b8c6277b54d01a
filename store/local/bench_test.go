package local

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

func benchOptions(b *testing.B, noSync bool) Options {
	o := options(b)
	o.NoSync, o.CheckEvery = noSync, time.Minute
	return o
}

// BenchmarkCommitToWatch measures how long after the transaction was on disk
// a waiting receiver has its update, and how long the whole commit takes.
func BenchmarkCommitToWatch(b *testing.B) {
	for _, noSync := range []bool{false, true} {
		b.Run(fmt.Sprintf("nosync=%v", noSync), func(b *testing.B) {
			s := open(b, benchOptions(b, noSync))
			var durable time.Time
			s.durable = func() { durable = time.Now() }
			w := s.Watch(b.Context(), "/a/")
			<-w
			received, took := make(chan time.Time), make([]time.Duration, 0, b.N)
			go func() {
				for range w {
					received <- time.Now()
				}
			}()
			value := make([]byte, 100)
			for b.Loop() {
				_, err := s.Commit(b.Context(), nil, store.Put("/a/b", value))
				must(b, err)
				took = append(took, (<-received).Sub(durable))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "ns-delivery-median")
			b.ReportMetric(float64(took[len(took)*95/100].Nanoseconds()), "ns-delivery-p95")
		})
	}
}

func fill(b *testing.B, s *Store, n int) {
	b.Helper()
	for i := range n {
		_, err := s.Commit(b.Context(), nil, store.Put(fmt.Sprintf("/listener/v1/default/values/KEY_%d", i), make([]byte, 100)))
		must(b, err)
	}
}

func BenchmarkList1000(b *testing.B) {
	s := open(b, benchOptions(b, true))
	fill(b, s, 1000)
	b.ReportAllocs()
	for b.Loop() {
		kvs, _, err := s.List(b.Context(), "/listener/")
		if err != nil || len(kvs) != 1000 {
			b.Fatal(len(kvs), err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, benchOptions(b, true))
	fill(b, s, 1000)
	b.ReportAllocs()
	for b.Loop() {
		_, err := s.Get(b.Context(), "/listener/v1/default/values/KEY_500")
		must(b, err)
	}
}

// BenchmarkWatch5000 begins a watch of as many exact keys as an agent with
// 1,000 manifests has.
func BenchmarkWatch5000(b *testing.B) {
	s := open(b, benchOptions(b, true))
	fill(b, s, 1000)
	var keys []string
	for i := range 5000 {
		keys = append(keys, fmt.Sprintf("/listener/v1/default/values/KEY_%d", i))
	}
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		if u := <-s.Watch(ctx, keys...); len(u.KVs) != 1000 {
			b.Fatal(len(u.KVs))
		}
		cancel()
	}
}

func BenchmarkOpen(b *testing.B) {
	o := benchOptions(b, true)
	s := open(b, o)
	fill(b, s, 1000)
	must(b, s.Close())
	for b.Loop() {
		s, err := Open(o)
		must(b, err)
		must(b, s.Close())
	}
}
