// Package systemd is what the agent and the init of its machine tell each
// other: readiness and watchdog, log lines with fields, a socket that is there
// before the agent, and whether the machine is going down. Each is a documented
// interface of a few lines; where systemd is not, nothing happens.
package systemd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Env looks up a variable of the environment, "" when it is not set.
type Env func(name string) string

// Booted reports whether systemd is the init here, see sd_booted(3).
func Booted() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// sendWait bounds a datagram to somebody who does not read. It is short, as the
// agent's loop sends some of them.
const sendWait = time.Second

// datagrams sends to one unix datagram socket. It is never connected, so that
// it survives a restart of who listens there.
type datagrams struct {
	fd int
	to unix.SockaddrUnix
}

// dialDatagrams opens none for path "". A path that begins with @ is abstract,
// see unix(7).
func dialDatagrams(path string) *datagrams {
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	wait := unix.NsecToTimeval(int64(sendWait))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	return &datagrams{fd: fd, to: unix.SockaddrUnix{Name: path}}
}

func (d *datagrams) send(b []byte) error {
	for {
		if err := unix.Sendto(d.fd, b, unix.MSG_NOSIGNAL, &d.to); err != unix.EINTR { //nolint:errorlint // an errno
			return err
		}
	}
}

// Listener is the first socket that systemd passed to this process, nil for
// none; see sd_listen_fds(3).
func Listener(env Env) (net.Listener, error) {
	const first = 3 // SD_LISTEN_FDS_START
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 1 || env("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	for fd := first; fd < first+n; fd++ {
		unix.CloseOnExec(fd)
	}
	f := os.NewFile(first, "the socket of systemd")
	defer func() { _ = f.Close() }() // net has a copy
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that systemd passed: %w", err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("the socket that systemd passed is %s, not a unix socket", ln.Addr().Network())
	}
	u.SetUnlinkOnClose(false) // it is systemd's
	return u, nil
}

// askWait bounds the question whether the machine goes down.
const askWait = 5 * time.Second

// ShuttingDown reports whether the machine is going down or rebooting, which
// systemd knows as soon as that was asked for, before it stops anything. No
// answer within 5 s, and no systemd, is false.
func ShuttingDown(ctx context.Context) bool {
	if !Booted() {
		return false
	}
	ctx, stop := context.WithTimeout(ctx, askWait)
	defer stop()
	c := exec.CommandContext(ctx, "systemctl", "is-system-running")
	c.WaitDelay = time.Second
	out, _ := c.Output() // its exit code is 0 only for "running"
	return string(bytes.TrimSpace(out)) == "stopping"
}

// IsJournal reports whether f is connected to the journal: JOURNAL_STREAM
// names the stream by device and inode, see systemd.exec(5).
func IsJournal(f *os.File, env Env) bool {
	dev, ino, ok := strings.Cut(env("JOURNAL_STREAM"), ":")
	var st unix.Stat_t
	if !ok || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return dev == strconv.FormatUint(st.Dev, 10) && ino == strconv.FormatUint(st.Ino, 10)
}
