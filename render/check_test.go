package render

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func checked(path, data string, argv ...string) File {
	f := file(path, data)
	f.Check = argv
	return f
}

func TestCheckSeesTheCandidate(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	a := checked(filepath.Join(dir, "a.cfg"), "new", "sh", "-c", `stat -c %a "$1" >>"$2"; cat "${4#--config=}" >>"$2"; test ! -e "$3"`, "sh", "{path}", log, filepath.Join(dir, "a.cfg"), "--config={path}")
	write(t, a)
	wantTree(t, "checked", dir, map[string]string{"a.cfg": "0640 new", "log": "0644 640\nnew"})
	if got := write(t, a); got != nil {
		t.Errorf("written again: %q", got)
	}
	wantTree(t, "a file that does not differ is not checked again", dir, map[string]string{"a.cfg": "0640 new", "log": "0644 640\nnew"})
}

func TestCheckThatRefuses(t *testing.T) {
	dir := t.TempDir()
	a := file(filepath.Join(dir, "a.conf"), "old")
	write(t, a)
	a.Data = []byte("new")
	cfg := filepath.Join(dir, "b.cfg")
	for _, tt := range []struct {
		name string
		argv []string
		want string
	}{
		{"exit 3", []string{"sh", "-c", "echo {path}:7: no such thing; echo and >&2; exit 3"}, `exit status 3: ` + cfg + ":7: no such thing\nand"},
		{"signal", []string{"sh", "-c", "kill -SEGV $$"}, "signal: segmentation fault"},
		{"no command", []string{filepath.Join(dir, "none")}, "no such file or directory"},
		{"not in PATH", []string{"no-such-command-here"}, "executable file not found"},
		{"1 MB of output", []string{"sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo the end; exit 1"}, "the end"},
	} {
		_, err := Stage(t.Context(), []File{checked(cfg, "new", tt.argv...), a})
		cerr, ok := errors.AsType[*CheckError](err)
		if !ok || cerr.Path != cfg || !strings.HasPrefix(err.Error(), "check "+cfg+" with ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v\nwant %s", tt.name, err, tt.want)
			continue
		}
		if len(cerr.Output) > checkOutput+100 {
			t.Errorf("%s: %d bytes of output", tt.name, len(cerr.Output))
		}
		wantTree(t, tt.name, dir, map[string]string{"a.conf": "0640 old"})
	}
}

// All files of a run are there before the first check, so that a candidate can
// be checked that includes another; and one refusal stops all.
func TestOneRefusalStopsAll(t *testing.T) {
	dir := t.TempDir()
	ok := checked(filepath.Join(dir, "a.cfg"), "a", "sh", "-c", `test "$(ls -A "$0" | wc -l)" = 3`, dir)
	bad := checked(filepath.Join(dir, "b.cfg"), "b", "false")
	_, err := Stage(t.Context(), []File{ok, bad, file(filepath.Join(dir, "c.conf"), "c")})
	if cerr, is := errors.AsType[*CheckError](err); !is || cerr.Path != bad.Path {
		t.Errorf("%v", err)
	}
	wantTree(t, "refused", dir, map[string]string{})
}

// The end of the context ends a check with all its children.
func TestCheckEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := checked(filepath.Join(dir, "a.cfg"), "a", "sh", "-c", `trap "" TERM; sleep 1000 & echo $! >"$0.tmp"; mv "$0.tmp" "$0"; wait`, pidFile)
	done := make(chan error, 1)
	go func() { _, err := Stage(ctx, []File{f}); done <- err }()
	child := waitForPID(t, pidFile)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	waitGone(t, child)
	wantTree(t, "cancelled", dir, map[string]string{})
}

func TestCheckTimesOut(t *testing.T) {
	f := checked("/target", "", "sh", "-c", "echo {path} is still here; exec sleep 1000")
	const limit = 300 * time.Millisecond
	err := check(t.Context(), limit, f, "/candidate")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(err.Error(), ": no answer in 300ms: context deadline exceeded: /target is still here") {
		t.Errorf("%v", err)
	}
}

// What a check leaves running with its output open does not turn a yes into a no.
func TestCheckThatForks(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(t.TempDir(), "pid")
	f := checked(filepath.Join(dir, "a.cfg"), "a", "sh", "-c", `sleep 1000 & echo $! >"$0"`, pidFile)
	write(t, f)
	child := waitForPID(t, pidFile)
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	wantTree(t, "written", dir, map[string]string{"a.cfg": "0640 a"})
}

func TestTail(t *testing.T) {
	var w tail
	for i := range 10_000 {
		_, _ = w.Write([]byte(strconv.Itoa(i) + " "))
	}
	if s := w.String(); len(s) > checkOutput+10 || !strings.HasPrefix(s, "… ") || !strings.HasSuffix(s, " 9998 9999 ") {
		t.Errorf("%d bytes: %.20q", len(s), s)
	}
	w = tail{}
	_, _ = w.Write([]byte("a\xffb"))
	if s := w.String(); s != "a\ufffdb" {
		t.Errorf("%q", s)
	}
}

func waitForPID(t *testing.T, path string) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return pid
		}
	}
	t.Fatal("the check did not start in 10 s")
	return 0
}

// waitGone waits until the process has ended; a zombie that nobody reaps has.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
	}
	t.Errorf("process %d lives on", pid)
	_ = exec.Command("kill", "-9", strconv.Itoa(pid)).Run()
}
