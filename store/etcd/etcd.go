// Package etcd is the configuration store in an etcd cluster, 3.4 or newer.
//
// Of etcd's client it uses the connection and the calls. Watches and leases it
// drives itself, on one stream: the client resumes a watch at the revision
// that it had, which is silent for ever on a store that was wiped or set back,
// and tells nobody while a link is down.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/listener-agent/listener/store"
)

// Options say which cluster to use, and how.
type Options struct {
	// Endpoints are the members, as http://host:port or https://host:port, all
	// of one scheme. Required.
	Endpoints []string
	// CAFile is a PEM file with the authority of the servers' certificates.
	// Default: the system's. It is read by Open.
	CAFile string
	// CertFile and KeyFile are PEM files of a client certificate. Default:
	// none. They are read for each connection, so that they can be renewed.
	CertFile, KeyFile string
	// ServerName is the name that servers' certificates must have. Default:
	// the host of the endpoint.
	ServerName string
	// Username for etcd's own access control. Default: none.
	Username string
	// PasswordFile holds the password; one newline at its end is dropped. It
	// is read at each login. Required with Username.
	PasswordFile string
	// CallTimeout is how long one request may take. Default 5 s.
	CallTimeout time.Duration
	// CheckEvery is how often, ±50 % at random, the store's revision is read
	// while there are watches: lower than before means that the store is not
	// what it was. Default 20 s.
	CheckEvery time.Duration
}

// Store is a store.Store over one cluster. It holds one connection, to one
// member at a time.
type Store struct {
	opts  Options
	login *login
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	link  *link
	work  sync.WaitGroup // goroutines of watches and sessions
	term  atomic.Uint64  // of the leader, in the last answer that said so

	mu    sync.Mutex // guards following
	ended bool
	cur   *conn
	turn  int // which endpoint the next connection begins with
}

var _ store.Store = (*Store)(nil)

// Open makes a Store. It neither waits for a server nor fails because there
// is none: until one answers calls are store.ErrUnavailable and watches Lost.
// An error means that Options are wrong, or a file that they name.
func Open(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{opts: o.withDefaults(), login: newLogin(o), turn: rand.IntN(len(o.Endpoints))}
	s.ctx, s.end = context.WithCancel(context.Background())
	c, err := s.dial()
	if err != nil {
		s.end()
		return nil, fmt.Errorf("open etcd: %w", err)
	}
	s.cur = c
	s.link = newLink(s)
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.CallTimeout <= 0 {
		o.CallTimeout = 5 * time.Second
	}
	if o.CheckEvery <= 0 {
		o.CheckEvery = 20 * time.Second
	}
	return o
}

func (o Options) check() error {
	if len(o.Endpoints) == 0 {
		return fmt.Errorf("%w: etcd without endpoints", store.ErrInvalid)
	}
	scheme := ""
	for _, e := range o.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%w: etcd endpoint %q is not http://host:port or https://host:port", store.ErrInvalid, e)
		}
		if scheme != "" && u.Scheme != scheme {
			return fmt.Errorf("%w: etcd endpoints of two schemes, %s and %s", store.ErrInvalid, scheme, u.Scheme)
		}
		scheme = u.Scheme
	}
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("%w: a client certificate needs both of its files", store.ErrInvalid)
	case (o.Username == "") != (o.PasswordFile == ""):
		return fmt.Errorf("%w: a user name needs a password file, and the other way round", store.ErrInvalid)
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil
	}
	s.ended = true
	c := s.cur
	s.mu.Unlock()
	s.end()
	s.work.Wait()
	if err := c.close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd: %w", err)
	}
	return nil
}

// start runs fn in a goroutine that Close waits for. It does not once the
// store is closed.
func (s *Store) start(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.work.Go(fn)
	return true
}
