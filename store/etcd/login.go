package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// login gets the token that goes with each request, and keeps it across
// connections: a member needs some 60 ms of CPU time to check a password. The
// client could do this, but not in the background, and not with a password
// that changes.
type login struct {
	user, passwordFile string

	turn chan struct{} // holds a token while nobody logs in

	mu    sync.Mutex // guards following
	token string
	known bool // token is one that no server has refused yet; "": none is needed
}

func newLogin(o Options) *login {
	l := &login{user: o.Username, passwordFile: o.PasswordFile, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	l.known = l.user == ""
	return l
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *login) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token == "" {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: l.token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Whether
// passwords go over plain links is the operator's choice.
func (*login) RequireTransportSecurity() bool { return false }

func (l *login) current() (token string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token, l.known
}

// ensure logs in unless there is a token other than the refused one, which is
// "" if there was none.
func (l *login) ensure(ctx context.Context, c *conn, wait bool, refused string) error {
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if token, known := l.current(); known && token != refused || l.user == "" {
		return nil
	}
	password, err := os.ReadFile(l.passwordFile)
	if err != nil {
		return fmt.Errorf("%w: password of etcd user %s: %w", store.ErrUnavailable, l.user, err)
	}
	l.set("", false) // the login itself must not carry what was refused
	resp, err := pb.NewAuthClient(c.ActiveConnection()).Authenticate(ctx, &pb.AuthenticateRequest{
		Name:     l.user,
		Password: strings.TrimSuffix(string(password), "\n"),
	}, grpc.WaitForReady(wait))
	switch {
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		l.set("", true)
		return nil
	case err != nil:
		return err
	}
	l.set(resp.Token, true)
	return nil
}

func (l *login) set(token string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token, l.known = token, known
}

// tokenRefused says whether err means that a new login may help.
func tokenRefused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrUserEmpty)
}
