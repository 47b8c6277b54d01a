package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/listener-agent/listener/status"
)

// tmpfs mounts a small file system on a directory of the node.
func (s *system) tmpfs(dir, size string) {
	s.t.Helper()
	asRoot(s.t)
	path := s.path(dir)
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=0755,size="+size); err != nil {
		s.t.Skipf("cannot mount a tmpfs: %v", err)
	}
	s.t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			s.t.Errorf("unmount %s: %v", path, err)
		}
	})
}

// fill takes all space of a directory's file system; free gives it back.
func (s *system) fill(dir string) (free func()) {
	s.t.Helper()
	path := s.path(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if err := os.Remove(path); err != nil {
			s.t.Fatal(err)
		}
	}
}

// remount makes a mount read-only or writable.
func (s *system) remount(dir string, readOnly bool) {
	s.t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	s.until("a remount of "+dir, func() bool { // EBUSY while a file is open for writing
		err := syscall.Mount("tmpfs", s.path(dir), "tmpfs", flags, "")
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			s.t.Fatal(err)
		}
		return err == nil
	})
}

// elsewhere puts the store's file outside of the state directory, so that
// values change whatever becomes of that.
func elsewhere(s *system) {
	s.settings["store.path"] = fmt.Sprintf("%q", s.path("store"))
	if err := os.Mkdir(s.path("store"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// stateOn is a node whose state directory is a small file system of its own.
func stateOn(t *testing.T) *system {
	s := newSystem(t)
	elsewhere(s)
	s.tmpfs("state", "256k")
	s.manifest("app", "", "K")
	s.start()
	s.put("K", "first")
	s.applied("app", "K='first'")
	return s
}

func TestFullStateDirectory(t *testing.T) {
	t.Parallel()
	s := stateOn(t)
	s.goesOn()
	free := s.fill("state")
	s.goesOn() // what it needs not, it does without
	s.condition("state_dir", "no space left on device", s.path("state"))
	s.goesOn()
	if out, code := s.listener("off", "-m", "disk is full"); code != 0 {
		t.Fatalf("off: exit %d: %s", code, out)
	}
	s.condition("off file", "no space left on device")
	if st := s.must(); st.On {
		t.Error("not off, as the file could not be written")
	}
	if out, code := s.listener("on"); code != 0 {
		t.Fatalf("on: exit %d: %s", code, out)
	}
	s.goesOn()
	s.again(syscall.SIGKILL) // started on a full disk
	s.goesOn()
	s.condition("state_dir", "no space left on device")
	free()
	s.goesOn()
	s.noCondition("state_dir")
	s.noCondition("off file")
	s.synced()
	s.again(syscall.SIGKILL)
	s.synced()
	if got, want := s.env("app"), fmt.Sprintf("K='value-%d'", s.puts); !strings.Contains(got, want) {
		t.Errorf("want %s:\n%s", want, got)
	}
	s.noConditions()
}

func TestReadOnlyStateDirectory(t *testing.T) {
	t.Parallel()
	t.Run("at start", func(t *testing.T) { t.Parallel(); readOnly(t, false) })
	t.Run("while running", func(t *testing.T) { t.Parallel(); readOnly(t, true) })
}

func readOnly(t *testing.T, started bool) {
	s := stateOn(t)
	if started {
		s.remount("state", true)
	} else {
		s.end(syscall.SIGTERM)
		s.remount("state", true)
		s.start()
	}
	s.goesOn()
	s.condition("state_dir", "read-only file system")
	s.goesOn()
	// Still only one agent.
	if out, code := s.listener("agent", "--config", s.config(), "--socket", s.path("run", "other")); code == 0 ||
		!strings.Contains(out, "another agent uses this state directory") {
		t.Errorf("two agents on one state directory: exit %d:\n%s", code, out)
	}
	s.again(syscall.SIGKILL)
	s.goesOn()
	s.remount("state", false)
	s.goesOn()
	s.noConditions()
}

// noConditions waits until status has none.
func (s *system) noConditions() {
	s.t.Helper()
	s.until("the end of all conditions", func() bool { return len(s.must().Conditions) == 0 })
}

func TestFullStore(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	elsewhere(s)
	s.tmpfs("store", "256k")
	s.manifest("app", "", "K")
	s.start()
	s.put("K", "first")
	s.goesOn()
	free := s.fill("store")
	var out string
	code := 0
	for i := 0; code == 0 && i < 100; i++ { // there is some room in the file itself
		out, code = s.listener("put", "BIG", strings.Repeat("x", 50_000)+fmt.Sprint(i))
	}
	if code == 0 || !hasAll(out, []string{"listener: error: ", "no space left on device"}) {
		t.Errorf("put on a full disk: exit %d:\n%s", code, out)
	}
	if out, code := s.listener("get", "K"); code != 0 || !strings.Contains(out, "value-1") {
		t.Errorf("get on a full disk: exit %d: %s", code, out)
	}
	if st := s.must(); !st.Synced || !strings.Contains(s.env("app"), "value-1") {
		t.Errorf("%s", s.account())
	}
	free()
	s.goesOn()
}

func TestFullEnvDirectory(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.tmpfs("env", "16k")
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start()
	s.applied("app", "K='first'")
	runs := len(s.lines("runs"))
	free := s.fill("env")
	s.put("K", "second")
	s.until("a failure that names the disk", func() bool {
		f := s.must().Failures
		return len(f) == 1 && hasAll(f[0].Text, []string{"app.conf", "no space left on device"})
	})
	if got := s.env("app"); !strings.Contains(got, "K='first'") {
		t.Errorf("the file did not stay as it was: %q", got)
	}
	if n := len(s.lines("runs")) - runs; n > 0 {
		t.Errorf("%d commands ran without their files", n)
	}
	free()
	s.applied("app", "K='second'")
	s.goesOn()
	if left, _ := filepath.Glob(s.path("env", ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestFullRunDirectory(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.tmpfs("run", "16k")
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start()
	s.applied("app", "K='first'")
	free := s.fill("run")
	s.put("K", "second")
	s.until("a failure that names the disk", func() bool {
		f := s.must().Failures
		return len(f) == 1 && strings.Contains(f[0].Text, "no space left on device")
	})
	free()
	s.applied("app", "K='second'")
	s.goesOn()
	// Filled by the command itself: its result is not lost.
	s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"; cat /dev/zero >"$D/run/ballast" 2>/dev/null; sleep 0.1; true`)
	runs := len(s.lines("runs"))
	s.put("K", "third")
	s.until("a run that fills the disk", func() bool { return len(s.lines("runs")) > runs })
	s.applied("app", "K='third'")
	if err := os.Remove(s.path("run", "ballast")); err != nil {
		t.Fatal(err)
	}
	s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.goesOn()
	s.nothingLeft()
}

// A run directory that is read-only while a step ends: nothing else runs until
// it is known how that was, and then all goes on.
func TestReadOnlyRunDirectory(t *testing.T) {
	t.Parallel()
	t.Run("step ends", func(t *testing.T) { t.Parallel(); readOnlyRun(t, false) })
	t.Run("supervisor killed", func(t *testing.T) { t.Parallel(); readOnlyRun(t, true) })
}

func readOnlyRun(t *testing.T, kill bool) {
	s := newSystem(t)
	s.tmpfs("run", "256k")
	s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"; [ ! -e "$D/wait" ] || sleep 0.5`)
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start()
	s.applied("app", "K='first'")
	s.write(s.path("wait"), "")
	runs := len(s.lines("runs"))
	s.put("K", "second")
	s.until("a run", func() bool { return len(s.lines("runs")) > runs })
	s.remount("run", true)
	if kill {
		for _, p := range s.processes() {
			if p.supervisor {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		s.condition("adopt", "read-only file system")
	} else {
		s.condition("run_dir", "read-only file system")
	}
	s.remount("run", false)
	if err := os.Remove(s.path("wait")); err != nil {
		t.Fatal(err)
	}
	s.goesOn()
	s.until("the end of all conditions", func() bool {
		return !slices.ContainsFunc(s.must().Conditions, func(c status.Condition) bool { return c.Name != "node.json" })
	})
	s.again(syscall.SIGKILL) // sweeps at once what it else does each minute
	s.nothingLeft()
	s.noConditions()
}
