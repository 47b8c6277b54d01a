package etcd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/listener-agent/listener/store"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Error is a request that etcd refused or did not answer.
type Error struct {
	Doing string // such as "read /a/b"
	Err   error  // wraps one of the errors of package store
	Hint  string // what an operator can do; may be ""
}

func (e *Error) Error() string {
	text := e.Doing + ": " + e.Err.Error()
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// doing is what a request wants, for its error.
type doing struct {
	verb  string // "read", "write", …
	key   string // a key or prefix; may be ""
	more  int    // how many other keys there are
	reads bool   // nothing changes by doing it twice
}

func (d doing) String() string {
	text := d.verb
	if d.key != "" {
		text += " " + d.key
	}
	if d.more > 0 {
		text += fmt.Sprintf(" and %d more", d.more)
	}
	return text
}

// explain makes the error of a request one of package store. It is nil for nil.
func (s *Store) explain(d doing, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	refused := rpctypes.Error(err)
	kind, hint := store.ErrUnavailable, ""
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return &Error{Doing: "etcd: " + d.String(), Err: err}
	case errors.Is(refused, rpctypes.ErrPermissionDenied):
		kind, hint = store.ErrPermission, s.grant(d)
	case errors.Is(refused, rpctypes.ErrAuthFailed):
		kind, hint = store.ErrPermission, fmt.Sprintf("wrong user or password: user %s, password of %s", s.opts.Username, s.opts.PasswordFile)
	case errors.Is(refused, rpctypes.ErrUserEmpty):
		kind, hint = store.ErrPermission, "this etcd wants a user: set username and password_file"
	case tokenRefused(err), errors.Is(refused, rpctypes.ErrUserNotFound):
		kind = store.ErrPermission
	case errors.Is(refused, rpctypes.ErrLeaseNotFound):
		kind = store.ErrSession
	case errors.Is(refused, rpctypes.ErrTooManyOps), errors.Is(refused, rpctypes.ErrRequestTooLarge), errors.Is(refused, rpctypes.ErrLeaseTTLTooLarge):
		kind = store.ErrInvalid
	case errors.Is(refused, rpctypes.ErrNoSpace):
		hint = "etcd is full: compact and defragment it, then `etcdctl alarm disarm`; --quota-backend-bytes raises the limit"
	case isTimeout(err) && s.login.user == "" && !strings.Contains(err.Error(), "connection error"):
		hint = "no answer within " + s.opts.CallTimeout.String()
	}
	return &Error{Doing: "etcd: " + d.String(), Err: fmt.Errorf("%w: %s", kind, text(err)), Hint: hint}
}

// text is what a person wants of a gRPC error.
func text(err error) string {
	if errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // there is no other way to know it
		return "the member gave no sign of life, and its connection was given up"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// grant names the permission that is missing.
func (s *Store) grant(d doing) string {
	who := "the client certificate's user"
	if s.opts.Username != "" {
		who = "user " + s.opts.Username
	}
	if d.key == "" {
		return who + " lacks a grant"
	}
	prefix := ""
	if strings.HasSuffix(d.key, "/") {
		prefix = "--prefix=true "
	}
	return fmt.Sprintf("%s lacks a grant: etcdctl role grant-permission ROLE %s%s %s", who, prefix, d.verb, d.key)
}

// cause is why the server ended a watch. Some versions give the text alone,
// some a whole gRPC error.
func cause(reason string) error {
	if _, desc, ok := strings.Cut(reason, " desc = "); ok {
		reason = desc
	}
	if reason == "" {
		reason = "the server ended a watch"
	}
	return rpctypes.Error(errors.New(reason))
}
