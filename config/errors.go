package config

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is one problem of one setting, file or variable.
type Error struct {
	// File is where it was said: a path, "environment NAME" or "flag --NAME";
	// empty for a default that does not work here.
	File string
	// Line and Column begin at 1, in bytes; 0: not known or not in a file.
	Line, Column int
	// Name is the setting, such as store.kind; empty for a whole file.
	Name string
	// Text says what is wrong, Hint what to write or do; Hint may be empty.
	Text, Hint string
	// Err is the cause, such as fs.ErrNotExist; nil: none.
	Err error
}

// Error gives "file:line:column: name: text (hint)" without what is not there.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(oneLine(e.File))
		if e.Line > 0 {
			b.WriteString(":" + strconv.Itoa(e.Line))
			if e.Column > 0 {
				b.WriteString(":" + strconv.Itoa(e.Column))
			}
		}
		b.WriteString(": ")
	}
	if e.Name != "" {
		b.WriteString(oneLine(e.Name) + ": ")
	}
	b.WriteString(e.Text)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is.
func (e *Error) Unwrap() error { return e.Err }

// Errors is all that is wrong, in the order in which it was read.
type Errors []*Error

// Error gives one line per problem.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each problem to errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// err is nil when there is no problem: a nil Errors in an error is not nil.
func (es Errors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// oneLine keeps names of files and settings from breaking a line of output.
func oneLine(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return strconv.Quote(s)
	}
	return s
}

func isMissing(e *Error) bool { return errors.Is(e, fs.ErrNotExist) }

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }
