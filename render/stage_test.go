package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/internal/atomicfile"
)

func file(path, data string) File {
	return File{Path: path, Data: []byte(data), Mode: 0o640, UID: -1, GID: -1}
}

// tree maps each path below dir to "mode content", directories to "mode/".
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			m[rel] = fmt.Sprintf("%#o/", info.Mode().Perm())
		case d.Type()&fs.ModeSymlink != 0:
			m[rel], err = os.Readlink(path)
		case d.Type().IsRegular():
			var b []byte
			b, err = os.ReadFile(path)
			m[rel] = fmt.Sprintf("%#o %s", info.Mode().Perm(), b)
		default:
			m[rel] = info.Mode().Type().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantTree(t *testing.T, what, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func mustStage(t *testing.T, files ...File) *Set {
	t.Helper()
	s, err := Stage(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Discard)
	return s
}

func write(t *testing.T, files ...File) (written []string) {
	t.Helper()
	s := mustStage(t, files...)
	changed := s.Changed()
	written, err := s.Swap()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed, written); diff != "" {
		t.Errorf("Changed and Swap: %s", diff)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	return written
}

func TestStageWritesOnlyWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	a, b := file(filepath.Join(dir, "a.conf"), "A\n"), file(filepath.Join(dir, "b.conf"), "B\n")
	if diff := cmp.Diff([]string{a.Path, b.Path}, write(t, a, b)); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{"a.conf": "0640 A\n", "b.conf": "0640 B\n"}
	wantTree(t, "both new", dir, want)
	inode := func(f File) uint64 {
		info, err := os.Stat(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	before := inode(a)
	if got := write(t, a, b); got != nil {
		t.Errorf("nothing differs, written: %q", got)
	}
	for name, change := range map[string]func() error{
		"bytes":   func() error { return os.WriteFile(b.Path, []byte("X\n"), 0o640) },
		"shorter": func() error { return os.WriteFile(b.Path, []byte("B"), 0o640) },
		"mode":    func() error { return os.Chmod(b.Path, 0o644) },
		"set-uid": func() error { return os.Chmod(b.Path, 0o640|fs.ModeSetuid) },
		"gone":    func() error { return os.Remove(b.Path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{b.Path}, write(t, a, b)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		wantTree(t, name, dir, want)
	}
	if inode(a) != before {
		t.Error("a file that did not differ was written")
	}
}

func TestStageIsInvisibleUntilSwap(t *testing.T) {
	dir := t.TempDir()
	a := file(filepath.Join(dir, "a.conf"), "old")
	write(t, a)
	a.Data = []byte("new")
	s := mustStage(t, a, file(filepath.Join(dir, "b.conf"), "b"))
	if conf, _ := filepath.Glob(filepath.Join(dir, "*.conf")); len(conf) != 1 {
		t.Errorf("a loader sees %q", conf)
	}
	if b, _ := os.ReadFile(a.Path); string(b) != "old" {
		t.Errorf("live file: %q", b)
	}
	s.Discard()
	s.Discard()
	wantTree(t, "discarded", dir, map[string]string{"a.conf": "0640 old"})
	if written, err := s.Swap(); written != nil || err != nil {
		t.Errorf("Swap after Discard: %q, %v", written, err)
	}
}

func TestStageMakesOneDirectory(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	f := file(filepath.Join(dir, "services.d", "a.conf"), "a")
	mustStage(t, f).Discard()
	wantTree(t, "discarded", dir, map[string]string{})
	write(t, f)
	wantTree(t, "written", dir, map[string]string{"services.d": "0755/", "services.d/a.conf": "0640 a"})

	deep := file(filepath.Join(dir, "no", "such", "a.conf"), "a")
	_, err := Stage(t.Context(), []File{f, deep})
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "write "+deep.Path+": make its directory: ") {
		t.Errorf("two directories missing: %v", err)
	}
}

func TestStageRefuses(t *testing.T) {
	dir := t.TempDir()
	link, victim := filepath.Join(dir, "link.conf"), filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	good := file(filepath.Join(dir, "good.conf"), "good")
	for name, want := range map[string]string{
		"link.conf": "is a symbolic link", "fifo.conf": "is a special file", "dir.conf": "is a directory",
	} {
		bad := file(filepath.Join(dir, name), "x")
		_, err := Stage(t.Context(), []File{good, bad})
		if !errors.Is(err, atomicfile.ErrNotRegular) || err.Error() != "write "+bad.Path+": "+want+": not a regular file" {
			t.Errorf("%s: %v", name, err)
		}
		wantTree(t, name, dir, before)
		if diff := cmp.Diff([]Drift{{good.Path, Missing}, {bad.Path, Special}}, FindDrift([]File{good, bad})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := Stage(t.Context(), []File{good, file(dir+"/./good.conf", "other")}); err == nil || !strings.Contains(err.Error(), "two files of one run") {
		t.Errorf("one path twice: %v", err)
	}
	wantTree(t, "one path twice", dir, before)
}

func TestSwapThatFailsHalfWay(t *testing.T) {
	dir := t.TempDir()
	var files []File
	for _, name := range []string{"a", "b", "c"} {
		files = append(files, file(filepath.Join(dir, name), name+" old"))
	}
	write(t, files...)
	for i := range files {
		files[i].Data = []byte("new")
	}
	s := mustStage(t, files...)
	if err := os.Remove(files[1].Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", files[1].Path); err != nil {
		t.Fatal(err)
	}
	written, err := s.Swap()
	if diff := cmp.Diff([]string{files[0].Path}, written); diff != "" {
		t.Error(diff)
	}
	serr, ok := errors.AsType[*SwapError](err)
	if !ok {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{files[1].Path, files[2].Path}, serr.NotWritten); diff != "" {
		t.Error(diff)
	}
	want := fmt.Sprintf("write %s: is a symbolic link: not a regular file (left as they were: %s, %s)", files[1].Path, files[1].Path, files[2].Path)
	if err.Error() != want || !errors.Is(err, atomicfile.ErrNotRegular) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	wantTree(t, "half-way", dir, map[string]string{"a": "0640 new", "b": "a", "c": "0640 c old"})
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("t", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	a, b := file(filepath.Join(dir, "a.conf"), "a old"), file(filepath.Join(dir, "b.conf"), "b old")
	write(t, a, b)
	before := tree(t, dir)
	a.Data, b.Data = []byte("new"), make([]byte, 100<<10)
	_, err := Stage(t.Context(), []File{a, b})
	if !errors.Is(err, syscall.ENOSPC) || err.Error() != "write "+b.Path+": no space left on device" {
		t.Errorf("%v", err)
	}
	wantTree(t, "full", dir, before)

	if err := syscall.Mount("t", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, f := range []File{a, file(filepath.Join(dir, "new", "c.conf"), "c")} {
		_, err := Stage(t.Context(), []File{f})
		if !errors.Is(err, syscall.EROFS) || !strings.HasPrefix(err.Error(), "write "+f.Path+": ") {
			t.Errorf("read-only: %v", err)
		}
	}
	wantTree(t, "read-only", dir, before)
}

// As nobody: this test binary again, in a directory that belongs to root.
func TestNotAllowed(t *testing.T) {
	const variable = "RENDER_TEST_DIR"
	if dir := os.Getenv(variable); dir != "" {
		secret := file(filepath.Join(dir, "secret.conf"), "x")
		_, err := Stage(t.Context(), []File{secret})
		if !errors.Is(err, fs.ErrPermission) || err.Error() != "write "+secret.Path+": permission denied" {
			t.Errorf("%v", err)
		}
		if diff := cmp.Diff([]Drift{{secret.Path, Unreadable}}, FindDrift([]File{secret})); diff != "" {
			t.Error(diff)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "render") //nolint:usetesting // t.TempDir lies below what only root enters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]struct {
		data []byte
		mode fs.FileMode
	}{"exe": {self, 0o755}, "secret.conf": {[]byte("y"), 0o600}} {
		if err := atomicfile.Write(filepath.Join(dir, name), f.data, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "exe"), "-test.run=^TestNotAllowed$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), variable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNotAllowed") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStageEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Stage(ctx, []File{file(filepath.Join(dir, "a"), "a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	wantTree(t, "cancelled", dir, map[string]string{})
}

func BenchmarkStageUnchanged1000(b *testing.B) { benchmarkStage(b, func(int, []File) {}) }

func BenchmarkStageOneOf1000(b *testing.B) {
	benchmarkStage(b, func(i int, files []File) { files[500].Data = fmt.Appendf(nil, "export A='%d'\n", i) })
}

func benchmarkStage(b *testing.B, change func(i int, files []File)) {
	dir := b.TempDir()
	var files []File
	for i := range 1000 {
		files = append(files, file(filepath.Join(dir, fmt.Sprintf("s%d.conf", i)), strings.Repeat("x", 300)))
	}
	start := time.Now()
	for i := 0; b.Loop(); i++ {
		s, err := Stage(context.Background(), files)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Swap(); err != nil {
			b.Fatal(err)
		}
		if i == 0 {
			b.ReportMetric(float64(time.Since(start).Milliseconds()), "first-ms")
			b.ResetTimer()
		}
		change(i, files)
	}
}
