package etcd_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// slowDisk makes each write to the disk of s take longer, until fast is called.
func (s *server) slowDisk(t *testing.T, delay time.Duration) (fast func()) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace here (Debian: strace)")
	}
	c := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", delay.Microseconds()), "-p", fmt.Sprint(s.proc.Process.Pid))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var out strings.Builder
	c.Stderr = &out
	must(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	fast = func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it lets go of the server
		<-ended
	}
	operator := s.bare(t)
	until(t, "a slow disk", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("this machine lets nobody trace: %v: %s", err, out.String())
		default:
		}
		began := time.Now()
		_, _ = operator.Put(t.Context(), "/slow", "") // one that takes too long fails
		return time.Since(began) >= min(delay, 2*time.Second)
	})
	return fast
}

// A disk that takes its time delays writes, and nothing else: no watch is
// lost. One that takes longer than a request may is told as such; what was
// written arrives.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	s := newProcess(t)
	c := open(t, at(s.url()))
	put(t, c, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")

	fast := s.slowDisk(t, 700*time.Millisecond)
	for _, v := range []string{"2", "3", "4"} {
		put(t, c, "/t/a", v)
		f.has("/t/a=" + v)
	}
	began := time.Now()
	kv, err := c.Get(t.Context(), "/t/a")
	if err != nil || string(kv.Value) != "4" {
		t.Errorf("get from a server with a slow disk: %q, %v", kv.Value, err)
	}
	within(t, "get from a server with a slow disk", time.Since(began), time.Second)
	fast()
	if f.losses > 0 {
		t.Errorf("the watch was lost: %v", f.lost)
	}

	fast = s.slowDisk(t, 7*time.Second)
	_, err = c.Commit(t.Context(), nil, store.Put("/t/a", []byte("5")))
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 5s") && !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("commit to a disk that takes 7 s: %v", err)
	}
	fast()
	f.has("/t/a=5")
}
