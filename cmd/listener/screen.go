package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
)

// screen writes whole lines from several goroutines, without what could drive
// a terminal: a command's output is not ours.
type screen struct {
	mu sync.Mutex
	w  io.Writer
}

func newScreen(w io.Writer) *screen { return &screen{w: w} }

func (s *screen) line(format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintln(s.w, text)
}
