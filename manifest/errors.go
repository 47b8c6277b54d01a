package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one thing wrong in a manifest: where it is, what it is, and what
// to write instead.
type Error struct {
	File string
	// Line and Column count from 1, columns in characters. Line 0: the file as
	// a whole, or a template that came from no file (then Column may be set).
	Line, Column int
	Pointer      string // JSON pointer (RFC 6901); "" is the manifest itself
	Text         string
	Hint         string // "" when there is nothing to advise

	cause error // of a file that could not be read
}

// Error is "file:line:col: /pointer: text (hint)" without what is not known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	switch {
	case e.Line > 0:
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	case e.Column > 0:
		fmt.Fprintf(&b, "column %d", e.Column)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Pointer != "" {
		b.WriteString(e.Pointer + ": ")
	}
	b.WriteString(e.Text)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap gives the error of the file system, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Errors is everything wrong in one manifest, in the order of the file. It is
// never empty when it is returned as an error.
type Errors []*Error

// Error has one line for each.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As and errors.Is look at each.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return es
}

// position turns a byte offset into a line and a column, both from 1.
func position(data []byte, off int) (line, column int) {
	before := data[:min(off, len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}
