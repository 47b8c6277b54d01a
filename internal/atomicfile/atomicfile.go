// Package atomicfile replaces files whole: a reader of this node's files sees
// the old bytes or the new ones, with the right mode and owner, and never a
// part of either.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Temporary files are called ".listener-RANDOM.tmp": the dot and the suffix
// keep them out of loaders that glob *.conf, the prefix lets Sweep know its own.
const (
	tempPrefix = ".listener-"
	tempSuffix = ".tmp"
)

// sweepAge is how far from now a temporary file's time must be before Sweep
// takes it for a leftover of a crash.
const sweepAge = time.Minute

// ErrNotRegular says that a symlink, directory, device, socket or FIFO is where
// a file should be written. It is left alone.
var ErrNotRegular = errors.New("not a regular file")

// Temp is a complete file under a temporary name in its target's directory,
// with its final mode and owner. It holds no descriptor open, so that any
// number may be staged. End it with Commit or Discard.
type Temp struct {
	path, name string
	synced     bool // the data is on disk
	done       bool // committed or discarded
}

// Write replaces path by data. It creates the file if there is none; the mode
// does not depend on the umask; the owner is this process's. It does not wait
// for the disk: after a power loss the file may be the old one, or empty.
// Errors read "write PATH: cause" and wrap the cause.
func Write(path string, data []byte, mode fs.FileMode) error {
	t, err := create(path, data, mode, -1, -1, false)
	if err != nil {
		return err
	}
	return t.Commit()
}

// WriteSync is Write that returns when the disk has it: the file is synced
// before the rename, the directory after. It blocks for as long as the disk takes.
func WriteSync(path string, data []byte, mode fs.FileMode) error {
	t, err := create(path, data, mode, -1, -1, true)
	if err != nil {
		return err
	}
	if err := t.Commit(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// WriteNew writes a file that must not exist yet, mode 0600. It is in its place
// before it is complete: for files that nobody reads until told of them. It does
// not wait for the disk. On error nothing is left, unless that was there before.
func WriteNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return writeError(path, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
		return writeError(path, err)
	}
	return nil
}

// Create writes data beside path, readable by nobody else until owner and mode
// are set, in this order. uid and gid -1 leave that id alone. On error nothing
// is left behind. A target that is not a regular file is refused (ErrNotRegular).
func Create(path string, data []byte, mode fs.FileMode, uid, gid int) (*Temp, error) {
	if err := regular(path); err != nil {
		return nil, writeError(path, err)
	}
	return create(path, data, mode, uid, gid, false)
}

func create(path string, data []byte, mode fs.FileMode, uid, gid int, sync bool) (*Temp, error) {
	f, err := openTemp(filepath.Dir(path))
	if err != nil {
		return nil, writeError(path, err)
	}
	if err := fill(f, data, mode, uid, gid, sync); err != nil {
		os.Remove(f.Name())
		return nil, writeError(path, err)
	}
	return &Temp{path: path, name: f.Name(), synced: sync}, nil
}

// openTemp creates a file under a name of its own in dir.
func openTemp(dir string) (*os.File, error) {
	const tries = 100 // a name of 64 random bits is free at once, or something is wrong
	for i := 0; ; i++ {
		name := filepath.Join(dir, tempPrefix+strconv.FormatUint(rand.Uint64(), 16)+tempSuffix)
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil || !errors.Is(err, fs.ErrExist) || i == tries {
			return f, err
		}
	}
}

// fill writes f and closes it, also on error.
func fill(f *os.File, data []byte, mode fs.FileMode, uid, gid int, sync bool) (err error) {
	defer func() {
		// Some file systems report a full disk or quota only here.
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if uid != -1 || gid != -1 {
		if err := f.Chown(uid, gid); err != nil {
			return fmt.Errorf("change owner to %d:%d: %w", uid, gid, cause(err))
		}
	}
	// After the owner: a change of owner clears set-id bits.
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("change mode to %v: %w", mode, cause(err))
	}
	if sync {
		return f.Sync()
	}
	return nil
}

// Commit renames the temporary file onto its target. On error the temporary
// file is gone and the target is as it was. It does not wait for the disk.
func (t *Temp) Commit() error {
	if t.done {
		return writeError(t.path, fs.ErrClosed)
	}
	t.done = true
	err := regular(t.path)
	if err == nil {
		err = t.rename()
	}
	if err != nil {
		os.Remove(t.name)
		return writeError(t.path, err)
	}
	return nil
}

// rename puts the temporary file in the target's place. Where there is a target
// and nothing is on disk yet, the two change names and the old one goes:
// a plain rename onto a file makes ext4 (auto_da_alloc, ext4(5)) start writing the
// new one out first, which takes tenths of a millisecond that a run would wait for.
// What that is good for, callers of Sync get a moment later.
func (t *Temp) rename() error {
	if !t.synced {
		err := exchange(t.name, t.path)
		if err == nil {
			// The old file; should this fail, Sweep has it.
			if err := unix.Unlink(t.name); errors.Is(err, unix.EISDIR) {
				// A directory took the target's place just now: back with it.
				return errors.Join(regular(t.name), exchange(t.name, t.path))
			}
			return nil
		}
		// No target, or a kernel or file system that knows no exchange.
	}
	return os.Rename(t.name, t.path)
}

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// Discard removes the temporary file. After Commit or Discard it does nothing.
func (t *Temp) Discard() {
	if t.done {
		return
	}
	t.done = true
	os.Remove(t.name)
}

// Name is the path of the temporary file, for checks of the candidate.
func (t *Temp) Name() string { return t.name }

// Path is the path of the target.
func (t *Temp) Path() string { return t.path }

// Sync waits until the committed file and its directory are on disk.
func (t *Temp) Sync() error {
	if err := SyncFile(t.path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(t.path))
}

// SyncFile waits until the bytes of the file at path are on disk. A file that
// is not there any more needs nothing.
func SyncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return syncError(path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return syncError(path, err)
	}
	return nil
}

