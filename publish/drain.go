package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/status"
)

// drain is StateDir/drain: an operator took the node out of service.
type drain struct {
	Who    string    `json:"who"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// leave is the end of the agent's part, which no file keeps: the next process
// publishes again.
type leave struct {
	since time.Time
	wait  time.Duration // from draining to left
	done  chan struct{} // closed when nothing of the node is left under the session
	undo  chan struct{} // closed when it is not wanted any more
}

func drainPath(dir string) string { return filepath.Join(dir, "drain") }

// loadDrain reads the file. One that is there but cannot be read or understood
// means drained: nobody asked for undrain.
func loadDrain(dir string) *drain {
	data, err := os.ReadFile(drainPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	d := drain{}
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		d = drain{Who: "unknown", Reason: "state_dir/drain cannot be read: " + err.Error()}
	}
	now := time.Now()
	if d.Since.After(now) { // a clock that was set back must not make it wait
		d.Since = now
	}
	if !d.Since.IsZero() { // nor one that is from here on
		d.Since = now.Add(d.Since.Sub(now))
	}
	return &d
}

// Drain takes the node out of service: what it has up is draining for
// DrainWait and then left; the node's record stays, with the state drained.
// It survives restarts and boots, until Undrain. A node that is drained keeps
// its who, reason and since.
//
// Without shutdown, Drain returns when the disk has it. With shutdown the
// machine goes down: nothing is kept for the next boot, the session is closed
// at the end, and Drain returns after that, or with ctx's error.
func (p *Publisher) Drain(ctx context.Context, who, reason string, shutdown bool) error {
	if shutdown {
		return p.leave(ctx, p.o.DrainWait)
	}
	p.files.Lock()
	defer p.files.Unlock()
	if p.draining() {
		return nil
	}
	d := &drain{Who: who, Reason: reason, Since: time.Now()}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // a struct of plain fields
	}
	if err := atomicfile.WriteSync(drainPath(p.o.StateDir), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	p.change(func(in *wanted) { in.drain = d })
	return nil
}

// Undrain ends a drain, and what Drain with shutdown or Withdraw began:
// the node publishes again, as its checks allow; changed is false when there
// was no drain. It returns when the disk has it.
func (p *Publisher) Undrain(context.Context) (changed bool, err error) {
	p.files.Lock()
	defer p.files.Unlock()
	changed = p.draining()
	err = os.Remove(drainPath(p.o.StateDir))
	if err == nil {
		err = atomicfile.SyncDir(p.o.StateDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("undrain: %w", err)
	}
	p.change(func(in *wanted) {
		if in.leave != nil {
			close(in.leave.undo)
		}
		in.drain, in.leave = nil, nil
	})
	return changed, nil
}

// Withdraw makes all entries left at once and closes the session. It returns
// after that, or with ctx's error; it goes on trying until Run ends.
func (p *Publisher) Withdraw(ctx context.Context) error { return p.leave(ctx, 0) }

func (p *Publisher) leave(ctx context.Context, wait time.Duration) error {
	var l *leave
	p.change(func(in *wanted) {
		if in.leave == nil {
			in.leave = &leave{since: time.Now(), done: make(chan struct{}), undo: make(chan struct{})}
		}
		l = &leave{since: in.leave.since, wait: wait, done: in.leave.done, undo: in.leave.undo}
		in.leave = l // another value: Run's goroutine may be reading the last one
	})
	select {
	case <-l.done:
		return nil
	case <-l.undo:
		return errors.New("withdraw: undrained meanwhile")
	case <-ctx.Done():
		return fmt.Errorf("withdraw: %w", ctx.Err())
	}
}

func (p *Publisher) draining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.drain != nil
}

// phase is how far the node is out of service.
type phase int

const (
	serving phase = iota
	draining
	leaving
)

// phase returns when it changes by itself, too; zero: it does not.
func (w *wanted) phase(drainWait time.Duration, now time.Time) (phase, time.Time) {
	if w.drain == nil && w.leave == nil {
		return serving, time.Time{}
	}
	var until time.Time
	if w.drain != nil {
		until = w.drain.Since.Add(drainWait)
	}
	if w.leave != nil {
		if end := w.leave.since.Add(w.leave.wait); until.IsZero() || end.Before(until) {
			until = end
		}
	}
	if now.Before(until) {
		return draining, until
	}
	return leaving, time.Time{}
}

// status of a drain; done: all entries are withdrawn.
func (d *drain) status(wait time.Duration, now time.Time, done bool) *status.Drain {
	if d == nil {
		return nil
	}
	s := &status.Drain{Who: d.Who, Reason: d.Reason, Since: d.Since, State: "leaving"}
	switch until := d.Since.Add(wait); {
	case now.Before(until):
		s.State, s.Until = "draining", until
	case done:
		s.State = "drained"
	}
	return s
}
