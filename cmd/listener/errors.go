package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/local"
	"github.com/listener-agent/listener/store/nats"
	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnreachable = 5
	exitWaiting     = 75 // EX_TEMPFAIL of sysexits.h
	exitSettings    = 78 // EX_CONFIG of sysexits.h
	exitInterrupted = 130
)

// cliError adds a hint or an exit code to an error. A nil err prints nothing.
type cliError struct {
	err  error
	hint string
	code int // 0: what the cause says
}

func (e *cliError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *cliError) Unwrap() error { return e.err }

// hinted adds what the user can do.
func hinted(err error, hint string) error { return &cliError{err: err, hint: hint} }

// exit ends with code; the command said itself why.
func exit(code int) error {
	if code == exitOK {
		return nil
	}
	return &cliError{code: code}
}

// failed ends with code and text.
func failed(code int, hint, format string, args ...any) error {
	return &cliError{err: fmt.Errorf(format, args...), hint: hint, code: code}
}

// usage makes err one of usage. c, which returned it before it began, may be nil.
func usage(c *cobra.Command, err error) error {
	hint := "`listener --help` lists the commands"
	text, near, _ := strings.Cut(err.Error(), "\n\nDid you mean this?\n\t")
	if near != "" { // cobra's list, one a line
		err = errors.New(text)
		hint = "is it `listener " + strings.Join(strings.Fields(near), "`, `listener ") + "`? " + hint
	} else if c != nil && c.HasParent() {
		hint = "usage: " + c.UseLine() + "; `" + c.CommandPath() + " --help` says more"
	}
	if own, ok := errors.AsType[*cliError](err); ok && own.hint != "" {
		hint = own.hint
	}
	return &cliError{err: err, hint: hint, code: exitUsage}
}

// fail prints err as `listener: error:` and `listener: hint:` lines and
// returns the exit code.
func (a *app) fail(err error) int {
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if own, ok := errors.AsType[*cliError](err); ok && own.err == nil || code == exitInterrupted {
		return code
	}
	for _, e := range each(err) {
		text, hint := split(e)
		for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
			a.note("error: %s", line)
		}
		if hint != "" {
			a.note("hint: %s", hint)
		}
	}
	return code
}

func exitCode(err error) int {
	if own, ok := errors.AsType[*cliError](err); ok && own.code != 0 {
		return own.code
	}
	if remote, ok := errors.AsType[*api.Error](err); ok {
		switch remote.Code {
		case "settings":
			return exitSettings
		case "invalid", "too_large":
			return exitUsage
		}
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return exitSettings
	}
	if _, ok := errors.AsType[*manifest.Error](err); ok {
		return exitSettings
	}
	for _, c := range []struct {
		err  error
		code int
	}{
		{store.ErrNotFound, exitNotFound},
		{store.ErrConflict, exitConflict},
		{store.ErrInvalid, exitUsage},
		{store.ErrUnavailable, exitUnreachable},
		{store.ErrClosed, exitUnreachable},
		{api.ErrNoAgent, exitUnreachable},
		{context.DeadlineExceeded, exitUnreachable},
		{context.Canceled, exitInterrupted},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return exitFailed
}

// each takes lists of errors apart: what prints one line per error.
func each(err error) []error {
	list, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // only the outermost is a list
	if !ok {
		return []error{err}
	}
	var out []error
	var lines []string
	for _, e := range list.Unwrap() {
		out = append(out, each(e)...)
		lines = append(lines, e.Error())
	}
	if err.Error() != strings.Join(lines, "\n") { // a sentence with several causes
		return []error{err}
	}
	return out
}

// split takes the hint out of an error.
func split(err error) (text, hint string) {
	if own, ok := errors.AsType[*cliError](err); ok && own.hint != "" {
		return err.Error(), own.hint
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return err.Error(), e.Hint
	}
	if e, ok := errors.AsType[*config.Error](err); ok && e.Hint != "" {
		return strings.TrimSuffix(err.Error(), " ("+e.Hint+")"), e.Hint
	}
	if e, ok := errors.AsType[*local.Error](err); ok && e.Hint != "" {
		return strings.TrimSuffix(err.Error(), " ("+e.Hint+")"), e.Hint
	}
	if e, ok := errors.AsType[*nats.Error](err); ok && e.Hint != "" {
		return strings.TrimSuffix(err.Error(), " ("+e.Hint+")"), e.Hint
	}
	return err.Error(), ""
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
