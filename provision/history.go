package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
	"github.com/listener-agent/listener/status"
)

// NewRunID returns an id such as 20261121-004235-3f9a, which sorts by time:
// the last part is the fraction of the second in 1/65536. One node never
// starts two runs within that.
func NewRunID(now time.Time) string {
	now = now.UTC()
	return fmt.Sprintf("%s-%04x", now.Format("20060102-150405"), now.Nanosecond()<<16/int(time.Second))
}

// History keeps a record and the output of each run in StateDir/runs:
// ID.json and ID.log, mode 0600 in a directory 0700, since output may hold secrets.
type History struct{ dir string }

// OpenHistory creates the directory if it is missing. The History can be used
// even if there is an error: then its methods return one, too.
func OpenHistory(stateDir string) (*History, error) {
	dir := filepath.Join(stateDir, "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &History{dir: dir}, fmt.Errorf("history: %w", err)
	}
	return &History{dir: dir}, nil
}

// Save writes the record of a run, whole or not at all; on an error the former
// record is as it was. A run that has ended also gets its log joined.
func (h *History) Save(r status.Run) error {
	if !supervisor.ValidName(r.ID) {
		return fmt.Errorf("history: run %q: not a valid id", r.ID)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("history: run %s: %w", r.ID, err)
	}
	if err := writeFile(h.path(r.ID), append(data, '\n')); err != nil {
		return fmt.Errorf("history: save run %s: %w", r.ID, err)
	}
	if !r.Ended.IsZero() {
		// Left as it is on an error: readers join the pieces themselves.
		_ = sealLog(h.LogPath(r.ID))
	}
	return nil
}

// writeFile replaces a file by rename, mode 0600, without sync.
func writeFile(path string, data []byte) error {
	temp := path + ".tmp" // one fixed name: left over, it is overwritten next time
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}

func (h *History) path(id string) string { return filepath.Join(h.dir, id+".json") }

// LogPath is where the first part of a run's output lies while it runs, and
// all that is kept of it afterwards; there may be no such file. OpenLog reads
// it all at any time.
func (h *History) LogPath(id string) string { return filepath.Join(h.dir, id+".log") }

// List returns at most n records, newest first; n ≤ 0: all. A record that
// cannot be read is skipped. The error is that of the directory.
func (h *History) List(n int) ([]status.Run, error) {
	ids, err := h.ids(".json")
	if err != nil {
		return nil, err
	}
	runs := []status.Run{}
	for _, id := range slices.Backward(ids) {
		if n > 0 && len(runs) == n {
			break
		}
		if r, err := h.Show(id); err == nil {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

// Show returns one record; errors.Is(err, fs.ErrNotExist) when there is none.
func (h *History) Show(id string) (status.Run, error) {
	var r status.Run
	if !supervisor.ValidName(id) {
		return r, fmt.Errorf("history: run %q: %w", id, fs.ErrNotExist)
	}
	data, err := os.ReadFile(h.path(id))
	if err != nil {
		return r, fmt.Errorf("history: run %s: %w", id, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return status.Run{}, fmt.Errorf("history: %s: %w", h.path(id), err)
	}
	if r.ID != id {
		return status.Run{}, fmt.Errorf("history: %s: is not the record of run %s", h.path(id), id)
	}
	return r, nil
}

// ids lists the runs that have a file with this ending, oldest first; "" any file.
func (h *History) ids(ending string) ([]string, error) {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	var ids []string
	for _, e := range entries { // sorted by name
		id, rest, ok := strings.Cut(e.Name(), ".")
		if !ok || !supervisor.ValidName(id) || (ending != "" && "."+rest != ending) {
			continue
		}
		if len(ids) == 0 || ids[len(ids)-1] != id {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Prune removes the oldest runs, record and log, until at most keep are left
// and all files take at most maxSize bytes; 0 or less: no such limit. The run
// protect ("" none) and the newest one always stay.
func (h *History) Prune(keep int, maxSize int64, protect string) error {
	ids, err := h.ids("")
	if err != nil {
		return err
	}
	sizes, total := map[string]int64{}, int64(0)
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	for _, e := range entries {
		id, _, _ := strings.Cut(e.Name(), ".")
		if info, err := e.Info(); err == nil && slices.Contains(ids, id) {
			sizes[id] += info.Size()
			total += info.Size()
		}
	}
	var errs []error
	for i, left := 0, len(ids); i < len(ids)-1; i++ {
		over := (keep > 0 && left > keep) || (maxSize > 0 && total > maxSize)
		if !over || ids[i] == protect {
			continue
		}
		errs = append(errs, h.remove(ids[i], entries))
		left--
		total -= sizes[ids[i]]
	}
	return errors.Join(errs...)
}

// remove deletes all files of a run.
func (h *History) remove(id string, entries []fs.DirEntry) error {
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), id+".") {
			if err := os.Remove(filepath.Join(h.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("history: prune: %w", err)
			}
		}
	}
	return nil
}
