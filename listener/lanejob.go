package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/render"
)

// laneJob is one update of a balancer, a snapshot.
type laneJob struct {
	cfg     config.Balancer
	haproxy balancer.HAProxy
	runtime *balancer.Runtime
	old     *balancer.Plan // what the running one was told; nil: not known
	plan    *balancer.Plan
	text    []byte // the file; of a template, made by run
	stands  bool   // the file on disk was accepted by the balancer

	template string // its text, if the engine is one
}

// laneResult is how an update ended.
type laneResult struct {
	err     error
	reload  string // why the balancer read its file again; "": it did not have to
	changes int    // made over the runtime socket
	pending int    // servers to sweep
	written bool
	file    []byte
}

func (r laneResult) text() string {
	switch {
	case r.reload != "":
		return "reloaded: " + r.reload
	case r.changes == 1:
		return "1 change over the runtime socket"
	case r.changes > 0:
		return fmt.Sprintf("%d changes over the runtime socket", r.changes)
	case r.written:
		return "file written"
	}
	return "as it should be"
}

// reloadTime is how long a reload command may take.
const reloadTime = time.Minute

// run writes the file and makes the balancer follow it. Where the servers of
// backends are all that differs, the running one is told at once and the file
// is checked afterwards, since a check takes longer than everything else; a
// file that fails it is taken back.
func (j *laneJob) run(ctx context.Context) (res laneResult) {
	if j.cfg.Engine != engineHAProxy {
		if err := j.render(ctx); err != nil {
			return laneResult{err: err}
		}
	}
	defer func() { res.file = j.text }()
	file := render.File{Path: j.cfg.Path, Data: j.text, Mode: laneMode, UID: -1, GID: -1, Check: j.cfg.Check}
	if j.runtime != nil && j.old != nil && j.stands && j.haproxy.SameShape(j.old, j.plan) {
		res, ok := j.tell(ctx, file)
		if ok || res.err != nil {
			return res
		}
	}
	set, err := render.Stage(ctx, []render.File{file})
	if err != nil {
		return laneResult{err: err}
	}
	written, err := set.Swap()
	if err == nil {
		err = set.Sync()
	}
	res = laneResult{err: err, written: len(written) > 0, reload: "the file changed"}
	if err != nil {
		return res
	}
	if !res.written {
		res.reload = "it is not known whether it read its file"
		if res.err = render.CheckNow(ctx, file); res.err != nil { // nor whether who wrote it came to check it
			return res
		}
	}
	if res.err = j.reload(ctx); len(j.cfg.Reload) == 0 {
		res.reload = ""
	}
	return res
}

// render makes the file by the template.
func (j *laneJob) render(ctx context.Context) error {
	t, err := balancer.NewTemplate(j.cfg.Engine, j.template)
	if err == nil {
		j.text, err = t.Render(ctx, j.plan)
	}
	return err
}

// How a reload is made sure of: HAProxy's master drops the signal while it is
// still at the one before, and answers nothing when the new process fails.
const (
	reloadLook = 50 * time.Millisecond
	reloadWait = 3 * time.Second
	reloads    = 3
)

// tell changes servers over the runtime socket; ok is false when the balancer
// has to read its file after all.
func (j *laneJob) tell(ctx context.Context, file render.File) (res laneResult, ok bool) {
	before, err := os.ReadFile(file.Path)
	if err != nil {
		return laneResult{}, false
	}
	checked := file
	file.Check = nil
	set, err := render.Stage(ctx, []render.File{file})
	if err != nil {
		return laneResult{err: err}, false
	}
	if _, err := set.Swap(); err != nil {
		return laneResult{err: err}, false
	}
	out := j.runtime.Apply(ctx, j.old, j.plan)
	if err := render.CheckNow(ctx, checked); err != nil {
		file.Data = before
		// Also when the agent stops: what is in place was accepted.
		if back, backErr := render.Stage(context.WithoutCancel(ctx), []render.File{file}); backErr == nil {
			_, backErr = back.Swap()
			err = errors.Join(err, backErr)
		}
		return laneResult{err: err}, false
	}
	if out.Reload != "" {
		err := errors.Join(set.Sync(), j.reload(ctx))
		return laneResult{err: err, reload: out.Reload, changes: out.Changes, written: true}, true
	}
	return laneResult{err: set.Sync(), changes: out.Changes, pending: len(out.Pending), written: true}, true
}

// reload runs the reload command, and where there is a runtime socket makes
// sure that the balancer does what the plan says.
func (j *laneJob) reload(ctx context.Context) error {
	if len(j.cfg.Reload) == 0 {
		return nil
	}
	for i := range reloads {
		if err := j.reloadOnce(ctx); err != nil || j.runtime == nil {
			return err
		}
		why := j.followed(ctx)
		switch {
		case why == "":
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case i == reloads-1:
			return fmt.Errorf("reload with %q: it succeeded, but the balancer does not do what its file says: %s; its own log may say why", strings.Join(j.cfg.Reload, " "), why)
		}
	}
	return nil
}

// followed waits until the running balancer does what the plan says; else why not.
func (j *laneJob) followed(ctx context.Context) (why string) {
	look := time.NewTicker(reloadLook)
	defer look.Stop()
	for until := time.Now().Add(reloadWait); ; {
		if why = j.runtime.Apply(ctx, j.plan, j.plan).Reload; why == "" || time.Now().After(until) {
			return why
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err().Error()
		}
	}
}

func (j *laneJob) reloadOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, j.cfg.Reload[0], j.cfg.Reload[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		err = nil // it left something running that holds its output
	}
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(string(out[:min(len(out), 500)])), " ")
	if text != "" {
		text = ": " + text
	}
	return fmt.Errorf("reload with %q: %w%s", strings.Join(j.cfg.Reload, " "), err, text)
}

// readTemplate reads a template file, bounded. The loop calls it: what is no
// file, such as a named pipe, must not make it wait.
func readTemplate(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("balancer template: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("balancer template: %s is not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, balancer.MaxTemplate+1))
	if err != nil {
		return "", fmt.Errorf("balancer template: %w", err)
	}
	return string(data), nil
}

// lookupUser reports whether the machine has a user of that name, and we may
// let others become it.
func lookupUser(name string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	_, err := user.Lookup(name)
	return err == nil
}
