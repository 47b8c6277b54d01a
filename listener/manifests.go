package listener

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/manifest"
)

// removalQuiet is how long nothing in the manifests may change before a
// manifest that vanished counts as removed: a checkout in progress removes and
// rewrites files.
const removalQuiet = 5 * time.Second

// services is the set of manifests in force. The loop's goroutine owns it.
//
// A broken manifest leaves its last good version in force; that version is
// also kept in dir, across restarts.
type services struct {
	dir    string // state_dir/manifests
	active map[string]*inForce
	// problems is what status says of the last scan.
	problems []manifest.Problem
	// missing are directories that could not be read; allGone that every
	// manifest vanished at once. Both keep what is in force until accept.
	missing []manifest.DirError
	allGone bool

	changedAt time.Time         // of the last scan that differed from the one before
	last      [sha256.Size]byte // fingerprint of the last scan
	unsaved   map[string][]byte // copies to write; nil: to remove
	saveNext  time.Time         // after a copy could not be written
}

// inForce is one manifest that the agent acts on.
type inForce struct {
	m    *manifest.Manifest
	sum  [sha256.Size]byte // of what it was parsed from, to see a change
	gone bool              // its file vanished; removed after removalQuiet
}

// loadServices reads the last good manifests of an earlier start. A copy that
// does not parse is dropped: its source is read again anyway.
func loadServices(dir string) (*services, error) {
	s := &services{dir: dir, active: map[string]*inForce{}, unsaved: map[string][]byte{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		path := filepath.Join(dir, f.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return s, err
		}
		if m, err := manifest.Parse(path, data); err == nil {
			s.active[id] = &inForce{m: m, sum: sha256.Sum256(data)}
		}
	}
	return s, nil
}

// scan is what the manifests directories held at one moment.
type scan struct {
	files   []manifest.File
	dirErrs []manifest.DirError
}

func readScan(dirs []string) scan {
	files, errs := manifest.ReadDirs(dirs)
	return scan{files, errs}
}

// fingerprint differs when anything in the scan does.
func (sc scan) fingerprint() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, f := range sc.files {
		fmt.Fprintf(h, "%s\x00%s\x00%v\x00", f.Path, f.Raw, f.Err)
	}
	for _, e := range sc.dirErrs {
		fmt.Fprintf(h, "%v\x00", e)
	}
	h.Sum(sum[:0])
	return sum
}

// take makes sc the set in force, as far as it may be, for a node of
// the given federation. It reports whether the set changed.
func (s *services) take(sc scan, federation string, now time.Time) (changed bool) {
	if fp := sc.fingerprint(); fp != s.last {
		s.last, s.changedAt = fp, now
	}
	s.missing, s.problems = sc.dirErrs, nil
	seen := map[string]string{} // id → the first file of that name
	good := map[string]manifest.File{}
	for _, f := range sc.files {
		id := strings.TrimSuffix(filepath.Base(f.Path), ".json")
		other, dup := seen[id]
		if !dup {
			seen[id] = f.Path
		}
		switch {
		case f.Err != nil:
			s.problems = append(s.problems, manifest.Problem{File: f.Path, Service: id, Text: f.Err.Error()})
		case dup: // also while the first is broken: its last good version is in force
			s.problems = append(s.problems, manifest.Problem{
				File: f.Path, Other: other, Service: id,
				Text: fmt.Sprintf("the service %q is already declared by %s", id, other),
				Hint: "remove one of the two",
			})
		default:
			good[id] = f
		}
	}
	s.refuseFederations(good, federation)
	for _, id := range slices.Sorted(maps.Keys(good)) {
		f := good[id]
		old, sum := s.active[id], sha256.Sum256(f.Raw)
		if old != nil && old.sum == sum {
			if old.m.File != f.Path { // loaded from its copy, or moved
				old.m = f.Manifest
			}
			old.gone = false
			continue
		}
		s.active[id] = &inForce{m: f.Manifest, sum: sum}
		s.unsaved[id] = f.Raw
		changed = true
	}
	return s.vanished(seen, len(sc.files), now) || changed
}

