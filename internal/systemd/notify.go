package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells systemd how the service is, see sd_notify(3). Its methods may
// be called from any goroutine; each takes 1 s at most. A nil one tells nobody.
type Notifier struct {
	to       *datagrams
	watchdog time.Duration

	mu     sync.Mutex // guards following
	ready  bool
	status string
	fed    time.Time
}

// NewNotifier is nil for a process that systemd does not listen to.
func NewNotifier(env Env) *Notifier {
	to := dialDatagrams(env("NOTIFY_SOCKET"))
	if to == nil {
		return nil
	}
	n := &Notifier{to: to}
	usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if pid := env("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Every is how often Alive has to be called at least; 0: no watchdog waits.
func (n *Notifier) Every() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog / 3 // two may be late
}

// Alive says that the service works, and in one line how. The first call says
// that it is ready. It may be called as often as one likes.
func (n *Notifier) Alive(status string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	if !n.ready {
		lines = append(lines, "READY=1")
	}
	if status != n.status || !n.ready {
		lines = append(lines, "STATUS="+oneLine(status))
	}
	if n.watchdog > 0 && time.Since(n.fed) >= n.watchdog/6 {
		lines = append(lines, "WATCHDOG=1")
	}
	if len(lines) == 0 || n.to.send([]byte(strings.Join(lines, "\n"))) != nil {
		return // tried again with the next call
	}
	n.ready, n.status, n.fed = true, status, time.Now()
}

// Reloading says that a reload begins; done has to be called at its end.
func (n *Notifier) Reloading() (done func()) {
	if n == nil {
		return func() {}
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	_ = n.to.send(fmt.Appendf(nil, "RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	return func() { _ = n.to.send([]byte("READY=1")) }
}

// Stopping says that the service stops, which may take as long as most.
func (n *Notifier) Stopping(most time.Duration) {
	if n == nil {
		return
	}
	_ = n.to.send(fmt.Appendf(nil, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%d", most.Microseconds()))
}

// oneLine keeps a text from being read as another assignment.
func oneLine(s string) string {
	const most = 500
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
