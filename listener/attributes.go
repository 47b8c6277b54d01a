package listener

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/atomicfile"
)

// attributes are the static fallback values in force. The loop's goroutine
// owns them. As with manifests, a broken file leaves in force what was read
// before, also across restarts, and one that vanished counts after
// removalQuiet.
type attributes struct {
	config.Attributes
	// Missing are the files that were not there when these were read.
	Missing []string
	err     error     // why the files as they are now are not in force
	gone    time.Time // since when more are missing; zero: none
}

func (a *Agent) attributesPath() string { return filepath.Join(a.cfg.StateDir, "attributes.json") }

// rememberAttributes starts from the copy of those that were last in force.
func (a *Agent) rememberAttributes() error {
	data, err := os.ReadFile(a.attributesPath())
	if errors.Is(err, fs.ErrNotExist) {
		a.attrs.Missing = a.cfg.Attributes // the first ones count at once
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.attrs)
	}
	if err != nil {
		a.attrs = attributes{Missing: a.cfg.Attributes}
		return fmt.Errorf("read the copy of the attributes: %w", err)
	}
	return nil
}

// loadAttributes reads the files.
func (a *Agent) loadAttributes() {
	now := time.Now()
	read, err := config.LoadAttributes(a.cfg.Attributes)
	missing := missingFiles(err)
	old := &a.attrs
	more := slices.ContainsFunc(missing, func(f string) bool { return !slices.Contains(old.Missing, f) })
	switch {
	case err != nil && !config.OnlyMissing(err):
		old.err, old.gone = err, time.Time{}
		return
	case more && old.gone.IsZero():
		old.gone = now
	}
	if more && now.Sub(old.gone) < removalQuiet {
		return
	}
	a.attrs = attributes{Attributes: read, Missing: missing}
	a.table.staleAll()
	a.saveAttributes()
}

// saveAttributes queues the copy for the disk.
func (a *Agent) saveAttributes() {
	path := a.attributesPath()
	if data, err := json.Marshal(a.attrs); err == nil {
		a.slow.later("attributes copy", func() error { return atomicfile.Write(path, data, 0o600) })
	}
}

// attributesGone looks again at files that vanished.
func (a *Agent) attributesGone() {
	if a.attrs.gone.IsZero() {
		return
	}
	if left := removalQuiet - time.Since(a.attrs.gone); left > 0 {
		a.timers.in(left)
		return
	}
	a.loadAttributes()
}

// missingFiles are the files that err of config.LoadAttributes says do not exist.
func missingFiles(err error) []string {
	var out []string
	if all, ok := errors.AsType[config.Errors](err); ok {
		for _, e := range all {
			if errors.Is(e, fs.ErrNotExist) {
				out = append(out, e.File)
			}
		}
	}
	return out
}
