package nats_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go/jetstream"
)

// TestSoak writes at random in bursts while a fast and a slow receiver look
// on, with a fault in one of thirty bursts: both must end each burst at what
// was written last. STORETEST_BURSTS says how many bursts, 300 without it, and
// STORETEST_SEED repeats one.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := uint64(variable("STORETEST_SEED"))
	if seed == 0 {
		seed = rand.Uint64N(1 << 31)
	}
	bursts := variable("STORETEST_BURSTS")
	if bursts == 0 {
		bursts = 300
	}
	t.Logf("again with STORETEST_SEED=%d STORETEST_BURSTS=%d", seed, bursts)
	k := newSoak(t, seed)
	faults := k.faults()
	when := make(map[int]int) // the fault of a burst
	for i, n := range k.random.Perm(bursts)[:bursts/30] {
		when[n] = i % len(faults)
	}
	made := make([]int, len(faults))
	began := time.Now()
	for n := range bursts {
		var f *soakFault
		if i, ok := when[n]; ok {
			f = &faults[i]
			made[i]++
		}
		k.burst(n, f)
	}
	for i, f := range faults {
		t.Logf("%d × %s", made[i], f.what)
	}
	t.Logf("%d bursts of %d writes, %d Resets, %v", bursts, k.writes, k.fast.resets+k.slow.resets, time.Since(began).Round(time.Second))
}

func variable(name string) int {
	n, _ := strconv.Atoi(os.Getenv(name)) // unset or not a number: 0
	return n
}

type soak struct {
	t          *testing.T
	random     *rand.Rand
	server     *server
	proxy      *proxy
	writer     store.Store
	reader     store.Store // over the proxy
	fast, slow *follower
	want       map[string]string
	writes     int
}

func (f *soakFault) String() string {
	if f == nil {
		return "none"
	}
	return f.what
}

// soakFault is what goes wrong during a burst; mend ends it after the last write.
type soakFault struct {
	what string
	make func()
	mend func()
}

func newSoak(t *testing.T, seed uint64) *soak {
	s := startServer(t, "")
	k := &soak{
		t: t, server: s, proxy: startProxy(t, s.addr()), random: rand.New(rand.NewPCG(seed, seed)),
		writer: openStore(t, options(s.url())), want: make(map[string]string),
	}
	k.reader = openStore(t, options(k.proxy.url()))
	k.fast, k.slow = follow(t, k.reader, "/t/"), follow(t, k.reader, "/t/")
	return k
}

func (k *soak) faults() []soakFault {
	t, s, p := k.t, k.server, k.proxy
	nothing := func() {}
	return []soakFault{
		{"crash of the server", func() { s.kill(); s.start(t) }, nothing},
		{"restart of the server", func() { s.stop(); s.start(t) }, nothing},
		{"cut link", func() { p.set(cut) }, func() { p.set(open) }},
		{"link cut for a moment", func() { p.set(cut); p.set(open) }, nothing},
		{"black hole", func() { p.set(black) }, func() { time.Sleep(rand.N(4 * time.Second)); p.set(open) }},
		{"stopped server", func() { s.signal(syscall.SIGSTOP); time.AfterFunc(4*time.Second, func() { s.signal(syscall.SIGCONT) }) }, nothing},
		{"wiped server", func() { s.wipe(t); clear(k.want) }, nothing},
		{"bucket removed", func() { must(t, k.jetStream().DeleteStream(t.Context(), "KV_listener")); clear(k.want) }, nothing},
		{"bucket emptied", k.purge, nothing},
		{"markers removed while the link is cut", func() { p.set(cut); k.purgeMarkers() }, func() { p.set(open) }},
		{"consumer removed", k.removeConsumers, nothing},
	}
}

// jetStream is a bare client that is closed with the test.
func (k *soak) jetStream() (js jetstream.JetStream) {
	eventually(k.t, "the bucket is there", func() error {
		js = jetStream(k.t, k.server)
		_, err := js.Stream(k.t.Context(), "KV_listener")
		return err
	})
	return js
}

func (k *soak) purge() {
	stream, err := k.jetStream().Stream(k.t.Context(), "KV_listener")
	must(k.t, err)
	must(k.t, stream.Purge(k.t.Context()))
	clear(k.want)
}

