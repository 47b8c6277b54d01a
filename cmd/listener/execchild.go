package main

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/throttle"
	"golang.org/x/sys/unix"
)

// parent runs the command as a child and stays, fit to be process 1: it passes
// signals on and reaps every child, also those that others left to it. All of
// it is in run's goroutine, so that starting and reaping are never at once.
// The command is that of exec, or the agent itself.
type parent struct {
	a        *app
	o        execOptions
	signal   syscall.Signal // sent on change; 0: none
	throttle config.Throttle
	envs     chan status.Environment // of one: the newest

	pid     int // of the command, which leads its process group; 0: it ended
	code    int // of the command, once it ended
	group   int // whose rest is being ended before the command starts anew; 0: none
	started time.Time
	env     status.Environment  // the one it has, or was told of
	next    *status.Environment // a later one that waits
	first   time.Time           // change of those that next stands for
	last    time.Time

	restarting bool      // the command is being ended to be started anew
	stopping   bool      // somebody asked us to end
	killAt     time.Time // zero: never
	terminal   bool      // standard input is ours to hand over
}

// changed takes a later environment from any one goroutine; one that was not
// looked at yet is replaced.
func (p *parent) changed(env status.Environment) {
	select {
	case <-p.envs:
	default:
	}
	p.envs <- env
}

// look is how often what is left of an ended command is looked at.
const look = 50 * time.Millisecond

// run returns the command's exit code once it has ended for good.
func (p *parent) run(env status.Environment) (int, error) {
	// Orphans come to us also when we are not process 1; without, as before.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	signals := make(chan os.Signal, 128)
	signal.Notify(signals)
	defer signal.Stop(signals)
	p.terminal = ownsTerminal()
	if err := p.start(env); err != nil {
		return 0, err
	}
	for {
		timer := time.NewTimer(p.wait())
		select {
		case s := <-signals:
			p.onSignal(s.(syscall.Signal)) // on this system there are no others
		case env := <-p.envs:
			p.onEnvironment(env)
		case <-timer.C:
		}
		timer.Stop()
		if p.reap(); p.pid == 0 && (!p.restarting || p.stopping) {
			return p.code, nil
		}
		if err := p.advance(); err != nil {
			return 0, err
		}
	}
}

// ownsTerminal reports whether standard input is a terminal of which we are
// the foreground: then the command becomes that.
func ownsTerminal() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// start starts the command with env, in a process group of its own.
func (p *parent) start(env status.Environment) error {
	path, environ, err := p.a.command(p.o, env)
	if err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if p.terminal {
		attr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	pid, err := syscall.ForkExec(path, p.o.argv, &syscall.ProcAttr{Env: environ, Files: []uintptr{0, 1, 2}, Sys: attr})
	if err != nil {
		return cannotStart(p.o.argv[0], err)
	}
	p.pid, p.env, p.started = pid, env, time.Now()
	p.restarting, p.killAt = false, time.Time{}
	return nil
}

// onSignal passes a signal on. After SIGTERM the command has kill-after to end;
// 0: all the time it wants.
func (p *parent) onSignal(s syscall.Signal) {
	switch s {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // of ours: children, Go's scheduler, a note that nobody reads
		return
	case unix.SIGTERM:
		p.stopping = true
		if p.killAt.IsZero() && p.o.killAfter > 0 {
			p.killAt = time.Now().Add(p.o.killAfter)
		}
	}
	if p.pid != 0 {
		_ = unix.Kill(p.pid, s) // it may have ended just now
	}
}

// onEnvironment notes a later environment; one that is what the command has
// ends the wait.
func (p *parent) onEnvironment(env status.Environment) {
	if same(env, p.env) {
		p.next = nil
		return
	}
	now := time.Now()
	if p.next == nil {
		p.first = now
	}
	if p.next == nil || !same(env, *p.next) {
		p.last = now
	}
	p.next = &env
}

// due is how long until next is told to the command.
func (p *parent) due(now time.Time) time.Duration {
	s := throttle.Settings{Settle: p.throttle.Settle, SettleMax: p.throttle.SettleMax}
	settle := throttle.Settle(s, p.first.Sub(p.started), p.last.Sub(p.started), now.Sub(p.started))
	return max(settle, p.throttle.MinInterval-now.Sub(p.started))
}

// wait is how long run may sleep.
func (p *parent) wait() time.Duration {
	now, d := time.Now(), time.Hour
	if p.next != nil && !p.restarting && !p.stopping {
		d = min(d, p.due(now))
	}
	if !p.killAt.IsZero() {
		d = min(d, p.killAt.Sub(now))
	}
	if p.restarting && p.pid == 0 {
		d = min(d, look)
	}
	return max(d, 0)
}

// reap takes every child that has ended, and of the command how.
func (p *parent) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid != p.pid {
			continue
		}
		p.pid, p.code = 0, ws.ExitStatus()
		if ws.Signaled() {
			p.code = 128 + int(ws.Signal())
		}
		if p.restarting && !p.stopping {
			p.leftovers(pid)
		}
	}
}

// leftovers ends what the command left of its group, before it starts anew:
// such a process may hold a port. The number of the group stays taken as long
// as somebody is in it.
func (p *parent) leftovers(group int) {
	p.group = group
	if unix.Kill(-group, unix.SIGTERM) == nil {
		p.killAt = time.Now().Add(p.o.killAfter)
	}
}

// advance does what it is time for.
func (p *parent) advance() error {
	now := time.Now()
	if !p.killAt.IsZero() && !now.Before(p.killAt) {
		if group := max(p.pid, p.group); group > 0 { // 0 would be our own
			_ = unix.Kill(-group, unix.SIGKILL)
		}
		p.killAt = time.Time{}
	}
	switch {
	case p.restarting && p.pid == 0:
		if errors.Is(unix.Kill(-p.group, 0), unix.ESRCH) {
			p.group = 0
			return p.again()
		}
	case p.next == nil || p.restarting || p.stopping || p.due(now) > 0:
	case p.signal != 0:
		p.a.note("the environment changed (%s): sending %s", p.difference(), unix.SignalName(p.signal))
		p.env, p.next, p.started = *p.next, nil, now
		_ = unix.Kill(p.pid, p.signal)
	default:
		p.a.note("the environment changed (%s): restarting", p.difference())
		p.restarting, p.killAt = true, now.Add(p.o.killAfter)
		_ = unix.Kill(p.pid, unix.SIGTERM)
	}
	return nil
}

// again starts the command with the newest environment.
func (p *parent) again() error {
	env := p.env
	if p.next != nil {
		env = *p.next
	}
	p.next = nil
	return p.start(env)
}

// difference names the variables that changed.
func (p *parent) difference() string {
	var names []string
	for name, value := range p.next.Vars {
		if old, ok := p.env.Vars[name]; !ok || old != value {
			names = append(names, name)
		}
	}
	for name := range p.env.Vars {
		if _, ok := p.next.Vars[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
