package provision

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func isBusy(t *testing.T, path string) string {
	t.Helper()
	who, err := ForeignBusy([]string{path}, "")
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func writeLock(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sleeper is a living process that was started as the program called name, by
// its kernel name, with args.
func sleeper(t *testing.T, name string, args ...string) int {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sh, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"-c", "read x"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestForeignChef(t *testing.T) {
	path := writeLock(t, "chef-client-running.pid", fmt.Sprint(os.Getpid()))
	if who := isBusy(t, path); who != "" {
		t.Errorf("a daemon between its runs counts: %s", who)
	}
	// A stand-in takes the lock as Chef::RunLock does.
	cmd := exec.Command("flock", "-x", "-n", path, "sh", "-c", "echo locked; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("flock(1) is missing: %v", err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if who := isBusy(t, path); !strings.Contains(who, path) || !strings.Contains(who, fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("who %q, process %d", who, cmd.Process.Pid)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if who := isBusy(t, path); who != "" {
		t.Errorf("still %q", who)
	}
}

func TestForeignLockIsNotTakenByAsking(t *testing.T) {
	path := writeLock(t, "x.lock", "")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := make(chan struct{})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = ForeignBusy([]string{path}, "")
			}
		}
	}()
	for range 500 {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Errorf("asking took the lock: %v", err)
			break
		}
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	}
	close(stop)
	<-asked
}

func TestForeignLockFiles(t *testing.T) {
	own := fmt.Sprint(os.Getpid())
	puppet := fmt.Sprint(sleeper(t, "puppet", "agent"))
	ruby := fmt.Sprint(sleeper(t, "ruby3.1", "/usr/bin/puppet", "agent"))
	irb := fmt.Sprint(sleeper(t, "ruby3.1", "/usr/bin/irb"))
	editor := fmt.Sprint(sleeper(t, "vim", "/etc/puppet/puppet.conf"))
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprint(dead.Process.Pid)
	for _, c := range []struct {
		name, file, content string
		age                 time.Duration // of the file; 0: now
		busy                bool
	}{
		{"empty", "any.lock", "", 0, false},
		{"no number", "any.lock", "locked\n", 0, false},
		{"living process", "any.pid", own + "\n", 0, true},
		{"dead process", "any.pid", gone, 0, false},
		{"number given again", "any.pid", own, 24 * 365 * time.Hour, false},
		{"puppet", "agent_catalog_run.lock", puppet, 0, true},
		{"puppet, clock jumped", "agent_catalog_run.lock", puppet, 2 * time.Hour, true},
		{"puppet in an older ruby", "agent_catalog_run.lock", ruby, 0, true},
		{"puppet's number, not a puppet", "agent_catalog_run.lock", own, 0, false},
		{"puppet's number, another ruby", "agent_catalog_run.lock", irb, 0, false},
		{"puppet's number, an editor of its files", "agent_catalog_run.lock", editor, 0, false},
		{"puppet, disabled of old", "agent_catalog_run.lock", "", 0, false},
		{"puppet, disabled", "agent_disabled.lock", `{"disabled_message":"x"}`, 0, false},
	} {
		path := writeLock(t, c.file, c.content)
		if c.age > 0 {
			if err := os.Chtimes(path, time.Now(), time.Now().Add(-c.age)); err != nil {
				t.Fatal(err)
			}
		}
		if who := isBusy(t, path); (who != "") != c.busy {
			t.Errorf("%s: who %q", c.name, who)
		}
	}
}

// What chef-config prints for its setting lockfile: as chef-client, and as
// chef-solo or chef-client -z with and without -c.
func TestChefPresetPlaces(t *testing.T) {
	for _, tool := range []string{"chef", "cinc"} {
		for _, dir := range []string{"/var/" + tool, "/etc/" + tool + "/local-mode-cache", "/root/." + tool + "/local-mode-cache"} {
			if path := dir + "/cache/" + tool + "-client-running.pid"; !slices.Contains(presets["chef"], path) {
				t.Errorf("the preset lacks %s", path)
			}
		}
	}
}

func TestForeignErrors(t *testing.T) {
	if _, err := ForeignBusy(nil, "salt"); err == nil {
		t.Error("an unknown preset was accepted")
	}
	for _, preset := range []string{"", "chef", "puppet"} {
		if _, err := ForeignBusy([]string{"/no/such/file"}, preset); err != nil {
			t.Errorf("%s: %v", preset, err)
		}
	}
	busy := writeLock(t, "any.pid", fmt.Sprint(os.Getpid()))
	if _, err := ForeignBusy([]string{t.TempDir()}, ""); err == nil {
		t.Error("a directory was accepted")
	}
	if who, err := ForeignBusy([]string{t.TempDir(), busy}, ""); err != nil || who == "" {
		t.Errorf("after one that cannot be read: %q %v", who, err)
	}
}

func TestDeviceNumbers(t *testing.T) {
	l := fileLock{pid: 1, major: 0x1234, minor: 0x56789, inode: 7}
	// makedev(0x1234, 0x56789), by the layout of glibc's <sys/sysmacros.h>.
	st := &syscall.Stat_t{Dev: 0x234<<8 | 0x1<<44 | 0x89 | 0x567<<20, Ino: 7}
	if !l.on(st, 0) {
		t.Error("device not recognised")
	}
	other := *st
	other.Dev++
	if l.on(&other, 0) {
		t.Error("another device with the same inode number counts")
	}
	if !l.on(&other, 1) {
		t.Error("the holder's number in the file does not count")
	}
}
