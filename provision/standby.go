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

// handle is a supervisor process that we started.
type handle struct {
	proc *os.Process
	// jobs is the writing end of its standard input; closing it ends a standby.
	jobs *os.File
	// status is the reading end of its output; watch owns it but for Close.
	status *os.File
	// messages is closed when the supervisor has ended, or at Close.
	messages chan message
	// said collects lines that are no messages, such as a panic, at most 2 KiB;
	// written by watch before it closes messages.
	said string
	// cancelled is guarded by Provisioner.mu.
	cancelled bool
}

type message struct {
	word supervisor.Word
	rest string
}

// Warm starts a standby supervisor if there is none, so that the next Run need
// not wait for a process to start. It returns at once and reports nothing: a
// standby that cannot be started is an error of the next Run.
func (p *Provisioner) Warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.standby != nil {
		return
	}
	p.wg.Go(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed && p.standby == nil {
			p.standby, _ = p.startLocked()
		}
	})
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

// hand gives the job at path to a supervisor.
func (p *Provisioner) hand(ref Ref, path string) (*handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	var err error
	for range 2 { // the standby may have been killed just now
		h := p.standby
		p.standby = nil
		if h == nil {
			if h, err = p.startLocked(); err != nil {
				return nil, err
			}
		}
		if _, err = h.jobs.WriteString(path + "\n"); err == nil {
			p.running[ref] = h
			return h, nil
		}
		_ = h.jobs.Close()
	}
	return nil, fmt.Errorf("provision: hand over the job: %w", err)
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
		case supervisor.Started, supervisor.Recorded, supervisor.Unrecorded, supervisor.Busy, supervisor.Gone:
			h.messages <- message{w, rest} // never blocks: a supervisor sends three at most
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
	for ref, r := range p.running {
		if r == h {
			delete(p.running, ref)
		}
	}
	p.mu.Unlock()
	_ = h.jobs.Close()
	_ = h.status.Close()
	if closed {
		_ = h.proc.Release() // it may live on; init reaps it after us
	} else {
		_, _ = h.proc.Wait()
	}
	h.said = strings.TrimSpace(said.String())
	close(h.messages)
}
