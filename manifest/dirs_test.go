package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, data string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// must fails the test when the preparation of a directory does.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// show is a line for each file, with dir left out.
func show(dir string, files []File) []string {
	var lines []string
	for _, f := range files {
		line := f.Path + ": "
		if f.Err != nil {
			line = f.Err.Error()
		} else {
			line += fmt.Sprintf("service %s from %s, %d bytes", f.Manifest.ID, f.Manifest.File, len(f.Raw))
		}
		lines = append(lines, strings.ReplaceAll(line, dir+"/", ""))
	}
	return lines
}

func TestReadDirs(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	must(t, os.MkdirAll(filepath.Join(one, "dir.json"), 0o755))
	must(t, os.MkdirAll(two, 0o755))
	good := func(id string) string { return fmt.Sprintf(`{"id": %q}`, id) }
	write(t, filepath.Join(two, "z.json"), good("z"), 0o644)
	write(t, filepath.Join(one, "a.json"), good("a"), 0o600)
	write(t, filepath.Join(one, "a.json.swp"), "junk", 0o600)
	write(t, filepath.Join(one, ".b.json"), "junk", 0o600)
	write(t, filepath.Join(one, "broken.json"), `{"id": `, 0o600)
	write(t, filepath.Join(one, "half.json"), "", 0o600)
	write(t, filepath.Join(one, "open.json"), good("open"), 0o666)
	write(t, filepath.Join(one, "large.json"), strings.Repeat(" ", MaxSize+10), 0o600)
	must(t, syscall.Mkfifo(filepath.Join(one, "fifo.json"), 0o600))
	must(t, os.Symlink("../elsewhere", filepath.Join(one, "link.json")))
	write(t, filepath.Join(dir, "elsewhere"), good("link"), 0o600)
	must(t, os.Symlink("open.json", filepath.Join(one, "openlink.json")))
	must(t, os.Symlink("../nowhere", filepath.Join(one, "lost.json")))

	files, bad := ReadDirs([]string{two, one, one + "/", filepath.Join(dir, "three")})
	want := []string{
		`one/a.json: service a from one/a.json, 11 bytes`,
		`one/broken.json:1:8: /id: the file ends in the middle of the manifest (was it saved completely? each { [ " needs its end)`,
		`one/dir.json: not a regular file (a manifest is a file; move this away)`,
		`one/fifo.json: not a regular file (a manifest is a file; move this away)`,
		`one/half.json: the file is empty (write at least {"id": "half"})`,
		`one/large.json: the file is larger than 1024 KiB (a manifest describes one service; is this the right file?)`,
		`one/link.json: service link from one/link.json, 14 bytes`,
		`one/lost.json: the symlink leads nowhere (point it at a manifest, or remove it)`,
		`one/open.json: every user may write this file (chmod o-w one/open.json)`,
		`one/openlink.json: every user may write this file (chmod o-w one/openlink.json)`,
		`two/z.json: service z from two/z.json, 11 bytes`,
	}
	if diff := cmp.Diff(want, show(dir, files)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(bad) != 1 || bad[0].Dir != filepath.Join(dir, "three") || !errors.Is(bad[0], fs.ErrNotExist) {
		t.Errorf("bad directories: %v", bad)
	}
	for _, f := range files {
		var errs Errors
		if f.Err != nil && !errors.As(f.Err, &errs) {
			t.Errorf("%s: %T", f.Path, f.Err)
		}
	}
}

func TestReadDirsUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.json"), "{}", 0o200)
	files, bad := ReadDirs([]string{dir})
	if len(bad) != 0 || len(files) != 1 || !errors.Is(files[0].Err, fs.ErrPermission) {
		t.Fatalf("%v %v", files, bad)
	}
	want := []string{"a.json: cannot be read: permission denied (make it readable for the agent)"}
	if diff := cmp.Diff(want, show(dir, files)); diff != "" {
		t.Error(diff)
	}
	must(t, os.Chmod(dir, 0o300))
	defer os.Chmod(dir, 0o700)
	if _, bad = ReadDirs([]string{dir}); len(bad) != 1 || !errors.Is(bad[0], fs.ErrPermission) {
		t.Errorf("%v", bad)
	}
}

func TestReadDirsNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "", 0o600)
	if files, bad := ReadDirs([]string{file}); len(files) != 0 || len(bad) != 1 {
		t.Errorf("%v %v", files, bad)
	}
}

// A checkout that is swapped by its symlink is read whole, the old or the new
// one, never a mixture.
func TestReadDirsWhileSwapped(t *testing.T) {
	dir := t.TempDir()
	const services = 20
	for _, version := range []string{"v1", "v2"} {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o755))
		for i := range services {
			id := fmt.Sprintf("s%02d", i)
			write(t, filepath.Join(dir, version, id+".json"), fmt.Sprintf(`{"id": %q, "federation": %q}`, id, version), 0o600)
		}
	}
	current := filepath.Join(dir, "current")
	must(t, os.Symlink("v1", current))
	stop, done := make(chan struct{}), make(chan error, 1)
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			next := filepath.Join(dir, "next")
			if err := errors.Join(os.Symlink([]string{"v2", "v1"}[i%2], next), os.Rename(next, current)); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 300 {
		files, bad := ReadDirs([]string{current})
		if len(bad) > 0 || len(files) != services {
			t.Fatalf("%d files, %v", len(files), bad)
		}
		for _, f := range files {
			if f.Err != nil || f.Manifest.Federation != files[0].Manifest.Federation {
				t.Fatalf("%s is not of the same checkout as %s: %v", f.Path, files[0].Path, f.Err)
			}
		}
	}
}
