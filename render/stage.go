package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/listener-agent/listener/internal/atomicfile"
)

// Set is the files of one run that differ from the disk, complete and checked
// beside their targets. End it with Swap or Discard. One goroutine owns it.
type Set struct {
	temps []*atomicfile.Temp
	dirs  []string // that Stage made
	// written are the targets that Swap replaced, for Sync.
	written []*atomicfile.Temp
}

// Stage compares files with the disk and writes what differs (bytes, mode or
// owner) to temporary files beside the targets, then runs the checks of
// these. On error nothing live has changed and nothing is left behind. Of a missing
// directory only the last element is made, 0755: a parent that is missing too is
// more likely a mistake or a mount that is not there.
//
// It blocks for as long as the checks take, each at most CheckTimeout; the end
// of ctx ends them. It does not wait for the disk. Errors: "write PATH: cause" or a
// *CheckError; a symlink or special file at a target is refused.
func Stage(ctx context.Context, files []File) (*Set, error) {
	s := &Set{}
	if err := s.stage(ctx, files); err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

func (s *Set) stage(ctx context.Context, files []File) error {
	seen := make(map[string]bool, len(files))
	type candidate struct {
		file File
		temp *atomicfile.Temp
	}
	var checks []candidate
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		path := filepath.Clean(f.Path)
		if seen[path] {
			return fmt.Errorf("write %s: two files of one run have this path", f.Path)
		}
		seen[path] = true
		// What cannot be compared is written: that either works or says why.
		if what, _ := compare(f); what == "" {
			continue
		}
		t, err := s.create(f)
		if err != nil {
			return err
		}
		s.temps = append(s.temps, t)
		if len(f.Check) > 0 {
			checks = append(checks, candidate{f, t})
		}
	}
	for _, c := range checks {
		if err := check(ctx, CheckTimeout, c.file, c.temp.Name()); err != nil {
			return err
		}
	}
	return nil
}

// create stages one file, with its directory if need be.
func (s *Set) create(f File) (*atomicfile.Temp, error) {
	t, err := atomicfile.Create(f.Path, f.Data, f.Mode, f.UID, f.GID)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	dir := filepath.Dir(f.Path)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write %s: make its directory: %w", f.Path, err)
	}
	s.dirs = append(s.dirs, dir)
	// Whatever the umask: services that are not root read here.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write %s: make its directory: %w", f.Path, err)
	}
	return atomicfile.Create(f.Path, f.Data, f.Mode, f.UID, f.GID)
}

// Changed returns the paths that differ, in the order given to Stage.
func (s *Set) Changed() []string {
	return paths(s.temps)
}

// SwapError says that Swap stopped half-way.
type SwapError struct {
	NotWritten []string // these are as they were
	Err        error    // why the first of them was not written
}

func (e *SwapError) Error() string {
	return fmt.Sprintf("%v (left as they were: %s)", e.Err, strings.Join(e.NotWritten, ", "))
}

func (e *SwapError) Unwrap() error { return e.Err }

// Swap renames the staged files onto their targets, one by one in order, and
// returns those written. It stops at the first that fails, with a *SwapError, and
// leaves no temporary file. It does not wait for the disk.
func (s *Set) Swap() (written []string, err error) {
	for i, t := range s.temps {
		if err := t.Commit(); err != nil {
			serr := &SwapError{NotWritten: paths(s.temps[i:]), Err: err}
			s.written = s.temps[:i]
			s.temps = s.temps[i:]
			s.discardTemps()
			return paths(s.written), serr
		}
	}
	s.written, s.temps = s.temps, nil
	return paths(s.written), nil
}

// Discard removes what was staged, and directories that Stage made if they
// are empty. After Swap it does nothing to the files written.
func (s *Set) Discard() {
	s.discardTemps()
	for _, dir := range s.dirs {
		os.Remove(dir) // fails if a file is in it, as it should
	}
	s.dirs = nil
}

func (s *Set) discardTemps() {
	for _, t := range s.temps {
		t.Discard()
	}
	s.temps = nil
}

// Sync waits until what Swap wrote is on disk, each directory once. It is meant
// for off the path between an event and its command. It goes on after an error
// and returns all.
func (s *Set) Sync() error {
	var errs []error
	dirs := make(map[string]bool)
	sync := func(dir string) {
		if !dirs[dir] {
			dirs[dir] = true
			errs = append(errs, atomicfile.SyncDir(dir))
		}
	}
	for _, t := range s.written {
		errs = append(errs, atomicfile.SyncFile(t.Path()))
	}
	for _, t := range s.written {
		sync(filepath.Dir(t.Path()))
	}
	for _, dir := range s.dirs {
		sync(filepath.Dir(dir))
	}
	return errors.Join(errs...)
}

func paths(temps []*atomicfile.Temp) []string {
	if len(temps) == 0 {
		return nil
	}
	list := make([]string, len(temps))
	for i, t := range temps {
		list[i] = t.Path()
	}
	return list
}
