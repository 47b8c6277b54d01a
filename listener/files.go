package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/throttle"
)

// envPaths are where the environment of a service is written.
func (a *Agent) envPaths(id string) []string {
	var out []string
	for _, f := range a.cfg.Env.Formats {
		out = append(out, render.EnvPath(a.cfg.Env.Dir, id, f))
	}
	return out
}

// envFiles renders the environment of a service in every format. An owner
// that does not exist (yet) makes the file root's, 0600, and is reported.
func (a *Agent) envFiles(id string, vars map[string]string) ([]render.File, error) {
	list := make([]render.Var, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, render.Var{Name: name, Value: vars[name]})
	}
	uid, gid, mode := -1, -1, a.cfg.Env.Mode
	if r := a.table.rows[id]; r != nil && (r.m.User != "" || r.m.Group != "") && os.Geteuid() == 0 {
		u, g, err := render.Owner(r.m.User, r.m.Group)
		a.fault("owner of "+id, err)
		if err == nil {
			uid, gid = u, g
		} else {
			uid, gid, mode = 0, 0, 0o600
		}
	}
	files := make([]render.File, 0, len(a.cfg.Env.Formats))
	for _, format := range a.cfg.Env.Formats {
		data, err := render.Env(format, list)
		if err != nil {
			return nil, fmt.Errorf("environment of %s: %w", id, err)
		}
		files = append(files, render.File{
			Path: render.EnvPath(a.cfg.Env.Dir, id, format), Data: data, Mode: mode, UID: uid, GID: gid,
		})
	}
	return files, nil
}

// decideFiles puts files right that need no run: services that only declare,
// and files of services that are gone. It passes on, settle and own lock.
func (a *Agent) decideFiles(w *work, now throttle.Now) {
	if a.off.holds() || len(a.holders) > 0 {
		return
	}
	if g := a.settleGate(now); !g.open {
		a.timers.in(g.wait)
		return
	}
	if g := gateLock(a, w, throttle.Auto, now); !g.open {
		a.timers.in(g.wait)
		return
	}
	changed := a.writeFiles(w.files, now)
	changed = a.writeFiles(w.refile, now) || changed
	if !w.node {
		changed = a.removeLeft(w.left, now) || changed
	}
	if changed {
		a.save()
	}
	if !w.any() {
		a.pend = pending{}
	}
}

// writeFiles swaps in the files of services that only declare, or whose files
// alone changed; each stands for itself, so that one bad target spoils nothing else.
func (a *Agent) writeFiles(ids []string, now throttle.Now) (changed bool) {
	for _, id := range ids {
		c, due := a.table.candidate(id), a.table.due(id)
		if st := a.st.service(id); !due {
			c = candidate{Inputs: st.Applied, Good: st.Good, Files: a.envPaths(id)}
		}
		written, err := a.stageAndSwap(id, c)
		a.filesTried(id, err, now)
		if err != nil {
			continue
		}
		at := a.st.service(id).AppliedAt
		a.choose(id)
		a.apply(id, c)
		if changed = true; !due {
			a.st.edit(id).AppliedAt = at
		}
		if len(written) > 0 {
			a.emit("files written", "wrote "+shorten(written, 3), "service", id)
		}
	}
	return changed
}

// filesTry is a write or removal of files that failed.
type filesTry struct {
	work  string        // what was to be written
	next  time.Duration // Now.Up
	delay time.Duration
}

// filesTried notes how it went, and after a failure when to try again.
func (a *Agent) filesTried(id string, err error, now throttle.Now) {
	a.fault("files of "+id, err)
	if err == nil {
		delete(a.filesFailed, id)
		return
	}
	for _, path := range a.envPaths(id) {
		a.savedFiles.forget(path) // whatever was swapped, the check for drift looks
	}
	try := a.filesFailed[id]
	try.delay = throttle.Backoff{Base: a.cfg.Retry.Base, Max: a.cfg.Retry.Max}.Next(try.delay, a.rng)
	try.next, try.work = now.Up+try.delay, a.filesWork(id)
	a.filesFailed[id] = try
}

// filesWork identifies what would be written for id.
func (a *Agent) filesWork(id string) string {
	if a.table.rows[id] == nil {
		return ""
	}
	return a.ownWork(id)
}

// filesHeld reports whether the files of id were tried a moment ago and could
// not be written.
func (a *Agent) filesHeld(w *work, id string, now throttle.Now) bool {
	try, failed := a.filesFailed[id]
	if !failed || try.next <= now.Up || try.work != a.filesWork(id) {
		return false
	}
	if d := try.next - now.Up; w.filesHeld == 0 || d < w.filesHeld {
		w.filesHeld = d
	}
	return true
}

func (a *Agent) stageAndSwap(id string, c candidate) ([]string, error) {
	files, err := a.envFiles(id, c.Good.Vars)
	if err != nil {
		return nil, err
	}
	set, err := render.Stage(context.Background(), files)
	if err != nil {
		return nil, err
	}
	written, err := set.Swap()
	a.noteWritten(files, set)
	return written, err
}

// noteWritten queues the fsync of what was swapped and remembers how the files
// look, so that a later check costs a stat.
func (a *Agent) noteWritten(files []render.File, set *render.Set) {
	a.slow.also("sync files", set.Sync)
	for _, f := range files {
		a.savedFiles.note(f.Path)
	}
}

// removeLeft deletes the files of services that have no manifest any more.
func (a *Agent) removeLeft(ids []string, now throttle.Now) (removed bool) {
	for _, id := range ids {
		var errs []error
		for _, path := range a.st.Services[id].Files {
			errs = append(errs, removeFile(path))
			a.savedFiles.forget(path)
		}
		err := errors.Join(errs...)
		a.filesTried(id, err, now)
		if err == nil {
			a.fault("owner of "+id, nil)
			delete(a.st.Services, id)
			delete(a.st.Settled, id)
			delete(a.st.Failures, id)
			a.emit("service removed", "the environment of "+id+" is removed", "service", id)
			removed = true
		}
	}
	return removed
}

// removeFile removes a regular file; none there is fine.
func removeFile(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("remove %s: not a regular file", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err
}

// fileCache knows how files looked when the agent last wrote or checked them.
type fileCache struct{ sigs map[string]fileSig }

func newFileCache() *fileCache { return &fileCache{sigs: map[string]fileSig{}} }

// note remembers path as it is now.
func (c *fileCache) note(path string) {
	if fi, err := os.Lstat(path); err == nil {
		c.sigs[path] = sigOf(fi)
	} else {
		delete(c.sigs, path)
	}
}

func (c *fileCache) forget(path string) { delete(c.sigs, path) }

// same reports whether path looks exactly as when it was noted.
func (c *fileCache) same(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil {
		return false
	}
	sig := sigOf(fi)
	return sig != fileSig{} && sig == c.sigs[path]
}

// fileSig differs after any write, chmod, chown or replacement of a file.
type fileSig struct {
	dev, ino       uint64
	size           int64
	mode, uid, gid uint32
	mtime, ctime   syscall.Timespec
}

func sigOf(fi fs.FileInfo) fileSig {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileSig{}
	}
	return fileSig{uint64(st.Dev), st.Ino, st.Size, st.Mode, st.Uid, st.Gid, st.Mtim, st.Ctim}
}