func (k *soak) purgeMarkers() {
	kv, err := k.jetStream().KeyValue(k.t.Context(), "listener")
	must(k.t, err)
	must(k.t, kv.PurgeDeletes(k.t.Context(), jetstream.DeleteMarkersOlderThan(-1)))
}

func (k *soak) removeConsumers() {
	stream, err := k.jetStream().Stream(k.t.Context(), "KV_listener")
	must(k.t, err)
	names := stream.ConsumerNames(k.t.Context())
	for name := range names.Name() {
		must(k.t, stream.DeleteConsumer(k.t.Context(), name))
	}
	must(k.t, names.Err())
}

// burst writes, with a fault before one of the writes, and waits until both
// receivers have the end of it. Then they must have the rest: after a fault in
// time, else by then.
func (k *soak) burst(n int, f *soakFault) {
	k.t.Helper()
	end := strconv.Itoa(n)
	errs := make(chan error, 2)
	go func() { errs <- receive(k.t.Context(), k.fast, end, 0) }()
	go func() { errs <- receive(k.t.Context(), k.slow, end, time.Duration(n%4)*time.Millisecond) }()
	count := 5 + k.random.IntN(60)
	at := k.random.IntN(count)
	for i := range count {
		if i == at && f != nil {
			f.make()
		}
		k.commit(k.ops(fmt.Sprintf("%d.%d", n, i)))
	}
	k.commit([]store.Op{store.Put("/t/end", []byte(end))})
	if f != nil {
		f.mend()
	}
	k.want["/t/end"] = end
	for range 2 {
		if err := <-errs; err != nil {
			k.t.Fatalf("burst %d, fault %v: %v", n, f, err)
		}
	}
	if f != nil {
		// That a bucket was emptied is noticed some time after.
		for _, r := range []*follower{k.fast, k.slow} {
			r.until(fmt.Sprintf("burst %d, fault %s: %v", n, f.what, k.want), func() bool { return r.lost == nil && maps.Equal(r.values(), k.want) })
		}
	}
	got := make(map[string]string)
	eventually(k.t, "a list", func() error {
		kvs, _, err := k.reader.List(k.t.Context(), "/t/")
		clear(got)
		for _, kv := range kvs {
			got[kv.Key] = string(kv.Value)
		}
		return err
	})
	for who, got := range map[string]map[string]string{"fast receiver": k.fast.values(), "slow receiver": k.slow.values(), "list": got} {
		if !maps.Equal(got, k.want) {
			k.t.Fatalf("burst %d, fault %v: the %s has %v, want %v", n, f, who, got, k.want)
		}
	}
}

// ops are one to three writes, and what they leave is in want.
func (k *soak) ops(value string) (ops []store.Op) {
	for _, i := range k.random.Perm(8)[:1+k.random.IntN(3)] {
		key := fmt.Sprintf("/t/%d/k%d", i%2, i)
		if k.random.IntN(4) == 0 {
			ops = append(ops, store.Delete(key))
			continue
		}
		ops = append(ops, store.Put(key, []byte(value)))
	}
	return ops
}

// commit writes until that is acknowledged: done twice it is the same.
func (k *soak) commit(ops []store.Op) {
	k.t.Helper()
	eventually(k.t, "a write", func() error {
		_, err := k.writer.Commit(k.t.Context(), nil, ops...)
		return err
	})
	k.writes += len(ops)
	for _, op := range ops {
		if op.Delete {
			delete(k.want, op.Key)
		} else {
			k.want[op.Key] = string(op.Value)
		}
	}
}

// receive takes updates until the end of a burst, each after a pause.
func receive(ctx context.Context, f *follower, end string, pause time.Duration) error {
	deadline := time.After(100 * time.Second)
	for string(f.state["/t/end"].Value) != end || f.lost != nil {
		time.Sleep(pause) // a receiver that has something else to do
		select {
		case u := <-f.updates:
			f.apply(u)
		case <-deadline:
			return fmt.Errorf("no end of the burst; lost: %w, state: %v", f.lost, f.values())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
