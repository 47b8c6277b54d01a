package throttle

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	wall0 = time.Date(2026, 11, 21, 0, 42, 35, 0, time.UTC)
	now0  = Now{Wall: wall0, Boot: "boot-a", Up: 1000 * time.Second}
	deflt = Settings{MinInterval: 10 * time.Second, Burst: 3, Window: 300 * time.Second}
)

// after moves both clocks on.
func after(n Now, d time.Duration) Now { n.Wall, n.Up = n.Wall.Add(d), n.Up+d; return n }

// reboot is after a boot that took d.
func reboot(n Now, d time.Duration) Now {
	return Now{Wall: n.Wall.Add(d), Boot: "boot-" + strconv.FormatInt(n.Wall.UnixNano(), 36), Up: min(d, 20*time.Second)}
}

func tempFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "last_provision")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustOpen(t *testing.T, path string, now Now, s Settings) *Record {
	t.Helper()
	r, err := Open(path, now, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustAdd(t *testing.T, r *Record, now Now, k Kind) {
	t.Helper()
	if err := r.Add(now, k); err != nil {
		t.Fatal(err)
	}
}

func wantWaits(t *testing.T, what string, r *Record, s Settings, now Now, interval, bucket time.Duration) {
	t.Helper()
	if got := r.Interval(s, now); got != interval {
		t.Errorf("%s: interval %v, want %v", what, got, interval)
	}
	if got := r.Bucket(s, now); got != bucket {
		t.Errorf("%s: bucket %v, want %v", what, got, bucket)
	}
}

func TestMissingFileIsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last_provision")
	r := mustOpen(t, path, now0, deflt)
	wantWaits(t, "empty", r, deflt, now0, 0, 0)
	if _, ok := r.Last(); ok {
		t.Error("there is a last run")
	}
	if n := r.Tokens(deflt, now0); n != 3 {
		t.Errorf("%d tokens, want 3", n)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("Open made a file: %v", err)
	}
}

func TestFileFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last_provision")
	r := mustOpen(t, path, now0, deflt)
	mustAdd(t, r, now0, Auto)
	now := after(now0, 1500*time.Millisecond)
	mustAdd(t, r, now, Auto)
	mustAdd(t, r, now, Manual)
	want := "2026-11-21T00:42:35.000Z boot-a 1000.000000000 auto\n" +
		"2026-11-21T00:42:36.500Z boot-a 1001.500000000 auto\n" +
		"2026-11-21T00:42:36.500Z boot-a 1001.500000000 manual\n"
	if diff := cmp.Diff(want, readFile(t, path)); diff != "" {
		t.Error(diff)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestInterval(t *testing.T) {
	for _, kind := range []Kind{Auto, Retry, Manual} {
		r := mustOpen(t, filepath.Join(t.TempDir(), "f"), now0, deflt)
		mustAdd(t, r, now0, kind)
		for _, tt := range []struct{ age, want time.Duration }{
			{0, 10 * time.Second},
			{9 * time.Second, time.Second},
			{10 * time.Second, 0},
			{time.Hour, 0},
		} {
			if got := r.Interval(deflt, after(now0, tt.age)); got != tt.want {
				t.Errorf("%v after a run of kind %s: %v, want %v", tt.age, kind, got, tt.want)
			}
		}
		if got := r.Interval(Settings{}, now0); got != 0 {
			t.Errorf("min_interval 0: %v", got)
		}
	}
}

func TestBucket(t *testing.T) {
	r := mustOpen(t, filepath.Join(t.TempDir(), "f"), now0, deflt)
	for i := range 3 {
		wantWaits(t, "burst", r, Settings{Burst: 3, Window: 300 * time.Second}, now0, 0, 0)
		if got := r.Tokens(deflt, now0); got != 3-i {
			t.Errorf("%d tokens, want %d", got, 3-i)
		}
		mustAdd(t, r, now0, Auto)
	}
	const each = 100 * time.Second
	for _, tt := range []struct {
		age, want time.Duration
		tokens    int
	}{
		{0, each, 0},
		{40 * time.Second, 60 * time.Second, 0},
		{each, 0, 1},
		{2 * each, 0, 2},
		{3*each - 1, 0, 2},
		{3 * each, 0, 3},
		{time.Hour, 0, 3},
	} {
		now := after(now0, tt.age)
		if got := r.Bucket(deflt, now); got != tt.want {
			t.Errorf("after %v: wait %v, want %v", tt.age, got, tt.want)
		}
		if got := r.Tokens(deflt, now); got != tt.tokens {
			t.Errorf("after %v: %d tokens, want %d", tt.age, got, tt.tokens)
		}
	}
	for _, off := range []Settings{{Burst: 0, Window: time.Hour}, {Burst: 3}, {Burst: -1, Window: -1}} {
		if wait, n := r.Bucket(off, now0), r.Tokens(off, now0); wait != 0 || n != -1 {
			t.Errorf("%+v: wait %v, %d tokens, want no bucket", off, wait, n)
		}
	}
}

func TestOnlyAutoTakesTokens(t *testing.T) {
	r := mustOpen(t, filepath.Join(t.TempDir(), "f"), now0, deflt)
	for range 10 {
		mustAdd(t, r, now0, Retry)
		mustAdd(t, r, now0, Manual)
	}
	if n := r.Tokens(deflt, now0); n != 3 {
		t.Errorf("%d tokens, want 3", n)
	}
}

// A bucket that was larger is never emptier than empty under new settings.
func TestSmallerBucketWaitsForOneToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	large := Settings{Burst: 100, Window: time.Hour}
	r := mustOpen(t, path, now0, large)
	for range 100 {
		mustAdd(t, r, now0, Auto)
	}
	small := Settings{Burst: 2, Window: time.Hour}
	for _, r := range []*Record{r, mustOpen(t, path, now0, small)} {
		wantWaits(t, "smaller", r, small, now0, 0, 30*time.Minute)
	}
	r.Use(small)
	mustAdd(t, r, now0, Auto)
	if n := len(r.stamps); n != 2 {
		t.Errorf("%d stamps kept after Use, want 2", n)
	}
}

func TestClockJumpsWithinABootChangeNothing(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 50 * 365 * 24 * time.Hour, -50 * 365 * 24 * time.Hour} {
		path := filepath.Join(t.TempDir(), "f")
		r := mustOpen(t, path, now0, deflt)
		for range 3 {
			mustAdd(t, r, now0, Auto)
		}
		now := after(now0, 4*time.Second)
		now.Wall = now.Wall.Add(jump)
		wantWaits(t, "running, "+jump.String(), r, deflt, now, 6*time.Second, 96*time.Second)
		wantWaits(t, "restarted, "+jump.String(), mustOpen(t, path, now, deflt), deflt, now, 6*time.Second, 96*time.Second)
	}
}

