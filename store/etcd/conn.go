package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
)

const (
	keepAlive = 10 * time.Second // between pings; servers refuse more
	// pingTimeout is how long a ping, and any byte sent, may stay unanswered
	// before the connection counts as dead.
	pingTimeout    = 3 * time.Second
	connectTimeout = 3 * time.Second // to one endpoint
	// maxBackoff is the longest pause between attempts; each is a random part
	// of it, so that the agents of a fleet do not come back all at once.
	maxBackoff = time.Second
)

// conn is one connection. Its successor begins with another endpoint.
type conn struct {
	*clientv3.Client
	heard atomic.Int64 // when an answer came last, as time.Since(epoch)
}

var epoch = time.Now()

func (c *conn) hear()                       { c.heard.Store(int64(time.Since(epoch))) }
func (c *conn) heardSince(t time.Time) bool { return c.heard.Load() >= int64(t.Sub(epoch)) }

func (c *conn) close() error { return c.Client.Close() }

// dial makes the next connection, which connects when it is used first.
func (s *Store) dial() (*conn, error) {
	tlsConfig, err := s.opts.tls()
	if err != nil {
		return nil, err
	}
	n := s.turn % len(s.opts.Endpoints)
	s.turn++
	options := []grpc.DialOption{
		// The client's default has a connection to each member. One is enough
		// for an agent, and a revision read there is never behind what its
		// watches told.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 1, MaxDelay: maxBackoff / 2},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithPerRPCCredentials(s.login),
	}
	if s.opts.ServerName != "" {
		options = append(options, grpc.WithAuthority(s.opts.ServerName)) // else it is the endpoint's
	}
	client, err := clientv3.New(clientv3.Config{
		Context:              s.ctx,
		Endpoints:            slices.Concat(s.opts.Endpoints[n:], s.opts.Endpoints[:n]),
		TLS:                  tlsConfig,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(),
		MaxUnaryRetries:      1, // see Store.call
		DialOptions:          options,
	})
	if err != nil {
		return nil, err
	}
	return &conn{Client: client}, nil
}

// conn returns the present connection.
func (s *Store) conn() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// retire replaces c, if it is still the present connection: it does not
// answer, or its member cannot serve.
func (s *Store) retire(c *conn) {
	s.mu.Lock()
	if s.ended || s.cur != c {
		s.mu.Unlock()
		return
	}
	next, err := s.dial()
	if err != nil { // a file cannot be read now: the old connection tries on
		s.mu.Unlock()
		return
	}
	s.cur = next
	s.mu.Unlock()
	_ = c.close()
}

// ready waits until c is connected. It returns the error of ctx.
func (c *conn) ready(ctx context.Context) error {
	cc := c.ActiveConnection()
	for {
		state := cc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			cc.Connect()
		}
		if !cc.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// unready waits until c, on which there is a stream, is connected no longer. It
// returns false when ctx ended before.
func (c *conn) unready(ctx context.Context) bool {
	cc := c.ActiveConnection()
	// A stream can be there a moment before its connection says that it is ready.
	for _, state := range []connectivity.State{connectivity.Connecting, connectivity.Ready} {
		if cc.GetState() == state && !cc.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// tls returns nil for endpoints that are http.
func (o Options) tls() (*tls.Config, error) {
	if !strings.HasPrefix(o.Endpoints[0], "https:") {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", o.CAFile)
		}
	}
	if o.CertFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("client certificate: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(nil); err != nil {
			return nil, err
		}
		c.GetClientCertificate = load
	}
	return c, nil
}
