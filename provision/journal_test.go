package provision

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/provision/supervisor"
	"golang.org/x/sys/unix"
)

// superviseWithJournal runs a job under a supervisor whose standard error is a
// stream as systemd makes one; peer is the journal's end of it.
func superviseWithJournal(t *testing.T, p *Provisioner, job Job) (ended <-chan error, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream, far := os.NewFile(uintptr(fds[0]), "stream"), os.NewFile(uintptr(fds[1]), "journal")
	peer, err = net.FileConn(far)
	if err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	t.Cleanup(func() { _ = peer.Close() })
	data, err := supervisor.EncodeJob(withRunID(job), p.o.StateDir, p.o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	path := supervisor.JobPath(p.o.RunDir, job.Run, job.Step)
	if err := atomicfile.WriteNew(path, data); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], supervisor.Arg, path)
	c.Env = []string{fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino)}
	c.Stderr = stream
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	return done, peer
}

func TestOutputGoesToTheJournal(t *testing.T) {
	t.Parallel()
	p := newProvisioner(t)
	job := sh("echo out; echo err >&2; test -e /proc/self/fd/3 && echo a descriptor too many; exec nothing-of-that-name")
	ended, peer := superviseWithJournal(t, p, job)
	got, err := io.ReadAll(peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(string(got), "out\nerr\n") || strings.Contains(string(got), "too many") {
		t.Errorf("the journal got %q", got)
	}
	if log := logText(t, p, job.Run); log != string(got) {
		t.Errorf("the log has %q, the journal %q", log, got)
	}
}

// A journal that takes nothing keeps the command waiting for a second, once.
func TestJournalThatHangs(t *testing.T) {
	t.Parallel()
	p := newProvisioner(t)
	job := sh("head -c 4000000 /dev/zero | tr '\\0' x; echo end")
	ended, _ := superviseWithJournal(t, p, job)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the step hangs with its journal")
	}
	tail, err := OpenHistory(p.o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if lines := tail.Tail(job.Run, 1); len(lines) != 1 || !strings.HasSuffix(lines[0], "end") {
		t.Errorf("the log ends with %.80q", lines)
	}
}