func TestAcrossBoots(t *testing.T) {
	for _, tt := range []struct {
		name             string
		off              time.Duration // how long the machine was off
		wrong            time.Duration // error of the wall clock after the boot
		interval, bucket time.Duration
	}{
		{"quick boot", 5 * time.Second, 0, 5 * time.Second, 95 * time.Second},
		{"long off", 90 * time.Second, 0, 0, 10 * time.Second},
		{"a day", 24 * time.Hour, 0, 0, 0},
		{"behind a little", 40 * time.Second, -20 * time.Second, 0, 80 * time.Second},
		// The stamps are in the future: together they count as one run now.
		{"behind an hour", 5 * time.Second, -time.Hour, 10 * time.Second, 0},
		{"no clock: 1970", 5 * time.Second, -56 * 365 * 24 * time.Hour, 10 * time.Second, 0},
		{"ahead an hour", 5 * time.Second, time.Hour, 0, 0},
		{"ahead 200 years", 5 * time.Second, 200 * 365 * 24 * time.Hour, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			r := mustOpen(t, path, now0, deflt)
			for range 3 {
				mustAdd(t, r, now0, Auto)
			}
			now := reboot(now0, tt.off)
			now.Wall = now.Wall.Add(tt.wrong)
			r = mustOpen(t, path, now, deflt)
			wantWaits(t, "after the boot", r, deflt, now, tt.interval, tt.bucket)

			// The clock is put right: what was read keeps its age, also for
			// the next agent of this boot.
			now = after(now, time.Second)
			now.Wall = now.Wall.Add(-tt.wrong)
			interval, bucket := max(tt.interval-time.Second, 0), max(tt.bucket-time.Second, 0)
			wantWaits(t, "clock put right", r, deflt, now, interval, bucket)
			wantWaits(t, "clock put right, restarted", mustOpen(t, path, now, deflt), deflt, now, interval, bucket)
		})
	}
}

