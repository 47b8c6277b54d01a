package nats_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// A disk without room: writes are refused with the reason, what is there is
// followed, and once there is room and the server was started again all is well.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a small disk cannot be mounted here, which needs root: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(small, syscall.MNT_DETACH)) })
	s := newServer(t)
	must(t, os.Symlink(small, s.data()))
	s.jetstream = "max_file: 1GB" // more than there is: it finds out by itself
	s.start(t)
	a := openStore(t, options(s.url()))
	put(t, a, "/t/a", "1")
	f := follow(t, a, "/t/a")
	f.has("/t/a", "1")
	var err error
	for i := 0; i < 400 && err == nil; i++ {
		_, err = a.Commit(t.Context(), nil, store.Put(fmt.Sprintf("/t/big%d", i), make([]byte, 50<<10)))
	}
	t.Log(err)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("writing to a full disk: %v", err)
	}
	must(t, syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	s.kill()
	s.start(t)
	eventually(t, "a write", func() error {
		_, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte("2")))
		return err
	})
	f.has("/t/a", "2")
}

// A server that stands still again and again, as one does that waits for its
// disk: slow is not gone.
func TestStutter(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a, b := openStore(t, defaults(s.url())), openStore(t, defaults(s.url()))
	put(t, b, "/t/a", "start")
	f := follow(t, a, "/t/")
	f.has("/t/a", "start")
	resets := f.resets
	stop, stopped := make(chan struct{}), make(chan struct{})
	var stops atomic.Int32
	go func() {
		defer close(stopped)
		for {
			s.signal(syscall.SIGSTOP)
			stops.Add(1)
			time.Sleep(400 * time.Millisecond)
			s.signal(syscall.SIGCONT)
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	for i := 0; stops.Load() < 10; i++ {
		put(t, b, "/t/a", fmt.Sprint(i))
		f.has("/t/a", fmt.Sprint(i))
	}
	close(stop)
	<-stopped
	if f.resets != resets {
		t.Errorf("%d Resets", f.resets-resets)
	}
}

// The server waits for its disk with each write, and says only then that it is
// written: slow is not gone, and no session ends.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("there is no strace to make a disk slow")
	}
	s := newServer(t)
	s.jetstream = "sync_interval: always"
	s.through = []string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=200000"}
	s.start(t)
	a, b := openStore(t, defaults(s.url())), openStore(t, defaults(s.url()))
	put(t, b, "/t/a", "start")
	f := follow(t, a, "/t/")
	f.has("/t/a", "start")
	resets := f.resets
	x, err := a.Session(t.Context(), 3*time.Second, "")
	must(t, err)
	commit(t, a, nil, store.PutSession("/t/s", nil, x))
	began := time.Now()
	for i := range 10 {
		put(t, b, "/t/a", fmt.Sprint(i))
		f.has("/t/a", fmt.Sprint(i))
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("10 writes took %v: the disk is not slow", took)
	}
	select {
	case <-x.Done():
		t.Error("the session is lost")
	default:
	}
	if _, ok := f.state["/t/s"]; !ok || f.resets != resets {
		t.Errorf("%d Resets, the state is %v", f.resets-resets, f.values())
	}
}
