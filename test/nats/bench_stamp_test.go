package nats_test

import (
	"slices"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
)

// stamps is the pipe on which commands report.
type stamps struct{ benchenv.Stamps }

func openStamps(b *testing.B, path string) stamps {
	b.Helper()
	s, err := benchenv.OpenStamps(path)
	must(b, err)
	b.Cleanup(func() { s.Close() })
	return stamps{s}
}

// next waits for the next command's first instruction.
func (s stamps) next(b *testing.B) time.Duration {
	b.Helper()
	at, err := s.Next()
	must(b, err)
	return at
}

// spread is how far the medians of the rounds are apart, in percent.
func spread(s benchenv.Series) float64 {
	return 100 * float64(slices.Max(s.Medians)-slices.Min(s.Medians)) / float64(s.Median())
}

// part is the sample that a part of all do not exceed.
func part(list []time.Duration, of float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(of*float64(len(sorted)-1)+0.5)]
}
