package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// File is one file of a manifest directory. Either Manifest or Err is set.
type File struct {
	Path     string
	Manifest *Manifest
	Err      error  // Errors
	Raw      []byte // what was read; nil when the file could not be
}

// DirError is a directory that could not be read; errors.Is tells one that is
// missing (fs.ErrNotExist).
type DirError struct {
	Dir string
	Err error
}

func (e DirError) Error() string { return fmt.Sprintf("read manifests in %s: %v", e.Dir, e.Err) }

// Unwrap gives the error of the file system.
func (e DirError) Unwrap() error { return e.Err }

// ReadDirs reads every *.json in dirs, sorted by path: no dotfiles, nothing in
// subdirectories. A file that is no good is there with its Err. A directory
// that is a symlink is followed once, so that one picture of it is read even
// while the link is swapped.
func ReadDirs(dirs []string) ([]File, []DirError) {
	var files []File
	var bad []DirError
	seen := map[string]bool{}
	for _, dir := range dirs {
		if dir = filepath.Clean(dir); seen[dir] {
			continue
		}
		seen[dir] = true
		got, err := readDir(dir)
		if err != nil {
			bad = append(bad, DirError{Dir: dir, Err: err})
		}
		files = append(files, got...)
	}
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return files, bad
}

// readDir lists again when a file vanished before it was read: it was renamed,
// or the directory itself was swapped.
func readDir(dir string) ([]File, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		files, vanished, err := readOnce(dir)
		if !vanished || attempt == attempts {
			return files, err
		}
	}
}

func readOnce(dir string) (files []File, vanished bool, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, false, err
	}
	entries, err := os.ReadDir(real)
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".json") || strings.HasPrefix(name, ".") {
			continue
		}
		f, ok := readFile(filepath.Join(real, name), filepath.Join(dir, name))
		if !ok {
			vanished = true
			continue
		}
		files = append(files, f)
	}
	return files, vanished, err
}

// readFile reads the file at real, which people know as path. ok is false when
// it is not there any more.
func readFile(real, path string) (file File, ok bool) {
	file.Path = path
	data, err := read(real, path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Lstat(real); gone != nil {
			return file, false
		}
		err = &Error{File: path, Text: "the symlink leads nowhere", Hint: "point it at a manifest, or remove it", cause: err}
	}
	file.Raw = data
	if err == nil {
		file.Manifest, file.Err = Parse(path, data)
		return file, true
	}
	var known *Error
	if !errors.As(err, &known) {
		known = &Error{File: path, Text: "cannot be read: " + reason(err), Hint: "make it readable for the agent", cause: err}
	}
	file.Err = Errors{known}
	return file, true
}

// read opens without waiting, lest a FIFO stop the agent, and looks at the
// open file, which nobody can exchange any more.
func read(real, path string) ([]byte, error) {
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &Error{File: path, Text: "not a regular file", Hint: "a manifest is a file; move this away"}
	case info.Mode().Perm()&0o002 != 0:
		return nil, &Error{File: path, Text: "every user may write this file", Hint: "chmod o-w " + path}
	}
	return io.ReadAll(io.LimitReader(f, MaxSize+1)) // one more, which Parse refuses
}

// reason is err without the path, which the message has already.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
