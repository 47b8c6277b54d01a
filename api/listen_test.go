package api_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/listener-agent/listener/api"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s")
	ln, err := api.Listen(path, 0o660, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := api.Listen(path, 0o660, ""); !errors.Is(err, api.ErrInUse) {
		t.Errorf("a live socket: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("the stale socket is not there:", err)
	}
	ln, err = api.Listen(path, 0o600, "")
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                                 "no socket is in the way",
		filepath.Join(file, "s"):             "not a directory",
		"/tmp/" + strings.Repeat("long", 30): "too long for a unix socket",
	} {
		if _, err := api.Listen(path, 0o600, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := api.Listen(filepath.Join(dir, "s"), 0o600, "no-such-group"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "s")); err == nil {
		t.Error("a refused socket was left behind")
	}
}

const orphanSocket = "LISTENER_TEST_ORPHAN"

// TestOrphanHelper is a process of TestListenAfterAKill: it listens, hands the
// socket to a process of its own, and is gone.
func TestOrphanHelper(t *testing.T) {
	path := os.Getenv(orphanSocket)
	if path == "" {
		t.Skip("left out: it is a process of TestListenAfterAKill")
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	heir := exec.Command("sleep", "1")
	heir.ExtraFiles = []*os.File{f}
	if err := heir.Start(); err != nil {
		t.Fatal(err)
	}
	os.Exit(0)
}

func TestListenAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead := exec.Command(os.Args[0], "-test.run", "^TestOrphanHelper$")
	// The race detector would sleep for a second in the process's exit.
	dead.Env = append(os.Environ(), orphanSocket+"="+path, "GORACE=atexit_sleep_ms=0")
	if out, err := dead.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Fatalf("the socket is gone already: %v", err)
	}
	ln, err := api.Listen(path, 0o600, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}
