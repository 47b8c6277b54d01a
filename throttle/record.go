package throttle

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	// maxFile is the size from which a file is taken for garbage unread.
	maxFile = 1 << 20
	// maxStamps bounds the file where Burst does not.
	maxStamps = 4096
	// maxBurst is the largest Burst that is told from a larger one.
	maxBurst = 1 << 20
)

// Record remembers when runs started, in memory and in a file, so that an agent
// that starts again (or crashes all the time) still spaces its runs. One
// goroutine owns it; it is not safe for concurrent use.
type Record struct {
	path     string
	settings Settings
	// stamps are in order of Up, all of one boot, none after the last reading
	// of the clock; see prune for how many.
	stamps []Stamp
	// size of the file as this Record wrote it last; 0: it did not, or failed.
	size int
}

// Open reads the record at path; a missing file is an empty record. The Record
// can be used even if there is an error.
//
// What is read becomes stamps of this boot: those of another boot by their wall
// time, all future ones (a clock that was ahead then, or is behind now) as one
// stamp, now. A file that cannot be read, is empty or has bad lines counts as
// one automatic run just now, in place of what is bad, and the error says so.
// Whatever changed in this way is written back, so that it counts once, and a
// clock set while the agent is down changes nothing within a boot.
func Open(path string, now Now, s Settings) (*Record, error) {
	r := &Record{path: path, settings: s}
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var stamps []Stamp
	if err == nil {
		stamps, err = parseStamps(data)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w; counted as a run just now", path, err)
		stamps = append(stamps, Stamp{Wall: now.Wall, Boot: now.Boot, Up: now.Up, Kind: Auto})
	}
	r.stamps = rebase(stamps, now)
	r.prune()
	if err != nil || !slices.Equal(r.encode(), data) {
		err = errors.Join(err, r.write())
	}
	return r, err
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxFile)
	}
	return data, nil
}

// rebase counts all stamps from this boot, future ones as one stamp now.
func rebase(stamps []Stamp, now Now) []Stamp {
	var past []Stamp
	ahead := Stamp{Wall: now.Wall, Boot: now.Boot, Up: now.Up}
	for _, s := range stamps {
		age := s.Age(now)
		if age < 0 {
			if ahead.Kind != Auto {
				ahead.Kind = s.Kind // one that takes a token outweighs the others
			}
			continue
		}
		s.Boot, s.Up = now.Boot, now.Up-min(age, maxSpan/2)
		past = append(past, s)
	}
	slices.SortStableFunc(past, func(a, b Stamp) int { return cmp.Compare(a.Up, b.Up) })
	if ahead.Kind != "" {
		past = append(past, ahead)
	}
	return past
}

// Use takes new settings, after a reload. They say which stamps Add keeps.
func (r *Record) Use(s Settings) { r.settings = s }

// Last returns the start of the last run of any kind, if one is remembered.
func (r *Record) Last() (Stamp, bool) {
	if len(r.stamps) == 0 {
		return Stamp{}, false
	}
	return r.stamps[len(r.stamps)-1], true
}

// Add records that a run starts now. When it returns, the file says so (it is
// not synced: a power loss is followed by a boot, which forces a run anyway). On
// error the stamp counts all the same, for as long as this Record lives, and
// the next Add writes it too.
func (r *Record) Add(now Now, k Kind) error {
	if last, ok := r.Last(); ok && now.Boot == last.Boot {
		now.Up = max(now.Up, last.Up) // keeps the order if a clock fails
	}
	r.stamps = append(r.stamps, Stamp{Wall: now.Wall, Boot: now.Boot, Up: now.Up, Kind: k})
	r.prune()
	return r.write()
}

// Write writes the file once more, after Add could not.
func (r *Record) Write() error { return r.write() }

// Interval returns what remains of MinInterval since the start of the last run
// of any kind: a manual run or a retry loads the node as much as any other. 0: open.
func (r *Record) Interval(s Settings, now Now) time.Duration {
	last, ok := r.Last()
	if !ok {
		return 0
	}
	return max(s.MinInterval-max(last.Age(now), 0), 0)
}

// Bucket returns the time until the bucket has a token for an automatic run,
// at most Window/Burst. 0: open.
func (r *Record) Bucket(s Settings, now Now) time.Duration {
	g := gauge{s}
	if g.off() {
		return 0
	}
	full := g.fullAt(r.current(now))
	return min(max(full-g.span()+g.each()-now.Up, 0), g.each())
}

// Tokens returns how many automatic runs the bucket would let through now; -1:
// there is no bucket.
func (r *Record) Tokens(s Settings, now Now) int {
	g := gauge{s}
	if g.off() {
		return -1
	}
	missing := max(g.fullAt(r.current(now))-now.Up, 0)
	return int(max(g.burst()-(missing+g.each()-1)/g.each(), 0))
}

// current returns the stamps as of now's boot; in all but a test or a restored
// checkpoint that is what they are.
func (r *Record) current(now Now) []Stamp {
	for _, s := range r.stamps {
		if s.Boot != now.Boot || s.Boot == "" {
			return rebase(r.stamps, now)
		}
	}
	return r.stamps
}

// prune drops what no gate asks for any more: it keeps the last run of any
// kind and as many automatic runs as there are tokens missing at that time, at
// most Burst. An automatic run that is kept for one that is dropped moves to
// when the bucket began to miss that many, so that it fills up at the same time as
// with the whole history.
func (r *Record) prune() {
	last, ok := r.Last()
	if !ok {
		return
	}
	g := gauge{r.settings}
	keep, floor := 0, time.Duration(0)
	if !g.off() {
		full := g.fullAt(r.stamps)
		keep = int(max(full-last.Up+g.each()-1, 0) / g.each())
		floor = full - time.Duration(keep)*g.each()
	}
	keep = min(keep, maxStamps)
	var kept []Stamp
	for i, s := range slices.Backward(r.stamps) {
		if s.Kind == Auto && keep > 0 {
			keep--
			if moved := floor - s.Up; moved > 0 {
				s.Up, s.Wall = floor, s.Wall.Add(moved)
			}
			kept = append(kept, s)
		} else if i == len(r.stamps)-1 {
			kept = append(kept, s)
		}
	}
	slices.Reverse(kept)
	r.stamps = kept
}

func (r *Record) encode() []byte {
	var b []byte
	for _, s := range r.stamps {
		b = appendStamp(b, s)
	}
	return b
}

// gauge computes a token bucket from the times at which tokens were taken. Its
// state is one time: when the bucket will be full again.
type gauge struct{ s Settings }

func (g gauge) off() bool { return g.s.Burst <= 0 || g.s.Window <= 0 }

// each is the time in which one token comes back.
func (g gauge) each() time.Duration {
	window, burst := min(g.s.Window, maxSpan), g.burst()
	return (window + burst - 1) / burst // rounded up: never more runs than promised
}

// span is the time in which an empty bucket fills up.
func (g gauge) span() time.Duration { return g.each() * g.burst() }

// burst is a factor for durations, small enough not to overflow.
func (g gauge) burst() time.Duration { return time.Duration(min(g.s.Burst, maxBurst)) }

// fullAt returns when the bucket is full, in terms of Up. Each stamp takes one
// token; a bucket is never emptier than empty (Burst may have been larger then).
func (g gauge) fullAt(stamps []Stamp) time.Duration {
	full := -maxSpan // no stamp is older
	for _, s := range stamps {
		if s.Kind == Auto {
			full = min(max(full, s.Up)+g.each(), s.Up+g.span())
		}
	}
	return full
}
