// Package nats is the configuration store of a fleet that runs NATS: a
// key-value bucket of JetStream, from server 2.12 on.
//
// A key is the subject that its parts make; a revision is a sequence of the
// bucket's stream. Where the two differ (a commit of several keys has one
// revision, a refreshed key keeps its own) a header of the message says so:
// message.go has them. Values that other programs write need no headers.
package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
)

// Options say which bucket, where, and with which credentials.
type Options struct {
	// Servers as nats://host:port or tls://host:port. Required.
	Servers []string
	// Bucket is the name of the key-value bucket. Required. One that does not
	// exist is made.
	Bucket string
	// Replicas of a bucket that is made here. Default 1.
	Replicas int
	// Node is whose sessions those of this store are: permissions can then
	// keep other nodes from them. Default: nobody's in particular.
	Node string
	// CredsFile is the credentials file of a user (JWT and seed), NKeyFile a
	// file with an nkey seed. At most one; default: none. These and the TLS
	// files are read at each connection, so that they can be replaced.
	CredsFile, NKeyFile string
	// CAFile, CertFile and KeyFile are PEM files. Any of them means TLS.
	CAFile, CertFile, KeyFile string
	// Name is what the server's list of connections shows. Default "listener".
	Name string

	// PingEvery is how often the server is asked for a sign of life; a dead
	// link is noticed after at most three times that. Default 3 s.
	PingEvery time.Duration
	// CheckEvery is how often a store with watches looks whether the bucket is
	// still the one it was. Default 20 s.
	CheckEvery time.Duration
}

// Times that are nobody's choice.
const (
	// dialTimeout is for the connection to one server, sayAfter for telling
	// the watches that there is none yet.
	dialTimeout = 2 * time.Second
	sayAfter    = 1500 * time.Millisecond
	// opTimeout is for an operation, upTimeout for the connection that it
	// needs.
	opTimeout = 10 * time.Second
	upTimeout = 3 * time.Second
	// longestBackoff is the longest wait between two attempts to connect,
	// longestRefused the same after the server refused us.
	firstBackoff   = 50 * time.Millisecond
	longestBackoff = time.Second
	longestRefused = 3 * time.Second
)

// Store is a store.Store over one bucket.
type Store struct {
	opts   Options
	names  names
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // all goroutines

	mu      sync.Mutex // guards following
	link    *link      // nil while there is none
	err     error      // why; nil before the first attempt has failed
	changed chan struct{}
	warning string

	hub hub
}

var _ store.Store = (*Store)(nil)

// Open returns at once: the store connects in the background, and again
// whenever it has to, until Close. What keeps it from that, a wrong credential
// or a server that is too old included, is the error of operations and of the
// Lost of watches.
func Open(o Options) *Store {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Name == "" {
		o.Name = "listener"
	}
	if o.PingEvery <= 0 {
		o.PingEvery = 3 * time.Second
	}
	if o.CheckEvery <= 0 {
		o.CheckEvery = 20 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{
		opts: o, names: namesOf(o.Bucket), ctx: ctx, cancel: cancel,
		changed: make(chan struct{}),
	}
	s.hub.init(s)
	s.tasks.Go(s.run)
	return s
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock() // no task is started after this
	s.cancel()
	s.mu.Unlock()
	s.tasks.Wait()
	return nil
}

// start runs f as a task of the store, unless it is closed.
func (s *Store) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.tasks.Go(f)
	return true
}

// run keeps a link until Close.
func (s *Store) run() {
	failed := 0
	for s.ctx.Err() == nil {
		l, err := s.connect()
		if err == nil {
			failed = 0
			s.setLink(l, nil)
			err = s.hub.serve(l)
		}
		failed++
		s.setLink(nil, err)
		s.hub.lost(err)
		if l != nil {
			l.close()
		}
		s.pause(failed, err)
	}
}

// pause waits a random part of a time that grows: when a server comes back,
// not all its clients come at once.
func (s *Store) pause(failed int, err error) {
	most := min(firstBackoff<<min(failed, 10), longestBackoff)
	if refused(err) {
		most = longestRefused
	}
	sleep(s.ctx, rand.N(most))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *Store) setLink(l *link, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.err = l, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// up returns the link, after waiting a little for one if there is hope.
func (s *Store) up(ctx context.Context) (*link, error) {
	t := time.NewTimer(upTimeout)
	defer t.Stop()
	for {
		s.mu.Lock()
		l, err, changed := s.link, s.err, s.changed
		s.mu.Unlock()
		switch {
		case s.ctx.Err() != nil:
			return nil, store.ErrClosed
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case l != nil && !l.nc.IsClosed():
			return l, nil
		case refused(err):
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-s.ctx.Done():
		case <-t.C:
			if err == nil {
				err = s.noAnswer()
			}
			return nil, err
		}
	}
}

// do runs an operation on the link, and says of its errors what the port says.
// It runs it again on the next link when this one broke before anything was
// written.
func (s *Store) do(ctx context.Context, op func(context.Context, *link) error) error {
	limited, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for {
		l, err := s.up(ctx)
		if err != nil {
			return err
		}
		err = op(limited, l)
		if err == nil || known(err) || errors.Is(err, errUnsure) || !l.nc.IsClosed() || limited.Err() != nil {
			return s.portError(ctx, err)
		}
	}
}

func (s *Store) portError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, errNoMark):
		s.hub.suspect(err)
		return unavailable(err)
	case err == nil || known(err):
		return err
	case s.ctx.Err() != nil:
		return store.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return unavailable(err)
	}
}

// Warnings is what an operator should know although the store works.
func (s *Store) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warning == "" {
		return nil
	}
	return []string{s.warning}
}

func (s *Store) setWarning(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warning = text
}
