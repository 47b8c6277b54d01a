package listener

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/listener-agent/listener/config"
)

// rescanEvery is the floor under the directory watch: events are hints, and
// some file systems send none.
const rescanEvery = 60 * time.Second

// watchQuiet lets an editor or a checkout finish before the files are read.
// watchMost bounds that, since anybody may write beside them all the time.
const (
	watchQuiet = 20 * time.Millisecond
	watchMost  = time.Second
)

// scanned is what fileWatch found changed.
type scanned struct {
	scan  scan
	attrs bool // the attributes files may have changed
}

// fileWatch reads manifests and attributes again when they may have changed.
type fileWatch struct {
	manifests, attributes []string
	sigs                  string
}

// newFileWatch knows the files as they are now: what is read afterwards is
// that or newer, and what changes later is seen.
func newFileWatch(c *config.Config) *fileWatch {
	w := &fileWatch{manifests: c.Manifests, attributes: c.Attributes}
	w.sigs = w.signature()
	return w
}

// startWatching starts the goroutine that watches the files.
func (a *Agent) startWatching(ctx context.Context, w *fileWatch) {
	var notify *fsnotify.Watcher
	if !a.opt.NoFileWatch {
		var err error
		if notify, err = fsnotify.NewWatcher(); err != nil {
			a.fault("file watch", err)
		}
	}
	ctx, a.stopWatching = context.WithCancel(ctx)
	a.wg.Go(func() { w.run(ctx, notify, a) })
}

func (w *fileWatch) run(ctx context.Context, notify *fsnotify.Watcher, a *Agent) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if notify != nil {
		defer notify.Close()
		events, errs = notify.Events, notify.Errors
	}
	w.add(notify)
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var first time.Time // of the events that quiet waits out
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			if first.IsZero() {
				first = time.Now()
			}
			quiet.Reset(min(watchQuiet, watchMost-time.Since(first)))
			continue
		case err := <-errs: // events were lost: what they told of is seen now
			a.log.Debug("file watch", "error", err)
			quiet.Reset(watchQuiet)
			continue
		case <-tick.C:
		case <-quiet.C:
		}
		first = time.Time{}
		w.add(notify) // a directory that appeared, or a symlink that points elsewhere now
		sig := w.signature()
		if sig == w.sigs {
			continue
		}
		w.sigs = sig
		select {
		case a.scans <- scanned{scan: readScan(w.manifests), attrs: true}:
		case <-ctx.Done():
			return
		}
	}
}

// add watches each directory, where it really is, and its parent, where a
// symlink to it would be swapped. Adding twice changes nothing; what cannot be
// watched is left to the rescan.
func (w *fileWatch) add(notify *fsnotify.Watcher) {
	if notify == nil {
		return
	}
	dirs := append([]string{}, w.manifests...)
	for _, f := range w.attributes {
		dirs = append(dirs, filepath.Dir(f))
	}
	for _, d := range dirs {
		_ = notify.Add(filepath.Dir(d))
		if real, err := filepath.EvalSymlinks(d); err == nil {
			_ = notify.Add(real)
			if real != d {
				_ = notify.Add(filepath.Dir(real))
			}
		}
	}
}

// signature differs when a file that matters was changed, added or removed;
// it costs a stat each instead of a read.
func (w *fileWatch) signature() string {
	var b strings.Builder
	stat := func(path string) {
		fi, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s %v\n", path, err)
			return
		}
		fmt.Fprintf(&b, "%s %v\n", path, sigOf(fi))
	}
	for _, d := range w.manifests {
		entries, err := os.ReadDir(d)
		if err != nil {
			fmt.Fprintf(&b, "%s %v\n", d, err)
		}
		for _, e := range entries {
			if name := e.Name(); strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, ".") {
				stat(filepath.Join(d, name))
			}
		}
	}
	for _, f := range w.attributes {
		stat(f)
	}
	return b.String()
}

// onScan takes what the files hold now.
func (a *Agent) onScan(s scanned) {
	a.takeScan(s.scan)
	if s.attrs {
		a.loadAttributes()
	}
}

// takeScan makes sc the manifests in force.
func (a *Agent) takeScan(sc scan) {
	if fed := a.federationFor(sc); fed != a.space.Federation {
		a.emit("federation", "this node belongs to federation "+fed+" now")
		a.enter(fed)
		a.table.staleAll()
		a.save()
	}
	if a.svcs.take(sc, a.space.Federation, time.Now()) {
		a.manifestsChanged()
	}
}

// manifestsChanged follows a change of the set in force.
func (a *Agent) manifestsChanged() {
	if diff := a.table.setManifests(a.svcs); diff != "" {
		a.emit("manifests", "manifests: "+diff)
	}
	a.forgetFailures()
	a.forgetChoices()
	if os.Geteuid() == 0 || a.saidOwners {
		return
	}
	for _, id := range a.table.ids {
		if m := a.table.rows[id].m; m.User != "" || m.Group != "" {
			a.saidOwners = true
			a.emit("owners ignored", "the agent is not root: user and group of manifests are ignored")
			return
		}
	}
}

// removals counts manifests that stayed away as removed.
func (a *Agent) removals() {
	left, waiting := a.svcs.removalIn(time.Now())
	if !waiting {
		return
	}
	if left > 0 {
		a.timers.in(left)
		return
	}
	a.takeScan(readScan(a.cfg.Manifests))
}
