// Package store is the port through which a node sees a configuration store:
// state sync over revisions, transactions and sessions.
//
// Its promise is the only one that etcd, NATS JetStream and a local file can
// all keep: a watcher always ends up with the newest state; values in between
// may be skipped. Implementations live in the packages below this one and all
// pass store/storetest.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors that callers branch on. Implementations wrap them.
var (
	// ErrNotFound: the key is not in the store.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a condition of a Commit did not hold; nothing was written.
	ErrConflict = errors.New("version conflict")
	// ErrUnavailable: the store could not be reached or did not answer.
	ErrUnavailable = errors.New("store unavailable")
	// ErrPermission: the store refused the credential for this key.
	ErrPermission = errors.New("permission denied")
	// ErrSession: the session of an operation, or the one to resume, is gone.
	ErrSession = errors.New("session is gone")
	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrInvalid: a key, prefix, ttl or operation that no store accepts.
	ErrInvalid = errors.New("invalid argument")
)

// KV is one key as the store holds it. The receiver owns Value.
type KV struct {
	Key   string
	Value []byte
	// Rev is the revision of the last write to the key, never 0.
	Rev uint64
	// Created is the revision that created the key; it does not change while the key lives.
	Created uint64
}

// Kind says what an Update is.
type Kind uint8

// The kinds of Update.
const (
	// Reset: KVs is the whole state of the watched prefixes at Rev. What is
	// not in it is not in the store.
	Reset Kind = iota + 1
	// Change: KVs were written and Gone were removed, up to Rev.
	Change
	// Lost: the watch can no longer prove that it is current. The state seen
	// so far is what it was; the next Update is a Reset, or a Lost for a reason
	// of another kind.
	Lost
)

// Update is one step of a Watch. The receiver owns its slices.
type Update struct {
	Kind Kind
	// Rev is the store's revision after this update; 0 for Lost. It can be
	// lower than before only in a Reset: then the store is not what it was.
	Rev uint64
	// OtherHistory, only in a Reset: the store can prove that what this client
	// saw before is not in its past, at this revision or a higher one. It was
	// wiped, set back, or another one took its place, so what is missing was
	// not deleted by anybody. False proves nothing.
	OtherHistory bool
	// KVs and Gone are sorted by key; no key is in both, or twice.
	KVs  []KV
	Gone []Gone
	// Err says why the link was lost; nil otherwise.
	Err error
}

// Gone is a key that was removed.
type Gone struct {
	Key string
	// Rev is the revision of the removal.
	Rev uint64
	// Expired: the key went with its session, nobody deleted it. A store that
	// cannot tell says false only for keys that never had a session.
	Expired bool
}

// Cond is a condition of a Commit: the key's Rev is exactly this, or, with
// Rev 0, the key does not exist now (whether it ever did is all the same).
// The key need not be one that is written.
type Cond struct {
	Key string
	Rev uint64
}

// Op is one write of a Commit.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
	// Session binds the key's life to a session of this store, held by this
	// client or another; nil: it lives until deleted. Each write says anew.
	Session Session
}

// Put writes value under key.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// PutSession writes value under key for as long as s lives.
func PutSession(key string, value []byte, s Session) Op {
	return Op{Key: key, Value: value, Session: s}
}

// Delete removes key; removing a key that is not there is no error.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Store is a configuration store. All methods may be called at once from many
// goroutines. Those with a context block until done, ctx ends (they return
// its error) or the store gives up (ErrUnavailable). Keys, values and ops stay
// the caller's; what is returned is the caller's too. CheckKey and CheckCommit
// say which arguments are ErrInvalid.
//
// A prefix that ends in "/" is that subtree, without the key of that name;
// any other is exactly that key.
type Store interface {
	// Get returns one key, or ErrNotFound.
	Get(ctx context.Context, key string) (KV, error)

	// List returns what is under prefix, sorted by key, all of it as it was at
	// rev. Nothing there is an empty list, not an error.
	List(ctx context.Context, prefix string) (kvs []KV, rev uint64, err error)

	// Watch begins with a Reset, then sends changes; each key's newest value
	// always arrives, values in between may not. Writes of one Commit within
	// one prefix arrive in one Update. When continuity cannot be proven
	// (compaction, reconnect, a store wiped or set back to an older revision)
	// the next Update is a Reset; while the store is away there is one Lost,
	// also before the first Reset, and another one when the reason becomes one
	// of another kind (ErrPermission, not ErrUnavailable any more) and stays
	// so. A slow receiver makes updates merge, it never blocks the store; a
	// Lost may merge into the next one, or into the Reset that ended it.
	// Prefixes may overlap. A malformed one makes the watch send one Lost with
	// ErrInvalid, and nothing else. Watch does not block. The channel is
	// closed after ctx ends or the store is closed, and only then.
	Watch(ctx context.Context, prefixes ...string) <-chan Update

	// Commit applies all ops or none and returns the revision that it made.
	// ErrConflict when a condition does not hold, ErrSession when the session
	// of an op is gone. No two ops name one key. No ops, or only deletes of
	// what is not there: the conditions are checked and the present revision
	// returned. After an error other than these and ErrInvalid the caller
	// cannot know whether the ops were applied.
	Commit(ctx context.Context, conds []Cond, ops ...Op) (rev uint64, err error)

	// Session starts a session: keys bound to it vanish within 2×ttl of the
	// death of its holder. ttl is at least MinTTL. With resume, the session of
	// that ID is continued with its keys and the ttl that it has, or ErrSession
	// returned. It may have several holders: it dies with the last one.
	Session(ctx context.Context, ttl time.Duration, resume string) (Session, error)

	// Close ends watches and refreshing; sessions are orphaned, not closed.
	Close() error
}

// Session is a holder's sign of life. It refreshes itself until Close,
// Orphan, or its loss.
type Session interface {
	// ID can be handed to Store.Session to resume it from another process.
	ID() string
	// Done is closed when the session is lost or ended: its keys are gone or
	// will be. It is not closed by Orphan.
	Done() <-chan struct{}
	// Close ends it, for all its holders: its keys vanish before Close
	// returns. Closing a session that is gone is no error.
	Close(ctx context.Context) error
	// Orphan stops refreshing and leaves the keys to the ttl, for a successor
	// that resumes it. It does not block.
	Orphan()
}
