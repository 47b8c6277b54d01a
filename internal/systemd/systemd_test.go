package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// environ is an Env of pairs of name and value.
func environ(pairs ...string) Env {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// receiver is a datagram socket that stands in for one of systemd's.
func receiver(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return path, func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 128<<10)
		n, _, err := conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNotifier(t *testing.T) {
	t.Parallel()
	path, next := receiver(t)
	n := NewNotifier(environ("NOTIFY_SOCKET", path, "WATCHDOG_USEC", "600000", "WATCHDOG_PID", strconv.Itoa(os.Getpid())))
	if n.Every() != 200*time.Millisecond {
		t.Errorf("every %s", n.Every())
	}
	n.Alive("waiting\nWATCHDOG=trigger")
	if got := next(); got != "READY=1\nSTATUS=waiting WATCHDOG=trigger\nWATCHDOG=1" {
		t.Errorf("first: %q", got)
	}
	n.Alive("waiting\nWATCHDOG=trigger")
	if got := next(); got != "" {
		t.Errorf("the same again, too early for the watchdog: %q", got)
	}
	n.Alive("on")
	if got := next(); !strings.HasPrefix(got, "STATUS=on") {
		t.Errorf("another status: %q", got)
	}
	done := n.Reloading()
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("reloading: %q", got)
	}
	done()
	if got := next(); got != "READY=1" {
		t.Errorf("reloaded: %q", got)
	}
	n.Stopping(40 * time.Second)
	if got := next(); got != "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=40000000" {
		t.Errorf("stopping: %q", got)
	}
}

// What could not be sent is sent with the next call.
func TestNotifierTriesAgain(t *testing.T) {
	t.Parallel()
	path, _ := receiver(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	n := NewNotifier(environ("NOTIFY_SOCKET", path))
	n.Alive("on")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	n.Alive("on")
	buf := make([]byte, 64)
	if k, _, err := conn.ReadFrom(buf); err != nil || string(buf[:k]) != "READY=1\nSTATUS=on" {
		t.Errorf("%q, %v", buf[:k], err)
	}
}

func TestNobodyToNotify(t *testing.T) {
	t.Parallel()
	n := NewNotifier(environ())
	n.Alive("on")
	n.Reloading()()
	n.Stopping(time.Second)
	if n.Every() != 0 {
		t.Error("there is a watchdog")
	}
	other := NewNotifier(environ("NOTIFY_SOCKET", "@nobody", "WATCHDOG_USEC", "1", "WATCHDOG_PID", "1"))
	if other.Every() != 0 {
		t.Error("the watchdog of another process is ours")
	}
}

// A loop that calls at each Every feeds the watchdog in time, one that calls
// more often does not send more for it.
func TestWatchdogIsFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		path := filepath.Join(t.TempDir(), "s")
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Fatal(err)
		}
		n := NewNotifier(environ("NOTIFY_SOCKET", path, "WATCHDOG_USEC", "30000000"))
		fed := 0
		for range 60 {
			n.Alive("on")
			time.Sleep(time.Second)
			buf := make([]byte, 256)
			for {
				k, _, err := unix.Recvfrom(fd, buf, 0)
				if err != nil {
					break
				}
				fed += strings.Count(string(buf[:k]), "WATCHDOG=1")
			}
		}
		if fed != 12 {
			t.Errorf("fed %d times in a minute, want each 5 s", fed)
		}
	})
}

func TestJournal(t *testing.T) {
	t.Parallel()
	path, next := receiver(t)
	var other bytes.Buffer
	log := slog.New(NewJournal(JournalOptions{
		Socket: path, Identifier: "listener", Prefix: "LISTENER_", Names: map[string]string{"run": "LISTENER_RUN_ID"},
		Level: slog.LevelInfo, Else: slog.NewTextHandler(&other, nil),
	}))
	log.Debug("too low")
	log.With("node", "web 1").WithGroup("g").Warn("a run", "run", "other")
	want := "LISTENER_NODE=web 1\nLISTENER_G_RUN=other\nPRIORITY=4\nSYSLOG_IDENTIFIER=listener\n" +
		"MESSAGE=a run node=\"web 1\" g.run=other\n"
	if got := next(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	log.Error("it failed", "event", "step failed", "run", "2026-1", "error", "two\nlines")
	want = "LISTENER_EVENT=step failed\nLISTENER_RUN_ID=2026-1\nLISTENER_ERROR\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n" +
		"PRIORITY=3\nSYSLOG_IDENTIFIER=listener\nMESSAGE=it failed run=2026-1 error=\"two\\nlines\"\n"
	if got := next(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if other.Len() > 0 {
		t.Errorf("the other handler got %q", other.String())
	}
	log.Info(strings.Repeat("long ", 1<<20))
	if got := next(); len(got) < 1000 {
		t.Errorf("a long line: %d bytes", len(got))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	log.Info("nobody there", "n", 1)
	if got := other.String(); !strings.Contains(got, `msg="nobody there" n=1`) {
		t.Errorf("without a journal: %q", got)
	}
}

func TestIsJournal(t *testing.T) {
	t.Parallel()
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "1": false,
	} {
		if got := IsJournal(f, environ("JOURNAL_STREAM", stream)); got != want {
			t.Errorf("%q: %v", stream, got)
		}
	}
}

// The test binary is started again with a socket as descriptor 3, as systemd does.
func TestListener(t *testing.T) {
	t.Parallel()
	if ln, err := Listener(environ("LISTEN_FDS", "1", "LISTEN_PID", "1")); ln != nil || err != nil {
		t.Errorf("a socket for another process: %v, %v", ln, err)
	}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestListenerChild$' -test.v`, os.Args[0])
	c.Env = append(os.Environ(), "LISTEN_FDS=1", "SYSTEMD_TEST_CHILD="+path)
	c.ExtraFiles = []*os.File{f}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the child removed the socket:", err)
	}
}

func TestListenerChild(t *testing.T) {
	path := os.Getenv("SYSTEMD_TEST_CHILD")
	if path == "" {
		t.Skip("only as child of TestListener")
	}
	ln, err := Listener(os.Getenv)
	if err != nil || ln == nil || ln.Addr().String() != path {
		t.Fatal(ln, err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}

func TestNotShuttingDownWithoutSystemd(t *testing.T) {
	t.Parallel()
	if Booted() {
		t.Skip("systemd runs here")
	}
	if ShuttingDown(t.Context()) {
		t.Error("the machine is said to go down")
	}
}
