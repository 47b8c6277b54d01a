package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// next returns the next update of a watch.
func next(t *testing.T, w <-chan store.Update) store.Update {
	t.Helper()
	select {
	case u := <-w:
		return u
	case <-time.After(20 * time.Second):
		t.Fatal("the watch is silent")
		panic("unreachable")
	}
}

// reset returns the next Reset of a watch, and the causes of the Lost before.
func reset(t *testing.T, w <-chan store.Update) (u store.Update, causes []error) {
	t.Helper()
	for u = next(t, w); u.Kind != store.Reset; u = next(t, w) {
		if u.Err != nil {
			causes = append(causes, u.Err)
		}
	}
	return u, causes
}

func TestReplacedByRename(t *testing.T) {
	o := options(t)
	s := open(t, o)
	_, err := s.Commit(t.Context(), nil, store.Put("/a", []byte("old")))
	must(t, err)
	cp(t, o.Path, o.Path+".backup")
	w := s.Watch(t.Context(), "/")
	reset(t, w)
	rev, err := s.Commit(t.Context(), nil, store.Put("/a", []byte("new")), store.Put("/b", nil))
	must(t, err)
	must(t, os.Rename(o.Path+".backup", o.Path))
	u, _ := reset(t, w)
	if len(u.KVs) != 1 || string(u.KVs[0].Value) != "old" || u.Rev >= rev {
		t.Errorf("reset to %v", u)
	}
}

// An operation notices before the next check does.
func TestReplacedNoticedByOperation(t *testing.T) {
	for name, operate := range map[string]func(*Store) error{
		"get": func(s *Store) error {
			if _, err := s.Get(t.Context(), "/a"); !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("get: %w", err)
			}
			return nil
		},
		"commit": func(s *Store) error {
			rev, err := s.Commit(t.Context(), []store.Cond{{Key: "/a"}}, store.Put("/b", nil))
			if rev != firstRev+1 {
				err = errors.Join(err, fmt.Errorf("revision %d", rev))
			}
			return err
		},
		"session": func(s *Store) error {
			_, err := s.Session(t.Context(), time.Second, "")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.CheckEvery = time.Hour
			s := open(t, o)
			_, err := s.Commit(t.Context(), nil, store.Put("/a", nil))
			must(t, err)
			w := s.Watch(t.Context(), "/a")
			reset(t, w)
			must(t, os.Remove(o.Path))
			must(t, operate(s))
			if u, _ := reset(t, w); len(u.KVs) != 0 {
				t.Errorf("reset to %v", u)
			}
		})
	}
}

// A shell's "> store.db": the mapped pages are gone, reading them would fault.
func TestDamagedWhileOpen(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 0) },
		"cut":       func(path string) error { return os.Truncate(path, int64(2*os.Getpagesize())) },
		"garbage":   func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("garbage "), 9000), fileMode) },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			s := open(t, o)
			_, err := s.Commit(t.Context(), nil, store.Put("/a", make([]byte, 100000)))
			must(t, err)
			w := s.Watch(t.Context(), "/")
			reset(t, w)
			must(t, damage(o.Path))
			if u := next(t, w); u.Kind != store.Lost {
				t.Errorf("update of kind %d", u.Kind)
			}
			if _, err = s.Get(t.Context(), "/a"); !errors.Is(err, ErrCorrupt) {
				t.Errorf("get: %v", err)
			}
			if _, err = s.Commit(t.Context(), nil, store.Put("/a", nil)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("commit: %v", err)
			}
			must(t, os.Rename(o.Path, o.Path+".bad"))
			if u, _ := reset(t, w); len(u.KVs) != 0 {
				t.Errorf("reset to %v", u)
			}
			_, err = s.Commit(t.Context(), nil, store.Put("/a", nil))
			must(t, err)
		})
	}
}

// Reading a page that is not there any more ends the read, not the process.
func TestFaultWhileReading(t *testing.T) {
	o := options(t)
	f, err := openFile(Options{Path: o.Path, Timeout: time.Second, NoSync: true})
	must(t, err)
	must(t, os.Truncate(o.Path, 0))
	if err := f.view(verify); !errors.Is(err, ErrCorrupt) {
		t.Errorf("view: %v", err)
	}
	if err := f.view(verify); !errors.Is(err, ErrCorrupt) {
		t.Errorf("second view: %v", err)
	}
	f.close()
	must(t, os.Remove(o.Path))
	open(t, o)
}

