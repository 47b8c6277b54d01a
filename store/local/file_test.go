package local

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
)

func TestOpenNew(t *testing.T) {
	o := options(t)
	s := open(t, o)
	info, err := os.Stat(o.Path)
	must(t, err)
	if info.Mode() != fileMode {
		t.Errorf("mode %v", info.Mode())
	}
	if _, rev, err := s.List(t.Context(), "/"); rev != firstRev || err != nil {
		t.Errorf("revision %d, %v", rev, err)
	}
	entries, err := os.ReadDir(filepath.Dir(o.Path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it: %v, %v", entries, err)
	}
}

func TestOpenLocked(t *testing.T) {
	o := options(t)
	s := open(t, o)
	o.Timeout = -1
	_, err := Open(o)
	if !errors.Is(err, ErrLocked) || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		t.Errorf("second Open: %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Path != o.Path || !strings.Contains(e.Hint, "agent") || !strings.Contains(err.Error(), o.Path) {
		t.Errorf("second Open: %#v", e)
	}
	if _, moved, err := OpenOrReset(o); moved != "" || !errors.Is(err, ErrLocked) {
		t.Errorf("OpenOrReset of a locked file: %q, %v", moved, err)
	}
	must(t, s.Close())
	open(t, o)
}

// Whoever comes first makes the file; nobody finds half of one.
func TestOpenTogether(t *testing.T) {
	o := options(t)
	o.Timeout = 10 * time.Second
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s, err := Open(o)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Commit(t.Context(), nil, store.Put(fmt.Sprintf("/k%d", i), nil)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if kvs, _, err := open(t, o).List(t.Context(), "/"); len(kvs) != 8 || err != nil {
		t.Errorf("%d keys of 8 processes, %v", len(kvs), err)
	}
}

// sample is the content of a sound file.
func sample(t *testing.T) []byte {
	t.Helper()
	o := options(t)
	s := open(t, o)
	x, err := s.Session(t.Context(), time.Hour, "")
	must(t, err)
	for i := 1; i <= 100; i++ {
		_, err := s.Commit(t.Context(), nil, store.PutSession(fmt.Sprintf("/k%d", i), bytes.Repeat([]byte{byte(i)}, 20*i), x), store.Delete(fmt.Sprintf("/k%d", i/2)))
		must(t, err)
	}
	must(t, s.Close())
	data, err := os.ReadFile(o.Path)
	must(t, err)
	return data
}

func otherDatabase(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other")
	db, err := bolt.Open(path, fileMode, nil)
	must(t, err)
	must(t, db.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func TestOpenDamaged(t *testing.T) {
	good := sample(t)
	page := os.Getpagesize()
	for name, data := range map[string][]byte{
		"empty":          {},
		"a byte":         {0},
		"text":           []byte(strings.Repeat("KEY = value\n", 3000)),
		"zeros":          make([]byte, len(good)),
		"cut short":      good[:3*page],
		"another's file": otherDatabase(t),
		"no data":        append(bytes.Clone(good[:2*page]), make([]byte, len(good)-2*page)...),
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			must(t, os.WriteFile(o.Path, data, fileMode))
			_, err := Open(o)
			var e *Error
			if !errors.Is(err, ErrCorrupt) || !errors.As(err, &e) || e.Path != o.Path || e.Hint == "" {
				t.Fatalf("Open: %v", err)
			}
			must(t, os.WriteFile(o.Path+".corrupt-1", nil, fileMode)) // from an earlier time
			s, moved, err := OpenOrReset(o)
			must(t, err)
			defer s.Close()
			if moved != o.Path+".corrupt-2" {
				t.Errorf("moved to %q", moved)
			}
			if kept, err := os.ReadFile(moved); err != nil || !bytes.Equal(kept, data) {
				t.Errorf("moved aside are %d bytes of %d, %v", len(kept), len(data), err)
			}
			_, err = s.Commit(t.Context(), nil, store.Put("/a", nil))
			must(t, err)
		})
	}
}

func TestOpenNewerFormat(t *testing.T) {
	o := options(t)
	must(t, open(t, o).Close())
	db, err := bolt.Open(o.Path, fileMode, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte("listener-store/2")) }))
	must(t, db.Close())
	s, moved, err := OpenOrReset(o)
	t.Cleanup(func() { must(t, s.Close()) })
	if moved != "" || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "listener-store/2") {
		t.Errorf("moved %q, %v", moved, err)
	}
}

func TestOpenImpossible(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"no directory": filepath.Join(dir, "none", "store.db"),
		"a directory":  dir,
	} {
		_, err := Open(Options{Path: path})
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A store that could not be opened comes by itself when it can be.
func TestOpenLater(t *testing.T) {
	o := options(t)
	o.Path = filepath.Join(filepath.Dir(o.Path), "later", "store.db")
	s, _, err := OpenOrReset(o)
	t.Cleanup(func() { must(t, s.Close()) })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("open in no directory: %v", err)
	}
	w := s.Watch(t.Context(), "/")
	if u := <-w; u.Kind != store.Lost || !errors.Is(u.Err, store.ErrUnavailable) {
		t.Errorf("first update: %v", u)
	}
	if _, err := s.Get(t.Context(), "/a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	must(t, os.Mkdir(filepath.Dir(o.Path), 0o700))
	if u := <-w; u.Kind != store.Reset {
		t.Errorf("second update: %v", u)
	}
	_, err = s.Commit(t.Context(), nil, store.Put("/a", nil))
	must(t, err)
}

// Damage anywhere in the file may lose values, but neither ends the process
// nor blocks it.
func TestDamageAnywhere(t *testing.T) {
	good := sample(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 150 {
		data := bytes.Clone(good)
		at := r.IntN(len(data))
		for i := range min(1+r.IntN(64), len(data)-at) {
			data[at+i] = byte(r.Uint32())
		}
		o := options(t)
		must(t, os.WriteFile(o.Path, data, fileMode))
		s, _, err := OpenOrReset(o)
		must(t, err)
		_, _, _ = s.List(t.Context(), "/")
		for range 10 {
			_, _ = s.Commit(t.Context(), nil, store.Put(fmt.Sprintf("/k%d", r.IntN(100)), data[at:][:1]), store.Delete(fmt.Sprintf("/k%d", r.IntN(100)+100)))
		}
		must(t, s.Close())
	}
}