// refuseFederations takes manifests of another federation out of good.
func (s *services) refuseFederations(good map[string]manifest.File, federation string) {
	own := ""
	for _, id := range slices.Sorted(maps.Keys(good)) {
		if f := good[id]; f.Manifest.Federation == federation {
			own = f.Path
			break
		}
	}
	for _, id := range slices.Sorted(maps.Keys(good)) {
		f := good[id]
		if f.Manifest.Federation == "" || f.Manifest.Federation == federation {
			continue
		}
		with := "this node"
		if own != "" {
			with = own
		}
		s.problems = append(s.problems, manifest.Problem{
			File: f.Path, Other: own, Service: id,
			Text: fmt.Sprintf("federation %q, but %s belongs to %q; the manifest is refused", f.Manifest.Federation, with, federation),
			Hint: "a node belongs to exactly one federation: move the service to another node, or set federation in the settings",
		})
		delete(good, id)
	}
}

// vanished handles manifests that are in force and whose file is not there.
func (s *services) vanished(seen map[string]string, files int, now time.Time) (changed bool) {
	var gone []string
	for id, a := range s.active {
		a.gone = seen[id] == ""
		if a.gone {
			gone = append(gone, id)
		}
	}
	s.allGone = len(gone) > 0 && files == 0
	if len(gone) == 0 || s.allGone || len(s.missing) > 0 || now.Sub(s.changedAt) < removalQuiet {
		return false
	}
	for _, id := range gone {
		s.remove(id)
	}
	return true
}

func (s *services) remove(id string) {
	delete(s.active, id)
	s.unsaved[id] = nil
}

// removalIn is how long until a vanished manifest counts as removed; ok is
// false when none waits for that.
func (s *services) removalIn(now time.Time) (d time.Duration, ok bool) {
	if s.allGone || len(s.missing) > 0 {
		return 0, false
	}
	for _, a := range s.active {
		if a.gone {
			return max(0, removalQuiet-now.Sub(s.changedAt)), true
		}
	}
	return 0, false
}

// acceptGone removes every manifest whose file is not there and names them.
func (s *services) acceptGone() []string {
	var out []string
	for id, a := range s.active {
		if a.gone {
			s.remove(id)
			out = append(out, id)
		}
	}
	s.allGone = false
	slices.Sort(out)
	return out
}

// federations that manifests of sc name, sorted.
func (sc scan) federations() []string {
	var out []string
	for _, f := range sc.files {
		if f.Err == nil && f.Manifest.Federation != "" {
			out = append(out, f.Manifest.Federation)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// save writes the copies that changed. Those that cannot be written are kept
// for the next call.
func (s *services) save() error {
	var first error
	failed := 0
	for _, id := range slices.Sorted(maps.Keys(s.unsaved)) {
		path, raw := filepath.Join(s.dir, id+".json"), s.unsaved[id]
		var err error
		if raw != nil {
			err = atomicfile.Write(path, raw, 0o600)
		} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err == nil {
			delete(s.unsaved, id)
			continue
		}
		if failed++; first == nil {
			first = err
		}
	}
	if failed > 1 {
		return fmt.Errorf("%w, and %d more", first, failed-1)
	}
	return first
}

// saveAgain is when copies of manifests that could not be written are tried again.
const saveAgain = 5 * time.Second

// saveManifests writes the copies before anything is done with a manifest:
// killed a moment later and with its file gone or broken, the agent would
// otherwise know nothing of a service that it provisioned.
func (a *Agent) saveManifests() {
	if len(a.svcs.unsaved) == 0 {
		return
	}
	if left := time.Until(a.svcs.saveNext); left > 0 {
		a.timers.in(left)
		return
	}
	err := a.svcs.save()
	a.fault("manifests copy", err)
	if err != nil {
		a.svcs.saveNext = time.Now().Add(saveAgain)
		a.timers.in(saveAgain)
	}
	a.slow.sync(a.svcs.dir)
}
