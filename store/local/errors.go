package local

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/listener-agent/listener/store"
)

// Errors of the file. Both are store.ErrUnavailable too, and come inside an
// *Error that says what to do.
var (
	// ErrLocked: another process has the file open.
	ErrLocked = fmt.Errorf("%w: another process has the file open", store.ErrUnavailable)
	// ErrCorrupt: the file is not a store, or not a whole one. OpenOrReset
	// moves it aside.
	ErrCorrupt = fmt.Errorf("%w: the file is not a store, or damaged", store.ErrUnavailable)
)

// Error is what is wrong with the file of a store.
type Error struct {
	Path string
	Err  error
	Hint string // what an operator can do; may be ""
}

func (e *Error) Error() string {
	text := e.Path + ": " + e.Err.Error()
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

func corrupt(path, what string) error {
	return &Error{
		Path: path,
		Err:  fmt.Errorf("%w: %s", ErrCorrupt, what),
		Hint: "move it away, or put a backup in its place: without a file an empty store is started",
	}
}

func locked(path string) error {
	return &Error{Path: path, Err: ErrLocked, Hint: "an agent has it open: use its socket, or stop it"}
}

// unavailable wraps a failure of the file system.
func unavailable(path string, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "its directory must exist"
	case errors.Is(err, fs.ErrPermission):
		hint = "the file belongs to the user that the agent runs as"
	}
	return &Error{Path: path, Err: fmt.Errorf("%w: %w", store.ErrUnavailable, err), Hint: hint}
}