// SyncDir waits until the names in dir are on disk.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return syncError(dir, err)
	}
	defer f.Close()
	// File systems that cannot sync a directory say EINVAL (fsync(2)).
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return syncError(dir, err)
	}
	return nil
}

// Sweep removes from dir what a crash left there: files with a temporary name
// of this package whose time is more than a minute from now, past or future (a
// clock may have been set back). It goes by age alone: a process id in the name
// would be reused, is 1 in every container, and means nothing in another one's
// pid namespace. Should it ever take a live one, that Commit fails and its
// target stays as it was. A missing dir is clean.
func Sweep(dir string) error { return sweep(dir, sweepAge) }

// SweepOwn is Sweep for a directory in which only the caller writes files, and
// does not do so now: every temporary file in it is a leftover.
func SweepOwn(dir string) error { return sweep(dir, -1) }

func sweep(dir string, age time.Duration) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep %s: %w", dir, cause(err))
	}
	var errs []error
	for _, e := range entries {
		if !tempName(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()).Abs() <= age {
			continue // gone meanwhile, or young
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("sweep %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func tempName(name string) bool {
	s, ok := strings.CutPrefix(name, tempPrefix)
	if !ok {
		return false
	}
	s, ok = strings.CutSuffix(s, tempSuffix)
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(s, 16, 64)
	return err == nil
}

// regular reports whether path may be replaced: a regular file or nothing.
func regular(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("is a symbolic link: %w", ErrNotRegular)
	case info.IsDir():
		return fmt.Errorf("is a directory: %w", ErrNotRegular)
	case !info.Mode().IsRegular():
		return fmt.Errorf("is a special file: %w", ErrNotRegular)
	}
	return nil
}

func writeError(path string, err error) error { return fmt.Errorf("write %s: %w", path, cause(err)) }

func syncError(path string, err error) error { return fmt.Errorf("sync %s: %w", path, cause(err)) }

// cause strips the operation and the temporary name, which tell an operator nothing.
func cause(err error) error {
	switch e := err.(type) { //nolint:errorlint // only the outermost wrapper is stripped
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}
