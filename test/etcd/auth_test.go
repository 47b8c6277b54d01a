package etcd_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// locked is a server with the user node, whose role has what is granted: pairs
// of prefix and kind.
func locked(t *testing.T, bin string) (s *server, root *clientv3.Client) {
	t.Helper()
	s = startServer(t, bin, nil, "--bcrypt-cost", "4")
	c := s.bare(t)
	ctx := t.Context()
	for _, do := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "pw"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "root"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "node", "right"); return err },
		func() error { _, err := c.RoleAdd(ctx, "node"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "node", "node"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := do(); err != nil && !strings.Contains(err.Error(), "role name not found") && !strings.Contains(err.Error(), "already exists") {
			t.Fatal(err)
		}
	}
	return s, s.bare(t, asRoot)
}

func asRoot(c *clientv3.Config) { c.Username, c.Password = "root", "pw" }

func grant(t *testing.T, root *clientv3.Client, prefix string, kind clientv3.PermissionType) {
	t.Helper()
	_, err := root.RoleGrantPermission(t.Context(), "node", prefix, clientv3.GetPrefixRangeEnd(prefix), kind)
	must(t, err)
}

// password writes a file with it.
func password(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

func self(t testing.TB) string {
	t.Helper()
	bin, err := os.Executable()
	must(t, err)
	return bin
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	grant(t, root, "/t/", clientv3.PermissionType(clientv3.PermReadWrite))
	file := password(t, "wrong")
	c := open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "node", PasswordFile: file})
	f := follow(t, c, "/t/")
	within(t, "Lost with a wrong password", f.isLost("permission denied", "node", file), 2*time.Second)
	if !errors.Is(f.lost, store.ErrPermission) {
		t.Errorf("wrong password: %v", f.lost)
	}
	_, err := c.Get(t.Context(), "/t/a")
	if !errors.Is(err, store.ErrPermission) {
		t.Errorf("get with a wrong password: %v", err)
	}
	must(t, os.WriteFile(file, []byte("right"), 0o600))
	within(t, "the right password", f.has(""), 5*time.Second)
	put(t, c, "/t/a", "1")
	f.has("/t/a=1")

	// All tokens end, as they do with time; the password is another one too.
	losses := f.losses
	_, err = root.AuthDisable(t.Context())
	must(t, err)
	_, err = root.UserChangePassword(t.Context(), "node", "changed")
	must(t, err)
	must(t, os.WriteFile(file, []byte("changed"), 0o600))
	_, err = root.AuthEnable(t.Context())
	must(t, err)
	g := follow(t, c, "/t/", "/t/b") // on a stream whose token is refused
	g.has("/t/a=1")
	put(t, c, "/t/b", "2")
	g.has("/t/a=1 /t/b=2")
	f.has("/t/a=1 /t/b=2")
	if f.losses != losses || g.losses > 0 {
		t.Errorf("the end of a token is told as a loss: %d and %d", f.losses-losses, g.losses)
	}
	x, err := c.Session(t.Context(), time.Second, "")
	must(t, err)
	_, err = c.Commit(t.Context(), nil, store.PutSession("/t/c", nil, x))
	must(t, err)
	must(t, x.Close(t.Context()))
}

// The reason of an outage becomes another one: it is told, once each.
func TestReasonChanges(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	grant(t, root, "/t/", clientv3.PermissionType(clientv3.PermReadWrite))
	file := password(t, "right")
	f := follow(t, open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "node", PasswordFile: file}), "/t/")
	f.has("")
	s.stop()
	f.isLost("unavailable")
	must(t, os.WriteFile(file, []byte("wrong"), 0o600))
	s.launch(t)
	f.until("permission denied", func() bool { return errors.Is(f.lost, store.ErrPermission) })
	s.stop()
	f.until("unavailable", func() bool { return errors.Is(f.lost, store.ErrUnavailable) })
	must(t, os.WriteFile(file, []byte("right"), 0o600))
	s.start(t)
	f.has("")
	if f.losses != 3 {
		t.Errorf("%d losses, 3 reasons", f.losses)
	}
}

func TestNoUser(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, self(t))
	f := follow(t, open(t, at(s.url())), "/t/")
	within(t, "Lost without a user", f.isLost("permission denied", "username"), 2*time.Second)
}

func TestUserWithoutAccessControl(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "node", PasswordFile: password(t, "any")})
	follow(t, c, "/t/").has("")
}

func TestPermission(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	grant(t, root, "/t/read/", clientv3.PermissionType(clientv3.PermRead))
	c := open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "node", PasswordFile: password(t, "right")})

	_, err := c.Commit(t.Context(), nil, store.Put("/t/read/a", nil))
	wantGrant(t, err, "write /t/read/a")
	_, err = c.Get(t.Context(), "/t/other")
	wantGrant(t, err, "read /t/other")
	_, _, err = c.List(t.Context(), "/t/")
	wantGrant(t, err, "--prefix=true read /t/")

	good, bad := follow(t, c, "/t/read/"), follow(t, c, "/t/read/a", "/t/b", "/t/read/c", "/t/read/d")
	good.has("")
	within(t, "Lost without a grant", bad.isLost("read /t/b)"), 2*time.Second)
	wantGrant(t, bad.lost, "read /t/b")
	grant(t, root, "/t/b", clientv3.PermissionType(clientv3.PermReadWrite))
	within(t, "the grant", bad.has(""), 5*time.Second)
	put(t, c, "/t/b", "1")
	bad.has("/t/b=1")
	if good.losses > 0 {
		t.Errorf("a watch that is permitted was lost: %v", good.lost)
	}
}

func wantGrant(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, store.ErrPermission) || !strings.Contains(err.Error(), "role grant-permission ROLE") || !strings.Contains(err.Error(), words) {
		t.Errorf("without a grant: %v, wants %q", err, words)
	}
}

// Access control is enabled while the client runs, which has a password for it.
func TestAccessControlEnabled(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	grant(t, root, "/t/", clientv3.PermissionType(clientv3.PermReadWrite))
	_, err := root.AuthDisable(t.Context())
	must(t, err)
	c := open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "node", PasswordFile: password(t, "right")})
	f := follow(t, c, "/t/")
	f.has("")
	put(t, c, "/t/0", "0")
	f.has("/t/0=0") // it is live; one that is being made then is refused once
	_, err = root.AuthEnable(t.Context())
	must(t, err)
	put(t, c, "/t/a", "1")
	f.has("/t/0=0 /t/a=1")
	follow(t, c, "/t/a").has("/t/a=1")
	if f.losses > 0 {
		t.Errorf("the watch was lost: %v", f.lost)
	}
}
