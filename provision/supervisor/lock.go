package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"
	"time"
)

// ErrLocked: another supervisor holds the lock, a step runs.
var ErrLocked = errors.New("another provision holds the lock")

// Lock is state_dir/provision.lock held by flock: whoever holds it is the only
// one on this node that runs a step or gives one up. The file is never removed.
type Lock struct{ fd int }

// LockPath is the lock file of a state directory.
func LockPath(stateDir string) string { return path.Join(stateDir, "provision.lock") }

// TryAcquire takes the lock or returns an error at once; ErrLocked when it is held.
func TryAcquire(stateDir string) (*Lock, error) { return tryLock(stateDir, syscall.LOCK_EX) }

// Held reports whether somebody holds the lock.
func Held(stateDir string) (bool, error) {
	// Shared, so that two who ask do not see each other.
	l, err := tryLock(stateDir, syscall.LOCK_SH)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	l.Release()
	return false, nil
}

func tryLock(stateDir string, how int) (*Lock, error) {
	path := LockPath(stateDir)
	for {
		// Close-on-exec: the command must not keep the lock.
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
		if err != nil { // read-only: flock needs no more, but on NFS
			if ro, roErr := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); roErr == nil {
				fd, err = ro, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("lock: %w", &os.PathError{Op: "open", Path: path, Err: err})
		}
		for err = syscall.EINTR; err == syscall.EINTR; {
			err = syscall.Flock(fd, how|syscall.LOCK_NB)
		}
		if err != nil {
			_ = syscall.Close(fd)
			if err == syscall.EWOULDBLOCK {
				return nil, fmt.Errorf("%s: %w", path, ErrLocked)
			}
			return nil, fmt.Errorf("lock: %w", &os.PathError{Op: "flock", Path: path, Err: err})
		}
		// Somebody may have removed the file by hand: a lock on a nameless
		// file keeps nobody out.
		var held, named syscall.Stat_t
		if syscall.Fstat(fd, &held) == nil && syscall.Stat(path, &named) == nil && held.Ino == named.Ino && held.Dev == named.Dev {
			return &Lock{fd: fd}, nil
		}
		_ = syscall.Close(fd)
	}
}

// Acquire waits for the lock until ctx ends; the error is then ErrLocked.
// Any other failure returns at once.
func Acquire(ctx context.Context, stateDir string) (*Lock, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		l, err := TryAcquire(stateDir)
		if err == nil || !errors.Is(err, ErrLocked) {
			return l, err
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// Release frees the lock, also for a child that was just forked and has not
// yet closed its copy.
func (l *Lock) Release() {
	_ = syscall.Flock(l.fd, syscall.LOCK_UN)
	_ = syscall.Close(l.fd)
}

// sleep waits for d and reports whether ctx was still alive at its end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
