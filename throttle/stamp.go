package throttle

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says why a run started.
type Kind string

// The kinds of runs.
const (
	Auto   Kind = "auto"   // something was due; takes a token
	Retry  Kind = "retry"  // a failed step again
	Manual Kind = "manual" // somebody asked for it
)

// Stamp is the start of one run.
type Stamp struct {
	Wall time.Time
	Boot string // "": unknown
	// Up is the time since the boot named by Boot; negative for a run of an
	// earlier boot, which Open counts on from this one's start.
	Up   time.Duration
	Kind Kind
}

// Age is how long ago s was: by Up within a boot, by Wall across boots and where
// the boot is unknown. It is negative for a stamp in the future.
func (s Stamp) Age(now Now) time.Duration {
	if s.Boot == now.Boot && s.Boot != "" {
		return now.Up - s.Up
	}
	return now.Wall.Sub(s.Wall)
}

// unknownBoot stands for an empty boot id in the file.
const unknownBoot = "-"

const wallLayout = "2006-01-02T15:04:05.000Z07:00" // RFC 3339, milliseconds

// appendStamp writes one line of last_provision:
// RFC3339 boot-id seconds-since-boot kind.
func appendStamp(b []byte, s Stamp) []byte {
	boot := s.Boot
	if boot == "" {
		boot = unknownBoot
	}
	b = s.Wall.UTC().AppendFormat(b, wallLayout)
	b = append(append(append(b, ' '), boot...), ' ')
	up := s.Up
	if up < 0 {
		b, up = append(b, '-'), -up
	}
	// All nine digits: a stamp means the same before and after a restart.
	b = fmt.Appendf(b, "%d.%09d ", up/time.Second, up%time.Second)
	return append(append(b, s.Kind...), '\n')
}

// parseStamps reads last_provision. It returns the good lines and an error
// that names the first bad one; no bytes at all are an error too, since an
// empty file is what a power loss leaves of one that was written.
func parseStamps(data []byte) ([]Stamp, error) {
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	var (
		stamps []Stamp
		bad    error
	)
	line := 0
	for l := range bytes.Lines(data) {
		line++
		s, err := parseStamp(l)
		switch {
		case err == nil:
			stamps = append(stamps, s)
		case bad == nil:
			bad = fmt.Errorf("line %d: %w", line, err)
		}
	}
	return stamps, bad
}

func parseStamp(line []byte) (Stamp, error) {
	text, ok := strings.CutSuffix(string(line), "\n")
	if !ok {
		return Stamp{}, errors.New("cut off")
	}
	f := strings.Split(text, " ")
	if len(f) != 4 {
		return Stamp{}, fmt.Errorf("%d fields, not 4", len(f))
	}
	wall, err := time.Parse(time.RFC3339, f[0])
	if y := wall.UTC().Year(); err != nil || y < 1 || y > 9999 { // what can be written again
		return Stamp{}, errors.New("the time is not RFC 3339")
	}
	if !bootName(f[1]) {
		return Stamp{}, errors.New("not a boot id")
	}
	up, err := parseSeconds(f[2])
	if err != nil {
		return Stamp{}, fmt.Errorf("seconds since boot: %w", err)
	}
	s := Stamp{Wall: wall, Boot: f[1], Up: up, Kind: Kind(f[3])}
	if s.Boot == unknownBoot {
		s.Boot = ""
	}
	switch s.Kind {
	case Auto, Retry, Manual:
		return s, nil
	}
	return Stamp{}, errors.New("the last field is not auto, retry or manual")
}

// bootName accepts what may be a boot id: printable, no blanks, not endless.
func bootName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// parseSeconds reads decimal seconds with at most nine digits after the point.
func parseSeconds(s string) (time.Duration, error) {
	errSeconds := errors.New("not a number of seconds")
	digits, negative := strings.CutPrefix(s, "-")
	whole, frac, point := strings.Cut(digits, ".")
	if point && (frac == "" || len(frac) > 9) {
		return 0, errSeconds
	}
	sec, err := strconv.ParseUint(whole, 10, 63)
	if err != nil {
		return 0, errSeconds
	}
	nsec, err := strconv.ParseUint((frac + "000000000")[:9], 10, 63)
	if err != nil {
		return 0, errSeconds
	}
	if sec > uint64(maxSpan/time.Second)-1 {
		return 0, errors.New("out of range")
	}
	d := time.Duration(sec)*time.Second + time.Duration(nsec)
	if negative {
		d = -d
	}
	return d, nil
}
