// Package local is the configuration store of one machine: a bbolt file that
// one process at a time has open, and whose watchers are in that process.
package local

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
	bolt "go.etcd.io/bbolt"
)

// Options say which file to open, and how.
type Options struct {
	// Path of the file. Required; its directory must exist. A file that is
	// not there is made, with mode 0600.
	Path string
	// Timeout is how long Open waits for another process to let go of the
	// file. Default 1 s; negative: not at all.
	Timeout time.Duration
	// CheckEvery is how often a store with watches looks whether somebody
	// replaced or changed its file; any operation looks as well. Also how long
	// to wait when sessions could not be expired. Default 20 s.
	CheckEvery time.Duration
	// NoSync leaves out fsync: a power loss may destroy the file. For tests.
	NoSync bool

	maxSize int // of the file, in bytes; for tests
}

// Store is a store.Store over one file.
type Store struct {
	opts    Options
	closed  chan struct{}
	watches sync.WaitGroup

	// writing holds a token while someone commits, expires sessions, reopens
	// the file or begins a watch, one at a time: so updates are sent in the
	// order of their revisions. A channel, because waiting must end with a
	// context.
	writing chan struct{}

	fileMu  sync.RWMutex // guards following; changed only with the token
	file    *file        // nil while it cannot be opened
	fileErr error        // why

	mu       sync.Mutex // guards following
	ended    bool       // Close was called
	rev      uint64     // changed only with the token
	history  string     // of the file; "": it does not say
	feeds    map[*feed.Feed]struct{}
	sessions map[sessionID]*session
	checking *time.Timer // runs check; nil without feeds
	expiring *time.Timer // runs expire; nil without orphaned sessions

	durable func() // called when a commit is on disk; for benchmarks
}

var _ store.Store = (*Store)(nil)

// Open opens the file, or makes it. The error is an *Error: ErrLocked when
// another process has it open, ErrCorrupt when it is damaged, else
// store.ErrUnavailable.
func Open(o Options) (*Store, error) {
	s := newStore(o)
	if err := s.renew(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenOrReset is Open for an agent, which must run whatever the file is like.
// A damaged file is moved aside to PATH.corrupt-N, and an empty store started;
// moved is its new name, "" if there was none. s is never nil: with an error
// it is a store that is away, and tries again at each operation and, while
// there are watches, each CheckEvery.
func OpenOrReset(o Options) (s *Store, moved string, err error) {
	s = newStore(o)
	err = s.renew(nil)
	if !errors.Is(err, ErrCorrupt) {
		return s, "", err
	}
	moved, moveErr := moveAside(o.Path)
	if moveErr != nil {
		return s, "", errors.Join(err, moveErr)
	}
	return s, moved, s.renew(err)
}

func newStore(o Options) *Store {
	o.Timeout = timeoutOr(o.Timeout, time.Second)
	if o.CheckEvery <= 0 {
		o.CheckEvery = 20 * time.Second
	}
	return &Store{
		opts:     o,
		closed:   make(chan struct{}),
		writing:  make(chan struct{}, 1),
		feeds:    make(map[*feed.Feed]struct{}),
		sessions: make(map[sessionID]*session),
		durable:  func() {},
	}
}

func moveAside(path string) (moved string, err error) {
	for n := 1; ; n++ {
		moved = path + ".corrupt-" + strconv.Itoa(n)
		if _, err := os.Lstat(moved); err == nil {
			continue
		}
		return moved, os.Rename(path, moved)
	}
}

// load takes revision and sessions from a file just opened. A session that
// was only in the file is an orphan, with its whole ttl before it; one that
// is not in the file any more is lost.
func (s *Store) load(f *file) error {
	var rev uint64
	var history string
	var found map[sessionID]time.Duration
	err := f.view(func(tx *bolt.Tx) (err error) {
		rev, history = readRev(tx), string(tx.Bucket(bucketMeta).Get(keyHistory))
		found, err = readSessions(tx)
		return err
	})
	if err != nil {
		return unavailable(s.opts.Path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history != "" && history != s.history {
		for f := range s.feeds {
			f.OtherHistory()
		}
	}
	s.rev, s.history = rev, history
	s.adoptLocked(found)
	return nil
}

// lock takes the token that writers pass on.
func (s *Store) lock(ctx context.Context) error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return store.ErrClosed
	}
	select {
	case <-s.closed:
		s.unlock()
		return store.ErrClosed
	default:
		return nil
	}
}

func (s *Store) unlock() { <-s.writing }

// Close implements store.Store. It waits for a commit that is under way.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil
	}
	s.ended = true
	close(s.closed)
	stop(&s.checking)
	stop(&s.expiring)
	s.mu.Unlock()

	s.watches.Wait()
	s.writing <- struct{}{} // never given back
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if s.file != nil {
		s.file.close()
		s.file = nil
	}
	return nil
}

func stop(t **time.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}
