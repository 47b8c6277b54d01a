package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	// Some tests run this binary again, as another user: see asNobody.
	if dir := os.Getenv("ATOMICFILE_TEST_DIR"); dir != "" {
		if err := Write(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func wantFile(t *testing.T, path, data string, mode fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != data {
		t.Errorf("%s: %q, want %q", path, b, data)
	}
	if info, _ := os.Stat(path); info.Mode() != mode {
		t.Errorf("%s: mode %v, want %v", path, info.Mode(), mode)
	}
}

// wantNames fails if dir holds anything else, such as a temporary file.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("in the directory: %q, want %q", names, want)
	}
}

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for name, write := range map[string]func(string, []byte, fs.FileMode) error{"Write": Write, "WriteSync": WriteSync} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			for _, tt := range []struct {
				data string
				mode fs.FileMode
			}{{"new", 0o644}, {"longer than before", 0o600}, {"", 0o666}} {
				if err := write(path, []byte(tt.data), tt.mode); err != nil {
					t.Fatal(err)
				}
				wantFile(t, path, tt.data, tt.mode)
				wantNames(t, dir, "file")
			}
		})
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := WriteSync("file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, "file", "x", 0o600)
	wantNames(t, ".", "file")
}

func TestTemp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.conf")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	temp, err := Create(path, []byte("new"), 0o640, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "old", 0o600)
	wantFile(t, temp.Name(), "new", 0o640)
	if temp.Path() != path || filepath.Dir(temp.Name()) != dir {
		t.Errorf("path %s, name %s", temp.Path(), temp.Name())
	}
	if base := filepath.Base(temp.Name()); !tempName(base) || base[0] != '.' || strings.HasSuffix(base, ".conf") {
		t.Errorf("a loader would take %s", base)
	}
	if err := temp.Commit(); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "new", 0o640)
	if err := temp.Sync(); err != nil {
		t.Error(err)
	}
	temp.Discard()
	if err := temp.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Commit: %v", err)
	}
	wantNames(t, dir, "app.conf")
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	temp, err := Create(filepath.Join(dir, "file"), []byte("new"), 0o640, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	temp.Discard()
	temp.Discard()
	wantNames(t, dir)
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := filepath.Join(t.TempDir(), "file")
	temp, err := Create(path, []byte("x"), 0o640, 12345, 54321)
	if err != nil {
		t.Fatal(err)
	}
	if err := temp.Commit(); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 12345 || st.Gid != 54321 {
		t.Errorf("owner %d:%d", st.Uid, st.Gid)
	}
	wantFile(t, path, "x", 0o640)
}

// Whatever lies at the target that is not a file stays as it is, before Create
// and when it appears between Create and Commit.
func TestRefusesOthersThanFiles(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"is a symbolic link": func(p string) error { return os.Symlink(filepath.Join(filepath.Dir(p), "victim"), p) },
		"is a directory":     func(p string) error { return os.Mkdir(p, 0o755) },
		"is a special file":  func(p string) error { return syscall.Mkfifo(p, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			temp, err := Create(path, []byte("x"), 0o600, -1, -1)
			if err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			want := "write " + path + ": " + name + ": not a regular file"
			if err := temp.Commit(); !errors.Is(err, ErrNotRegular) || err.Error() != want {
				t.Errorf("Commit: %v, want %s", err, want)
			}
			if err := Write(path, nil, 0o600); !errors.Is(err, ErrNotRegular) || err.Error() != want {
				t.Errorf("Write: %v, want %s", err, want)
			}
			wantNames(t, dir, "file")
		})
	}
}

// A directory that appears after the last look is put back where it was.
func TestDirectoryAtTheLastMoment(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	temp, err := Create(path, []byte("x"), 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := temp.rename(); !errors.Is(err, ErrNotRegular) {
		t.Errorf("%v", err)
	}
	wantNames(t, path, "inside")
	wantFile(t, temp.Name(), "x", 0o600)
	temp.Discard()
	wantNames(t, dir, "file")
}

func TestErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "file")
	err := Write(path, nil, 0o600)
	if want := "write " + path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is not wrapped")
	}
	if err := SyncFile(path); err != nil {
		t.Errorf("sync of what is not there: %v", err)
	}
	if err := SyncDir(filepath.Dir(path)); err == nil || !strings.HasPrefix(err.Error(), "sync "+filepath.Dir(path)+": ") {
		t.Errorf("sync of a directory that is not there: %v", err)
	}
}

func TestNotAllowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "atomicfile") //nolint:usetesting // t.TempDir lies below what only root enters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "exe")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock() // who is forked now would hold the file open for writing
	err = os.WriteFile(exe, self, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if want := "write " + filepath.Join(dir, "file") + ": permission denied"; err != nil || string(out) != want {
		t.Errorf("%q, %v, want %s", out, err, want)
	}
	wantNames(t, dir, "exe")
}

// A small file system of its own: full, then read-only.
func TestFullAndReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("t", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "file")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(string, []byte, fs.FileMode) error{"Write": Write, "WriteSync": WriteSync} {
		err := write(path, make([]byte, 100<<10), 0o600)
		if want := "write " + path + ": no space left on device"; err == nil || err.Error() != want || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		wantFile(t, path, "old", 0o600)
		wantNames(t, dir, "file")
	}
	if err := syscall.Mount("t", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err := Write(path, []byte("new"), 0o600)
	if want := "write " + path + ": read-only file system"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	wantFile(t, path, "old", 0o600)
}

func TestFchownRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may give files away; tested as another user")
	}
	dir := t.TempDir()
	_, err := Create(filepath.Join(dir, "file"), nil, 0o600, 0, 0)
	if err == nil || !strings.Contains(err.Error(), "change owner to 0:0: operation not permitted") {
		t.Errorf("%v", err)
	}
	wantNames(t, dir)
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		".listener-1.tmp":                 2 * time.Minute,
		".listener-ffffffffffffffff.tmp":  24 * time.Hour,
		".listener-2.tmp":                 -2 * time.Hour, // the clock was set back since
		".listener-3.tmp":                 30 * time.Second,
		".listener-4.tmp.conf":            24 * time.Hour,
		".listener-notes.tmp":             24 * time.Hour,
		".listener-10000000000000000.tmp": 24 * time.Hour,
		".listener-.tmp":                  24 * time.Hour,
		".other-5.tmp":                    24 * time.Hour,
		"app.conf":                        24 * time.Hour,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".listener-6.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, ".listener-.tmp", ".listener-10000000000000000.tmp", ".listener-3.tmp",
		".listener-4.tmp.conf", ".listener-6.tmp", ".listener-notes.tmp", ".other-5.tmp", "app.conf")
	if err := Sweep(filepath.Join(dir, "none")); err != nil {
		t.Errorf("no directory: %v", err)
	}
	if err := SweepOwn(dir); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, ".listener-.tmp", ".listener-10000000000000000.tmp",
		".listener-4.tmp.conf", ".listener-6.tmp", ".listener-notes.tmp", ".other-5.tmp", "app.conf")
}

// Readers see one of the whole contents at any time, never a part or nothing.
func TestReadersNeverSeeAPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(i int) string { return strings.Repeat(strconv.Itoa(i%10), 10_000+i%10) }
	if err := Write(path, []byte(content(0)), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 200 {
				if err := Write(path, []byte(content(w+i)), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	for reads := 0; ; reads++ {
		select {
		case <-done:
			if reads == 0 {
				t.Error("nothing was read meanwhile")
			}
			return
		default:
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 || string(b) != content(int(b[0]-'0')) {
			t.Fatalf("read %d bytes that nobody wrote", len(b))
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file")
	data := make([]byte, 300)
	for b.Loop() {
		if err := Write(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	if err := WriteNew(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link} {
		if err := WriteNew(p, []byte("second")); !errors.Is(err, fs.ErrExist) || !strings.HasPrefix(err.Error(), "write "+p+": ") {
			t.Errorf("%s: %v", p, err)
		}
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "first" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link was followed: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