func TestFutureStampsBecomeOne(t *testing.T) {
	path := tempFile(t, "2026-11-21T00:42:30Z boot-a 995 auto\n"+
		"2026-11-21T00:42:30Z boot-a 1000.5 auto\n"+
		"2027-11-21T00:42:30Z boot-z 7 auto\n"+
		"2027-11-21T00:42:31Z boot-z 8 manual\n")
	mustOpen(t, path, now0, deflt)
	want := "2026-11-21T00:42:30.000Z boot-a 995.000000000 auto\n2026-11-21T00:42:35.000Z boot-a 1000.000000000 auto\n"
	if diff := cmp.Diff(want, readFile(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestGarbageCountsAsJustNowOnce(t *testing.T) {
	good := "2026-11-21T00:41:35.000Z boot-a 940.000000000 auto\n"
	for _, tt := range []struct {
		name, text, want string // want: part of the error
		kept             string
	}{
		{"zero bytes", "", "the file is empty", ""},
		{"NULs", "\x00\x00\x00\x00", "line 1: cut off", ""},
		{"words", "hello\nworld\n", "line 1: 1 fields, not 4", ""},
		{"cut off", good + "2026-11-21T00:42:3", "line 2: cut off", good},
		{"empty line", "\n", "line 1: 1 fields, not 4", ""},
		{"time", "yesterday boot-a 1 auto\n", "line 1: the time is not RFC 3339", ""},
		{"boot", "2026-11-21T00:41:35Z boot\x01a 1 auto\n", "line 1: not a boot id", ""},
		{"kind", "2026-11-21T00:41:35Z boot-a 1 other\n", "line 1: the last field", ""},
		{"not a number", "2026-11-21T00:41:35Z boot-a NaN auto\n", "line 1: seconds since boot: not a number", ""},
		{"out of range", "2026-11-21T00:41:35Z boot-a 99999999999 auto\n", "line 1: seconds since boot: out of range", ""},
		{"1 MB and a byte", strings.Repeat("x", maxFile+1), "larger than", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tempFile(t, tt.text)
			r, err := Open(path, now0, deflt)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "read "+path+": ") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if got := r.Interval(deflt, now0); got != deflt.MinInterval {
				t.Errorf("interval %v, want all of it", got)
			}
			want := tt.kept + "2026-11-21T00:42:35.000Z boot-a 1000.000000000 auto\n"
			if diff := cmp.Diff(want, readFile(t, path)); diff != "" {
				t.Error(diff)
			}
			now := after(now0, 4*time.Second)
			if got := mustOpen(t, path, now, deflt).Interval(deflt, now); got != 6*time.Second {
				t.Errorf("4 s later: interval %v, want 6 s", got)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last_provision")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path, now0, deflt)
	if err == nil || !strings.Contains(err.Error(), "counted as a run just now") || !strings.Contains(err.Error(), "write "+path) {
		t.Errorf("error %v", err)
	}
	wantWaits(t, "unreadable", r, deflt, now0, 10*time.Second, 0)

	// It cannot be written either: the runs count in memory.
	for range 2 {
		if err := r.Add(now0, Auto); err == nil {
			t.Error("no error from Add")
		}
	}
	wantWaits(t, "in memory", r, deflt, now0, 10*time.Second, 100*time.Second)

	// Once it can be, everything is in it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, r, now0, Manual)
	wantWaits(t, "written again", mustOpen(t, path, now0, deflt), deflt, now0, 10*time.Second, 100*time.Second)
}

func TestUnknownBootUsesTheWallClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	now := Now{Wall: wall0}
	r := mustOpen(t, path, now, deflt)
	mustAdd(t, r, now, Auto)
	now.Wall = now.Wall.Add(4 * time.Second)
	wantWaits(t, "running", r, deflt, now, 6*time.Second, 0)
	wantWaits(t, "restarted", mustOpen(t, path, now, deflt), deflt, now, 6*time.Second, 0)
}
