package store

import (
	"fmt"
	"strings"
	"time"
)

// The sizes that every store takes. They are the smallest among the stores
// that this port is made for, so that moving to another one loses nothing.
const (
	// MaxKey is the length of the longest key, in bytes.
	MaxKey = 2048
	// MaxValue is the size of the largest value, and of all values of one
	// Commit together, in bytes (etcd takes requests of 1.5 MiB, NATS messages
	// of 1 MiB with their headers).
	MaxValue = 1_000_000
	// MaxOps is how many conditions, and how many ops, one Commit may have
	// (etcd's default).
	MaxOps = 128
	// MinTTL is the shortest life of a session.
	MinTTL = time.Second
)

// CheckKey returns nil or an error that wraps ErrInvalid: a key is a "/" and
// one or more parts as Escape makes them, none empty, joined by "/".
func CheckKey(key string) error {
	rest, ok := strings.CutPrefix(key, "/")
	if !ok {
		return fmt.Errorf("%w: key %q does not start with /", ErrInvalid, clip(key))
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: key %q is longer than %d bytes", ErrInvalid, clip(key), MaxKey)
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" {
			return fmt.Errorf("%w: key %q has an empty part", ErrInvalid, clip(key))
		}
		if !escaped(part) {
			return fmt.Errorf("%w: key %q: part %q is not escaped", ErrInvalid, clip(key), clip(part))
		}
	}
	return nil
}

// CheckPrefix returns nil or an error that wraps ErrInvalid: a prefix is a
// key, a key and a final "/", or "/" for the whole store.
func CheckPrefix(prefix string) error {
	if prefix == "/" {
		return nil
	}
	return CheckKey(strings.TrimSuffix(prefix, "/"))
}

// CheckTTL returns nil or an error that wraps ErrInvalid.
func CheckTTL(ttl time.Duration) error {
	if ttl < MinTTL {
		return fmt.Errorf("%w: session ttl %v is shorter than %v", ErrInvalid, ttl, MinTTL)
	}
	return nil
}

// CheckCommit returns nil or an error that wraps ErrInvalid when no store
// would take this Commit. Implementations call it first, so that all of them
// refuse the same.
func CheckCommit(conds []Cond, ops []Op) error {
	if len(conds) > MaxOps || len(ops) > MaxOps {
		return fmt.Errorf("%w: %d conditions and %d ops in one commit, at most %d of each", ErrInvalid, len(conds), len(ops), MaxOps)
	}
	for _, c := range conds {
		if err := CheckKey(c.Key); err != nil {
			return err
		}
	}
	size := 0
	seen := make(map[string]struct{}, len(ops))
	for _, op := range ops {
		if err := CheckKey(op.Key); err != nil {
			return err
		}
		if _, twice := seen[op.Key]; twice {
			return fmt.Errorf("%w: two ops of one commit name %s", ErrInvalid, op.Key)
		}
		seen[op.Key] = struct{}{}
		if op.Delete && (op.Session != nil || len(op.Value) > 0) {
			return fmt.Errorf("%w: delete of %s with a value or a session", ErrInvalid, op.Key)
		}
		size += len(op.Value)
	}
	if size > MaxValue {
		return fmt.Errorf("%w: values of %d bytes in one commit, at most %d", ErrInvalid, size, MaxValue)
	}
	return nil
}

func escaped(part string) bool {
	for i := range len(part) {
		if !plain(part[i]) {
			_, err := Unescape(part)
			return err == nil
		}
	}
	return true
}

// clip keeps an error readable whatever was given as a key.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
