package benchenv

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RSSAnon is the memory that is the process's own, see proc(5).
func RSSAnon(b *testing.B, pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssAnon:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb << 10
}

// Series are the samples of several rounds.
type Series struct {
	All, Medians []time.Duration
	Sizes        []int64
}

// Add takes the samples of one round.
func (s *Series) Add(round []time.Duration) {
	s.All = append(s.All, round...)
	s.Medians = append(s.Medians, Median(round))
}

// Median is that of the rounds' medians.
func (s *Series) Median() time.Duration { return Median(s.Medians) }

// P95 is that of all samples.
func (s *Series) P95() time.Duration { return quantile(s.All, 0.95) }

// Median returns the middle one.
func Median[T time.Duration | int64](list []T) T { return quantile(list, 0.5) }

func quantile[T time.Duration | int64](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// Millis is a time as text.
func Millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// Megas is a size as text.
func Megas(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// Title begins the figures of one benchmark.
func Title(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

// Line prints one figure.
func Line(name, format string, args ...any) {
	fmt.Printf("  %-36s %s\n", name, fmt.Sprintf(format, args...))
}

// Target prints a figure beside what it should be at most.
func Target(name, figure, most string, met bool) {
	verdict := "ok"
	if !met {
		verdict = "MISSED"
	}
	Line(name, "%s, target %s: %s", figure, most, verdict)
}
