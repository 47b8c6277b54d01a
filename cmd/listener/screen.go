package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// screen writes whole lines in the order in which they were given, whoever
// gives them, without what could drive a terminal: a command's output is not
// ours. One goroutine, ended by close, writes.
type screen struct {
	w     io.Writer
	queue chan func()
	ended chan struct{}
}

// screenBuffer is how much may wait for a terminal that was stopped.
const screenBuffer = 1024

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, queue: make(chan func(), screenBuffer), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for f := range s.queue {
			f()
		}
	}()
	return s
}

// line gives one line, and waits if too many do.
func (s *screen) line(format string, args ...any) {
	s.queue <- func() { s.print(format, args...) }
}

// offer has f called in its turn, which may print; when too much waits it is
// dropped.
func (s *screen) offer(f func()) {
	select {
	case s.queue <- f:
	default:
	}
}

// print writes a line at once; only what offer calls may.
func (s *screen) print(format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	_, _ = fmt.Fprintln(s.w, text)
}

// close waits until everything is written. Nothing may be given after it.
func (s *screen) close() {
	close(s.queue)
	<-s.ended
}
