package etcd_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// startGRPCProxy starts etcd's own in front of an etcd.
func startGRPCProxy(t *testing.T, target string) (url string) {
	t.Helper()
	address := freeAddress(t)
	p := exec.Command(self(t), "grpc-proxy", "start", "--endpoints="+target, "--listen-addr="+address)
	p.Env = append(os.Environ(), asServer+"=1")
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, p.Start())
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return "http://" + address
}

// quiet fails the test if a watch is lost in a time in which nothing happens.
func quiet(t *testing.T, long time.Duration, all ...*follower) {
	t.Helper()
	time.Sleep(long)
	for _, f := range all {
		select {
		case u := <-f.updates: // it has waited here
			t.Errorf("an update while nothing happened: %+v", u)
			f.apply(u)
		default:
		}
	}
}

// Two agents behind etcd's own gRPC proxy, which makes one watch of theirs.
func TestThroughGRPCProxy(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	url := startGRPCProxy(t, s.client)
	a, b := open(t, at(url)), open(t, at(url))
	f, g := follow(t, a, "/t/", "/u"), follow(t, b, "/t/", "/u")
	f.has("")
	g.has("")
	put(t, a, "/t/a", "1")
	f.has("/t/a=1")
	g.has("/t/a=1")
	x, err := a.Session(t.Context(), 5*time.Second, "")
	must(t, err)
	_, err = a.Commit(t.Context(), []store.Cond{{Key: "/t/b"}}, store.PutSession("/t/b", []byte("2"), x), store.Put("/u", []byte("3")))
	must(t, err)
	g.has("/t/a=1 /t/b=2 /u=3")
	f.has("/t/a=1 /t/b=2 /u=3")

	// Longer than a silent stream, two proofs and the session last.
	quiet(t, 20*time.Second, f, g)
	x.Orphan()
	f.has("/t/a=1 /u=3")
	g.has("/t/a=1 /u=3")

	// The server behind it restarts, killed or not.
	other := open(t, at(s.url()))
	for i, stop := range []func(){s.stop, s.kill} {
		stop()
		s.start(t)
		value := string('4' + rune(i))
		eventually(t, func() error {
			_, err := other.Commit(t.Context(), nil, store.Put("/t/c", []byte(value)))
			return err
		})
		within(t, "a value after a restart", f.has("/t/a=1 /u=3 /t/c="+value), 3*time.Second)
		g.has("/t/a=1 /u=3 /t/c=" + value)
	}
	quiet(t, 10*time.Second, f, g)

	// It is wiped: the proxy waits for ever for the revision that it had.
	began := time.Now()
	s.kill()
	s.wipe(t)
	eventually(t, func() error {
		_, err := other.Commit(t.Context(), nil, store.Put("/t/d", []byte("5")))
		return err
	})
	f.has("/t/d=5")
	g.has("/t/d=5")
	within(t, "a value after a wipe", time.Since(began), 30*time.Second)
}

// The link between the proxy and the server is a black hole.
func TestBlackHoleBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProxy(t, s.client)
	c, other := open(t, at(startGRPCProxy(t, p.listener.Addr().String()))), open(t, at(s.url()))
	put(t, other, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")
	quiet(t, 10*time.Second, f)
	p.Swallow(t)
	within(t, "Lost in a black hole", f.isLost("unavailable"), 10*time.Second)
	put(t, other, "/t/a", "2")
	p.Heal(t)
	within(t, "back from a black hole", f.has("/t/a=2"), 10*time.Second)
}
