package listener

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// writer does, in one goroutine and in order, what must not stand between an
// event and a command: fsyncs, the replica, copies of manifests.
type writer struct {
	fault func(name string, err error)
	wake  chan struct{}

	mu     sync.Mutex // guards following
	jobs   []writeJob
	paths  map[string]bool // to fsync
	failed map[string]bool
}

type writeJob struct {
	name string
	do   func() error
}

// syncDelay lets a burst of writes share one fsync, and lets the command that
// a write belongs to start first.
const syncDelay = 200 * time.Millisecond

func newWriter(fault func(string, error)) *writer {
	return &writer{fault: fault, wake: make(chan struct{}, 1), paths: map[string]bool{}, failed: map[string]bool{}}
}

// broken notes that what is called name does not work at present, so that its
// next success is told.
func (w *writer) broken(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[name] = true
}

// later queues do, in place of what is queued under name and did not run yet:
// do writes all that it would have. It does not block.
func (w *writer) later(name string, do func() error) {
	w.mu.Lock()
	w.jobs = slices.DeleteFunc(w.jobs, func(j writeJob) bool { return j.name == name })
	w.mu.Unlock()
	w.also(name, do)
}

// also queues do after what is queued under name. It does not block.
func (w *writer) also(name string, do func() error) {
	w.mu.Lock()
	w.jobs = append(w.jobs, writeJob{name, do})
	w.mu.Unlock()
	w.poke()
}

// sync queues an fsync of path and of its directory. It does not block.
func (w *writer) sync(path string) {
	w.mu.Lock()
	w.paths[path] = true
	w.mu.Unlock()
	w.poke()
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends and then does what is left.
func (w *writer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.work()
			return
		case <-w.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(syncDelay):
		}
		w.work()
	}
}

func (w *writer) work() {
	w.mu.Lock()
	jobs, paths := w.jobs, w.paths
	w.jobs, w.paths = nil, map[string]bool{}
	w.mu.Unlock()
	for _, j := range jobs {
		w.report(j.name, j.do())
	}
	dirs := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		fsync(p) // a file that is gone again needs none; a disk that fails is told by the next write
		dirs[filepath.Dir(p)] = true
	}
	for d := range dirs {
		fsync(d)
	}
}

// report tells a change from working to failing and back.
func (w *writer) report(name string, err error) {
	w.mu.Lock()
	failed := w.failed[name]
	w.failed[name] = err != nil
	w.mu.Unlock()
	if err != nil || failed {
		w.fault(name, err)
	}
}

func fsync(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = f.Sync()
}
