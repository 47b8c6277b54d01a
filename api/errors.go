package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/listener-agent/listener/store"
)

// Errors that callers branch on.
var (
	// ErrOff: a run was asked for while the agent is off (409).
	ErrOff = errors.New("the agent is off")
	// ErrInUse: another agent answers on the socket.
	ErrInUse = errors.New("another agent answers on this socket")
	// ErrNoAgent: nothing answers on the socket.
	ErrNoAgent = errors.New("no agent answers")
)

// Error is the body of every answer that is not a success, and what Client
// returns for one. An Agent may return one to choose status and hint itself.
type Error struct {
	// Status is the HTTP status; 0 in an agent's error means 500.
	Status int    `json:"-"`
	Text   string `json:"error"`
	// Hint is what the caller can do; "" when there is nothing to say.
	Hint string `json:"hint,omitempty"`
	// Code is stable, see the table of codes.
	Code string `json:"code"`
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the sentinel of the code, so that errors.Is works on both
// sides of the socket.
func (e *Error) Unwrap() error {
	for _, c := range codes() {
		if c.code == e.Code {
			return c.err
		}
	}
	return nil
}

type code struct {
	err    error
	status int
	code   string
}

// codes is the mapping between errors and answers; the first match counts.
func codes() []code {
	return []code{
		{store.ErrNotFound, http.StatusNotFound, "not_found"},
		{store.ErrConflict, http.StatusPreconditionFailed, "conflict"},
		{store.ErrInvalid, http.StatusBadRequest, "invalid"},
		{store.ErrPermission, http.StatusForbidden, "permission"},
		{ErrOff, http.StatusConflict, "off"},
		{store.ErrUnavailable, http.StatusServiceUnavailable, "unavailable"},
		{store.ErrClosed, http.StatusServiceUnavailable, "unavailable"},
		{store.ErrSession, http.StatusServiceUnavailable, "unavailable"},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, "unavailable"},
		{context.Canceled, http.StatusServiceUnavailable, "unavailable"},
	}
}

// toError makes the answer for any error.
func toError(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		e := *own
		if e.Status == 0 {
			e.Status = http.StatusInternalServerError
		}
		if e.Code == "" {
			e.Code = "internal"
		}
		return &e
	}
	for _, c := range codes() {
		if errors.Is(err, c.err) {
			return &Error{Status: c.status, Text: err.Error(), Hint: hintFor(c.code), Code: c.code}
		}
	}
	return &Error{Status: http.StatusInternalServerError, Text: err.Error(), Code: "internal"}
}

func hintFor(code string) string {
	switch code {
	case "off":
		return "switch it on with `listener on`, or ask with --even-if-off"
	case "conflict":
		return "read it again: somebody else wrote it in between"
	case "permission":
		return "the store refused the agent's credential for this key"
	}
	return ""
}

// invalid is a 400 with a hint.
func invalid(hint, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...), Hint: hint, Code: "invalid"}
}
