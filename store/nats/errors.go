package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
)

// Error is what keeps the store from working, with what can be done about it.
type Error struct {
	Err  error
	Hint string // what an operator can do; may be ""
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + " (" + e.Hint + ")"
}

func (e *Error) Unwrap() error { return e.Err }

// Reasons of an Error that callers may branch on. Both are
// store.ErrUnavailable too.
var (
	// ErrServer: the server is too old, or has no JetStream.
	ErrServer = fmt.Errorf("%w: the server cannot hold the store", store.ErrUnavailable)
	// ErrBucket: the bucket that is there has settings that lose data.
	ErrBucket = fmt.Errorf("%w: the bucket cannot hold the store", store.ErrUnavailable)
)

// errRace is the server's no to a write: a key was not at the sequence that
// was read. It stays inside the package.
var errRace = errors.New("written at the same time")

// errUnsure: nobody knows whether a write was done.
var errUnsure = errors.New("a write was not acknowledged, it may have been done")

// known says whether an error needs no wrapping.
func known(err error) bool {
	for _, e := range []error{
		store.ErrNotFound, store.ErrConflict, store.ErrUnavailable, store.ErrPermission, store.ErrSession, store.ErrClosed, store.ErrInvalid,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func unavailable(err error) error {
	if err == nil || known(err) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// refused says whether trying again at once is of no use: somebody has to
// change something first.
func refused(err error) bool {
	return errors.Is(err, store.ErrPermission) || errors.Is(err, ErrServer) || errors.Is(err, ErrBucket) || errors.Is(err, errFile)
}

// errFile: a file of the options cannot be used.
var errFile = fmt.Errorf("%w: credentials cannot be read", store.ErrUnavailable)

// connectError makes the error of a failed connection.
func connectError(servers []string, err error) error {
	to := strings.Join(servers, ", ")
	for _, e := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, e) {
			return &Error{
				Err:  fmt.Errorf("%w: %s: %w", store.ErrPermission, to, err),
				Hint: "check creds_file or nkey_file of [store.nats], and that the server knows this user",
			}
		}
	}
	if known(err) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, to, err)
}

// permissionError reads the server's complaint: the subject that it is about,
// whether for publishing or subscribing, and what is to be said of it.
func permissionError(err error) (subject string, publishing bool, denied error) {
	_, rest, _ := strings.Cut(err.Error(), `"`)
	subject, _, _ = strings.Cut(rest, `"`)
	publishing = strings.Contains(strings.ToLower(err.Error()), "publish")
	verb := "subscribe to"
	if publishing {
		verb = "publish to"
	}
	return subject, publishing, &Error{
		Err:  fmt.Errorf("%w: this user may not %s %s", store.ErrPermission, verb, subject),
		Hint: "grant it; `listener acl nats` prints what a node needs",
	}
}

// apiError is how JetStream says no.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// The codes that something is made of here.
const (
	codeStreamNotFound   = 10059
	codeNotForAccount    = 10039 // no JetStream
	codeNotEnabled       = 10076 // on the whole server
	codeWrongSequence    = 10071
	codeWrongSequence2   = 10164 // the same, in a batch or a cluster
	codeStoreFailed      = 10077
	codeBatchIncomplete  = 10176
	codeBatchInflight    = 10210
	codeBatchInflight2   = 10211
	codeNoResources      = 10023
	codeStorageExceeded  = 10047
	codeAccountExceeded  = 10002
	codeMaxBytesExceeded = 10122
)

// writeError makes the error of a write that JetStream refused.
func (e *apiError) writeError() error {
	switch e.ErrCode {
	case codeWrongSequence, codeWrongSequence2:
		return errRace
	case codeBatchIncomplete, codeBatchInflight, codeBatchInflight2:
		return fmt.Errorf("%w: %w", errBusy, e)
	case codeStoreFailed, codeNoResources, codeStorageExceeded, codeAccountExceeded, codeMaxBytesExceeded:
		return &Error{
			Err:  fmt.Errorf("%w: %w", store.ErrUnavailable, e),
			Hint: "the server takes no more: look at max_bytes of the bucket, at the limits of the account and at the disk",
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, e)
}

// errBusy: the server had too many batches under way; nothing was written.
var errBusy = errors.New("too many commits at once")