func TestFileMayNotGrow(t *testing.T) {
	o := options(t)
	o.maxSize = 128 << 10
	testFull(t, o, func() func() { return func() {} })
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	mountTmpfs(t, dir, "size=512k")
	filler := filepath.Join(dir, "filler")
	fill := func() func() {
		// WriteFile fails, when there is not a byte left.
		if os.WriteFile(filler, make([]byte, 1<<20), fileMode) == nil {
			t.Fatal("the disk is larger than it should be")
		}
		return func() { must(t, os.Remove(filler)) }
	}
	o := options(t)
	o.Path = filepath.Join(dir, "store.db")
	testFull(t, o, fill)

	free := fill()
	defer free()
	o.Path = filepath.Join(dir, "another.db")
	if _, err := Open(o); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		t.Errorf("new store on a full disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*another.db*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// testFull fills a store and then goes on with it.
func testFull(t *testing.T, o Options, fill func() (free func())) {
	s := open(t, o)
	rev, err := s.Commit(t.Context(), nil, store.Put("/a", []byte("1")), store.Put("/big", make([]byte, 40<<10)))
	must(t, err)
	w := s.Watch(t.Context(), "/")
	reset(t, w)
	free := fill()
	_, err = s.Commit(t.Context(), nil, store.Put("/a", []byte("2")), store.Put("/huge", make([]byte, 900<<10)))
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("commit to a full store: %v", err)
	}
	if kv, err := s.Get(t.Context(), "/a"); err != nil || string(kv.Value) != "1" || kv.Rev != rev {
		t.Errorf("get: %q at %d, %v", kv.Value, kv.Rev, err)
	}
	free()
	after, err := s.Commit(t.Context(), nil, store.Put("/a", []byte("3")), store.Delete("/big"))
	if err != nil || after != rev+1 {
		t.Fatalf("commit with space again: %d, %v", after, err)
	}
	if u := next(t, w); u.Kind != store.Change || len(u.KVs) != 1 || string(u.KVs[0].Value) != "3" {
		t.Errorf("update %v", u)
	}
	must(t, s.Close())
	if kv, err := open(t, o).Get(t.Context(), "/a"); err != nil || string(kv.Value) != "3" {
		t.Errorf("reopened: %q, %v", kv.Value, err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	mountTmpfs(t, dir, "")
	o := options(t)
	o.Path = filepath.Join(dir, "store.db")
	s := open(t, o)
	_, err := s.Commit(t.Context(), nil, store.Put("/a", []byte("1")))
	must(t, err)
	must(t, s.Close())
	remount(t, dir, syscall.MS_RDONLY)
	s, _, err = OpenOrReset(o)
	t.Cleanup(func() { must(t, s.Close()) })
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
	_, err = s.Commit(t.Context(), nil, store.Put("/a", nil))
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit: %v", err)
	}
	remount(t, dir, 0)
	if kv, err := s.Get(t.Context(), "/a"); err != nil || string(kv.Value) != "1" {
		t.Errorf("writable again: %q, %v", kv.Value, err)
	}
}

// Sessions that expire while the file is away do so when it is back.
func TestExpiryWhileAway(t *testing.T) {
	o := options(t)
	dir := filepath.Join(filepath.Dir(o.Path), "dir")
	must(t, os.Mkdir(dir, 0o700))
	o.Path = filepath.Join(dir, "store.db")
	s := open(t, o)
	x, err := s.Session(t.Context(), time.Second, "")
	must(t, err)
	_, err = s.Commit(t.Context(), nil, store.PutSession("/a", nil, x))
	must(t, err)
	x.Orphan()
	must(t, os.Rename(dir, dir+".away"))
	// The only one to notice is the timer of the session.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.fileMu.RLock()
		away := s.file == nil
		s.fileMu.RUnlock()
		if away {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the store did not notice that its file is away")
		}
	}
	must(t, os.Rename(dir+".away", dir))
	w := s.Watch(t.Context(), "/a")
	if u, _ := reset(t, w); len(u.KVs) != 1 {
		t.Fatalf("back: %v", u)
	}
	if u := next(t, w); len(u.Gone) != 1 || !u.Gone[0].Expired {
		t.Errorf("update %v", u)
	}
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""))
}

// Our own writes change the file as well: they must not look like another's.
func TestReadWhileWriting(t *testing.T) {
	o := options(t)
	o.CheckEvery = time.Millisecond
	s := open(t, o)
	_, err := s.Commit(t.Context(), nil, store.Put("/a", nil))
	must(t, err)
	w := s.Watch(t.Context(), "/")
	reset(t, w)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Get(t.Context(), "/a"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	const last = 1000
	for i := range last {
		_, err := s.Commit(t.Context(), nil, store.Put("/a", make([]byte, i)))
		must(t, err)
	}
	close(done)
	readers.Wait()
	for u := next(t, w); ; u = next(t, w) {
		if u.Kind != store.Change {
			t.Fatalf("update %v", u)
		}
		if len(u.KVs[0].Value) == last-1 {
			return
		}
	}
}
