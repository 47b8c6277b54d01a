package nats

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// link is one connection, and what is known of the bucket over it. It is
// never mended: when it breaks, another one is made.
type link struct {
	nc     *nats.Conn
	names  names
	gone   chan struct{} // closed when the connection is
	unhook func() bool   // lets go of the store's context
	inbox  *inbox

	mu      sync.Mutex // guards following
	bucket  bucket
	waiting map[*waiter]struct{}
	refusal map[string]error // what was denied, by subject
}

// waiter is a request under way.
type waiter struct {
	subject string
	cancel  context.CancelCauseFunc
}

// connect makes a link and looks at the bucket. It takes as long as the
// servers take to answer, each at most dialTimeout.
func (s *Store) connect() (*link, error) {
	t := time.AfterFunc(sayAfter, func() { s.hub.waits(s.noAnswer()) })
	defer t.Stop()
	d := &dialer{ctx: s.ctx}
	l := &link{names: s.names, gone: make(chan struct{}), waiting: make(map[*waiter]struct{}), refusal: make(map[string]error)}
	options, err := s.connectOptions(l, d)
	if err != nil {
		return nil, err
	}
	l.nc, err = nats.Connect(s.servers(), options...)
	if errors.Is(err, nats.ErrNoServers) && d.failed != nil {
		err = d.failed // says more
	}
	if err != nil {
		return nil, connectError(s.opts.Servers, err)
	}
	l.unhook = context.AfterFunc(s.ctx, l.nc.Close)
	ctx, cancel := context.WithTimeout(s.ctx, opTimeout)
	defer cancel()
	if err = l.openInbox(); err == nil {
		err = s.enter(ctx, l)
	}
	if err != nil {
		l.close()
		return nil, unavailable(err)
	}
	s.learn(l.nc)
	return l, nil
}

func (l *link) close() {
	l.unhook()
	l.nc.Close()
	<-l.gone
}

func (s *Store) noAnswer() error {
	return connectError(s.opts.Servers, errors.New("no answer yet"))
}

// servers are all that are known, as nats.Connect takes them: those of the
// options first, then those that the cluster told of.
func (s *Store) servers() string {
	mix := func(list []string) []string {
		list = slices.Clone(list)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	}
	return strings.Join(append(mix(s.opts.Servers), mix(s.hub.discovered)...), ",")
}

// learn remembers the other servers of the cluster for the next connection.
func (s *Store) learn(nc *nats.Conn) { s.hub.discovered = nc.DiscoveredServers() }

func (s *Store) connectOptions(l *link, d *dialer) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name(s.opts.Name),
		nats.NoReconnect(), // run does, with fresh credentials and more jitter
		nats.DontRandomize(),
		nats.Timeout(dialTimeout),
		nats.FlusherTimeout(dialTimeout),
		nats.PingInterval(s.opts.PingEvery),
		nats.MaxPingsOutstanding(1),
		nats.SetCustomDialer(d),
		nats.ClosedHandler(func(*nats.Conn) { close(l.gone) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				l.denied(err)
			}
		}),
	}
	if f := s.opts.CredsFile; f != "" {
		if err := readable(f); err != nil {
			return nil, err
		}
		options = append(options, nats.UserCredentials(f))
	}
	if f := s.opts.NKeyFile; f != "" {
		o, err := nats.NkeyOptionFromSeed(f)
		if err != nil {
			return nil, fileError("nkey_file "+f, err)
		}
		options = append(options, o)
	}
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	if config != nil {
		options = append(options, nats.Secure(config))
	}
	return options, nil
}

// tlsConfig is nil without TLS files: the scheme of a server then says
// whether TLS is used.
func (s *Store) tlsConfig() (*tls.Config, error) {
	o := s.opts
	if o.CAFile == "" && o.CertFile == "" {
		return nil, nil //nolint:nilnil // no TLS is an answer
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fileError("ca_file", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fileError("ca_file "+o.CAFile, errors.New("no certificate in it"))
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fileError("cert_file, key_file", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fileError("creds_file", err)
	}
	f.Close()
	return nil
}

func fileError(what string, err error) error {
	return &Error{Err: fmt.Errorf("%w: %s: %w", errFile, what, err), Hint: "put it right; it is read again at the next attempt"}
}

// dialer lets Close end an attempt to connect, which one goroutine makes.
type dialer struct {
	ctx    context.Context
	failed error // the last attempt
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	n := net.Dialer{Timeout: dialTimeout, KeepAlive: -1} // the pings do that
	c, err := n.DialContext(d.ctx, network, address)
	d.failed = err
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, unhook: context.AfterFunc(d.ctx, func() { c.Close() })}, nil
}

// conn ends with a context as well.
type conn struct {
	net.Conn
	unhook func() bool
}

func (c *conn) Close() error {
	c.unhook()
	return c.Conn.Close()
}

// expect makes a context that ends, with the reason, when the server denies
// subject. The caller calls done.
func (l *link) expect(ctx context.Context, subject string) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &waiter{subject: subject, cancel: cancel}
	l.mu.Lock()
	l.waiting[w] = struct{}{}
	l.mu.Unlock()
	return ctx, func() {
		l.mu.Lock()
		delete(l.waiting, w)
		l.mu.Unlock()
		cancel(nil)
	}
}

// denied ends the requests that the server will never answer: it tells of a
// missing grant by an error that belongs to no request.
func (l *link) denied(err error) {
	subject, publishing, denied := permissionError(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	subject = unmapped(subject)
	l.refusal[subject] = denied
	for w := range l.waiting {
		if !publishing || w.subject == subject {
			w.cancel(denied)
		}
	}
}

// deniedLately returns what the server said of a subject, if it denied it.
func (l *link) deniedLately(subject string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.refusal[subject]
	delete(l.refusal, subject)
	return err
}

// because replaces the error of a request whose context ended by its cause.
func because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && known(cause) {
		return cause
	}
	return err
}
