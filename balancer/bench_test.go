package balancer_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/listener-agent/listener/balancer"
)

// crowd is a key with n providers.
func crowd(n int) []balancer.Entry {
	entries := make([]balancer.Entry, n)
	for i := range entries {
		entries[i] = up(fmt.Sprintf("web%05d.example.com", i), at("http://", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), 8000))
	}
	return entries
}

// BenchmarkCandidate is one change among 10,000 providers of a key up to the
// candidate of HAProxy's file: at most 50 ms of CPU are what it may take.
func BenchmarkCandidate(b *testing.B) {
	entries := crowd(10_000)
	in := local(key("API_URL", entries...))
	h := balancer.HAProxy{Socket: "/run/haproxy/listener.sock"}
	b.ReportAllocs()
	size := 0
	for i := 0; b.Loop(); i++ {
		entries[i%len(entries)].Weight = 1 + i%200
		p := balancer.MakePlan(in)
		size = len(h.Render(p))
		if len(p.Problems) > 0 {
			b.Fatal(p.Problems[0])
		}
	}
	b.ReportMetric(float64(size), "B/file")
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
}

// BenchmarkApply is one change of weight among 10,000 servers of a running
// HAProxy, with the questions before and after it.
func BenchmarkApply(b *testing.B) {
	entries := crowd(10_000)
	in := local(key("API_URL", entries...))
	x := startWith(b, balancer.HAProxy{}, balancer.MakePlan(in))
	plans := [2]*balancer.Plan{x.plan}
	entries[5000].Weight = 7
	plans[1] = balancer.MakePlan(in)
	for i := 1; b.Loop(); i++ {
		if res := x.runtime.Apply(b.Context(), plans[(i+1)%2], plans[i%2]); res.Reload != "" || res.Changes != 1 {
			b.Fatalf("%+v", res)
		}
	}
}
