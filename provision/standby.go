package provision

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/listener-agent/listener/provision/supervisor"
)

const termSignal = syscall.SIGTERM

// handle is a supervisor process that we started: our child, or in a unit.
type handle struct {
	proc *os.Process // nil: it is in a unit
	unit string      // "": it is our child
	// jobs is the writing end of a child's standard input; closing it ends a standby.
	jobs *os.File
	// status is the reading end of its output; watch owns it but for Close.
	status *os.File
	// messages are those of the present job; guarded by Provisioner.mu. Closed
	// when the supervisor has ended, or at Close.
	messages chan message
	// said collects lines that are no messages, such as a panic, at most 2 KiB;
	// written by watch before it closes messages.
	said string
	// cancelled is guarded by Provisioner.mu.
	cancelled bool
}

// term asks the supervisor to cancel its step.
func (h *handle) term() error {
	if h.proc == nil {
		return killUnit(h.unit)
	}
	return h.proc.Signal(termSignal)
}

type message struct {
	word supervisor.Word
	rest string
}

// Warm starts a standby supervisor if there is none, so that the next Run need
// not wait for a process to start; not for units, where systemd starts it. It
// returns at once and reports nothing: a standby that cannot be started is an
// error of the next Run.
func (p *Provisioner) Warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.Units || p.closed || p.standby != nil || p.warming {
		return
	}
	p.warming = true
	p.wg.Go(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.warming = false
		if !p.closed && p.standby == nil {
			p.standby, _ = p.startLocked()
		}
	})
}

// pass gives a message to whom follows the job, and makes a supervisor whose
// step has ended without a trace the standby.
func (p *Provisioner) pass(h *handle, m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.messages <- m // never blocks: there are three in a job at most
	if m.word != supervisor.Recorded {
		return
	}
	p.forgetLocked(h)
	if m.rest != supervisor.AsStandby {
		return
	}
	// After a cancel a late signal might hit the next step.
	if p.standby == nil && !p.closed && !h.cancelled {
		p.standby = h
		return
	}
	_ = h.jobs.Close()
}

func (p *Provisioner) forgetLocked(h *handle) {
	for ref, r := range p.running {
		if r == h {
			delete(p.running, ref)
		}
	}
}

// Close ends the standby and stops following running steps; these go on. A Run
// that is waiting returns ErrClosed. It blocks until all goroutines have ended.
func (p *Provisioner) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.standby != nil {
		_ = p.standby.jobs.Close()
		p.standby = nil
	}
	for h := range p.handles {
		_ = h.jobs.Close()
		_ = h.status.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// hand gives the job at path to a supervisor and returns the messages of that job.
func (p *Provisioner) hand(ref Ref, path string) (*handle, <-chan message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosed
	}
	var err error
	for range 2 { // the standby may have been killed just now
		h := p.standby
		p.standby = nil
		if h == nil {
			if h, err = p.startLocked(); err != nil {
				return nil, nil, err
			}
		}
		messages := make(chan message, 8)
		h.messages = messages
		if _, err = h.jobs.WriteString(path + "\n"); err == nil {
			p.running[ref] = h
			return h, messages, nil
		}
		_ = h.jobs.Close()
	}
	return nil, nil, fmt.Errorf("provision: hand over the job: %w", err)
}

// startLocked starts a standby: nothing in its arguments or environment, in a
// session of its own so that a terminal's Ctrl-C does not reach it.
func (p *Provisioner) startLocked() (*handle, error) {
	jobsR, jobsW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("provision: start a supervisor: %w", err)
	}
	defer jobsR.Close()
	statusR, statusW, err := os.Pipe()
	if err != nil {
		_ = jobsW.Close()
		return nil, fmt.Errorf("provision: start a supervisor: %w", err)
	}
	defer statusW.Close()
	proc, err := os.StartProcess(p.o.Exe, []string{"listener", supervisor.Arg}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1"}, // it does one thing at a time; saves memory
		Files: []*os.File{jobsR, statusW, statusW},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = jobsW.Close()
		_ = statusR.Close()
		return nil, fmt.Errorf("provision: start a supervisor: %w", err)
	}
	h := &handle{proc: proc, jobs: jobsW, status: statusR, messages: make(chan message, 8)}
	p.handles[h] = true
	p.wg.Go(func() { p.watch(h) })
	return h, nil
}

// watch passes on what the supervisor says, and reaps it when it ends.
func (p *Provisioner) watch(h *handle) {
	var said strings.Builder
	lines := bufio.NewScanner(h.status)
	lines.Buffer(make([]byte, 0, 512), 64<<10)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch w := supervisor.Word(word); w {
		case supervisor.Started, supervisor.Recorded, supervisor.Unrecorded, supervisor.Busy, supervisor.Refused:
			p.pass(h, message{w, rest})
		default:
			if said.Len() < 2<<10 {
				said.WriteString(lines.Text() + "\n")
			}
		}
	}
	p.mu.Lock()
	closed := p.closed
	delete(p.handles, h)
	if p.standby == h {
		p.standby = nil
	}
	p.forgetLocked(h)
	p.mu.Unlock()
	_ = h.jobs.Close()
	_ = h.status.Close()
	switch {
	case h.proc == nil:
	case closed:
		_ = h.proc.Release() // it may live on; init reaps it after us
	default:
		_, _ = h.proc.Wait()
	}
	h.said = strings.TrimSpace(said.String())
	p.mu.Lock()
	close(h.messages)
	p.mu.Unlock()
}
