package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const fileMode fs.FileMode = 0o600

var errReplaced = errors.New("the file was replaced, removed or changed by somebody else")

// file is one open bbolt file. Its methods return errors of the file system
// and ErrCorrupt, never a panic: bbolt panics on broken pages, and reading
// the mapped file faults when somebody has cut it short.
type file struct {
	path string
	db   *bolt.DB
	os   *os.File
	// seen is the file after the last write of our own, and writes counts
	// them, twice each: it is odd during one.
	seen   atomic.Pointer[fs.FileInfo]
	writes atomic.Uint64
	// broken: bbolt panicked and may hold its locks for ever.
	broken atomic.Bool
}

// openFile opens the file at o.Path, or makes one if there is none.
func openFile(o Options) (*file, error) {
	info, err := os.Stat(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(o); err != nil {
			return nil, unavailable(o.Path, err)
		}
		info, err = os.Stat(o.Path)
	}
	switch {
	case err != nil:
		return nil, unavailable(o.Path, err)
	case !info.Mode().IsRegular():
		return nil, &Error{Path: o.Path, Err: fmt.Errorf("%w: not a regular file", store.ErrUnavailable), Hint: "name a file, or a name that is free"}
	case info.Size() == 0:
		return nil, corrupt(o.Path, "it is empty")
	}
	f := &file{path: o.Path}
	if err := f.open(o); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *file) open(o Options) error {
	err := f.guard(func() (err error) {
		f.db, err = bolt.Open(o.Path, fileMode, &bolt.Options{
			Timeout:      o.Timeout,
			NoSync:       o.NoSync,
			NoStatistics: true,
			MaxSize:      o.maxSize,
			OpenFile: func(name string, flag int, mode fs.FileMode) (opened *os.File, err error) {
				// A new file comes by create alone, complete.
				f.os, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
				return f.os, err
			},
		})
		return err
	})
	if err != nil {
		return openError(o.Path, err)
	}
	if err := f.view(verify); err != nil {
		return err
	}
	return f.remember()
}

func openError(path string, err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(path)
	case errors.Is(err, ErrCorrupt), errors.As(err, &errno):
		return unavailable(path, err)
	default: // not the system's error: bbolt does not like what it read
		return corrupt(path, err.Error())
	}
}

// create makes a new file under another name and then links it to o.Path:
// whoever looks finds a whole store or none, also after a crash. When another
// process was faster its file stays.
func create(o Options) error {
	dir, base := filepath.Split(o.Path)
	tmp, err := os.CreateTemp(dir, "."+base+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(tmp.Name(), fileMode, &bolt.Options{Timeout: o.Timeout, NoSync: o.NoSync, NoStatistics: true})
	if err != nil {
		return err
	}
	err = db.Update(initialize)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), o.Path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(o)
}

func initialize(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketKeys, bucketSessions, bucketBound} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if err := tx.Bucket(bucketMeta).Put(keyFormat, []byte(format)); err != nil {
		return err
	}
	if err := tx.Bucket(bucketMeta).Put(keyHistory, []byte(rand.Text())); err != nil {
		return err
	}
	return writeRev(tx, firstRev)
}

func syncDir(o Options) error {
	if o.NoSync {
		return nil
	}
	d, err := os.Open(filepath.Dir(o.Path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// verify reads the whole file but long values, so that damage is found when
// it is opened, not in the middle of the work.
func verify(tx *bolt.Tx) error {
	path := tx.DB().Path()
	if info, err := os.Stat(path); err == nil && info.Size() < tx.Size() {
		return corrupt(path, "it is cut short")
	}
	for _, name := range [][]byte{bucketMeta, bucketKeys, bucketSessions, bucketBound} {
		if tx.Bucket(name) == nil {
			return corrupt(path, "it is not a listener store")
		}
	}
	if f := string(tx.Bucket(bucketMeta).Get(keyFormat)); f != format {
		// Not damage: whoever can read it must find it where it is.
		return &Error{Path: path, Err: fmt.Errorf("%w: format %q, want %q", store.ErrUnavailable, f, format), Hint: "was it written by a newer listener?"}
	}
	rev := readRev(tx)
	if rev < firstRev {
		return corrupt(path, "its revision is missing")
	}
	if _, err := readSessions(tx); err != nil {
		return corrupt(path, "sessions: "+err.Error())
	}
	return tx.Bucket(bucketKeys).ForEach(func(k, v []byte) error {
		r, err := decode(v)
		if err != nil || r.rev > rev || r.created > r.rev || r.created == 0 {
			return corrupt(path, fmt.Sprintf("key %q has no sound record", k))
		}
		return nil
	})
}

// guard runs fn, which uses the mapped file.
func (f *file) guard(fn func() error) (err error) {
	if f.broken.Load() {
		return corrupt(f.path, "reading it failed before")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			f.broken.Store(true)
			err = corrupt(f.path, fmt.Sprint(r))
		}
	}()
	return fn()
}

func (f *file) view(fn func(*bolt.Tx) error) error {
	return f.guard(func() error { return f.db.View(fn) })
}

// update runs a transaction that writes. One at a time.
func (f *file) update(fn func(*bolt.Tx) error) error {
	f.writes.Add(1)
	defer f.writes.Add(1)
	err := f.guard(func() error { return f.db.Update(fn) })
	if e := f.remember(); err == nil {
		err = e
	}
	return err
}

// remember takes the file as it is now for our own work.
func (f *file) remember() error {
	info, err := f.os.Stat()
	if err == nil {
		f.seen.Store(&info)
	}
	return err
}

// intact returns errReplaced when what is at the path is not what we wrote
// last: another file, none, or this one written to (cp does that). While we
// write ourselves it cannot tell, and returns nil.
func (f *file) intact() error {
	writes := f.writes.Load()
	if writes%2 == 1 {
		return nil
	}
	seen := *f.seen.Load()
	info, err := os.Stat(f.path)
	if err == nil && !f.broken.Load() && os.SameFile(info, seen) && info.Size() == seen.Size() && info.ModTime().Equal(seen.ModTime()) {
		return nil
	}
	if f.writes.Load() != writes {
		return nil
	}
	return unavailable(f.path, errReplaced)
}

// close gives the file and its lock back.
func (f *file) close() {
	if f.db != nil && !f.broken.Load() {
		_ = f.db.Close() // everything written was synced by its transaction
		return
	}
	if f.os != nil {
		// The mapping of a broken file is left behind, since bbolt's own
		// Close could wait for ever. It would keep the lock.
		_ = syscall.Flock(int(f.os.Fd()), syscall.LOCK_UN)
		_ = f.os.Close()
	}
}

// timeoutOr is what bbolt takes: there 0 is for ever.
func timeoutOr(d, otherwise time.Duration) time.Duration {
	switch {
	case d == 0:
		return otherwise
	case d < 0:
		return 1
	default:
		return d
	}
}
