package local

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// options are those of a test: quick to notice a file that was replaced.
func options(t testing.TB) Options {
	return Options{Path: filepath.Join(t.TempDir(), "store.db"), CheckEvery: 20 * time.Millisecond, NoSync: true}
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// cp does what the command does: it writes over the file that is there.
func cp(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, fileMode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// there waits until path exists.
func there(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func harness(t *testing.T) *storetest.Harness {
	o := options(t)
	h := &storetest.Harness{Store: open(t, o), Histories: true}
	h.Reopen = func(t *testing.T) store.Store {
		must(t, h.Store.Close())
		return open(t, o)
	}
	h.Wipe = func(t *testing.T) {
		there(t, o.Path) // after another wipe the store makes it anew
		must(t, os.Remove(o.Path))
	}
	h.Snapshot = func(t *testing.T) func(*testing.T) {
		backup := o.Path + ".backup"
		there(t, o.Path)
		cp(t, o.Path, backup)
		return func(t *testing.T) { cp(t, backup, o.Path) }
	}
	return h
}

func TestContract(t *testing.T) { storetest.Run(t, harness) }
