package throttle

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestAddMakesNoNewFile: the file is written over where that leaves nothing
// of the old behind, and replaced where it would, or where it is not ours.
func TestAddMakesNoNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last_provision")
	r := mustOpen(t, path, now0, Settings{MinInterval: time.Second})
	now := now0
	add := func(k Kind) {
		t.Helper()
		now = after(now, time.Second)
		mustAdd(t, r, now, k)
		if got, want := readFile(t, path), string(r.encode()); got != want {
			t.Fatalf("file %q, want %q", got, want)
		}
	}
	add(Auto)
	first := inode(t, path)
	add(Auto)
	add(Manual) // longer
	if inode(t, path) != first {
		t.Error("a new file was made for as much text as before or more")
	}
	add(Auto) // shorter
	if err := os.WriteFile(path, []byte("somebody else's text, which is longer than that of the record that was there before it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	add(Auto)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	add(Auto)
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add(Auto)
	other := path + ".other"
	if err := os.Rename(path, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, other)
	if err := r.Add(after(now, time.Second), Auto); err == nil || readFile(t, other) != before {
		t.Errorf("a symlink was followed: %v", err)
	}
}
