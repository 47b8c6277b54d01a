package etcd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// granted is a store whose user has what `listener acl etcd` prints, and
// nothing else.
func granted(t *testing.T, s *server, root *clientv3.Client, args ...string) *etcd.Store {
	t.Helper()
	bin, err := binary()
	must(t, err)
	out, err := exec.Command(bin, append([]string{"acl", "etcd"}, args...)...).Output()
	must(t, err)
	role := ""
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "#") {
			role = etcdctl(t, root, strings.Fields(line))
		}
	}
	_, err = root.UserAdd(t.Context(), "user "+role, "pw")
	must(t, err)
	_, err = root.UserGrantRole(t.Context(), "user "+role, role)
	must(t, err)
	return open(t, etcd.Options{Endpoints: []string{s.url()}, Username: "user " + role, PasswordFile: password(t, "pw")})
}

// etcdctl does what the program of that name would, for the commands that acl
// prints, and returns the role that they are about.
func etcdctl(t *testing.T, c *clientv3.Client, words []string) (role string) {
	t.Helper()
	switch line := strings.Join(words, " "); {
	case strings.HasPrefix(line, "etcdctl role add ") && len(words) == 4:
		_, err := c.RoleAdd(t.Context(), words[3])
		must(t, err)
	case strings.HasPrefix(line, "etcdctl role grant-permission ") && len(words) >= 6:
		rest, end := words[4:], ""
		if rest[0] == "--prefix=true" {
			rest = rest[1:]
			end = clientv3.GetPrefixRangeEnd(rest[1])
		}
		kind, err := clientv3.StrToPermissionType(rest[0])
		must(t, err)
		_, err = c.RoleGrantPermission(t.Context(), words[3], rest[1], end, kind)
		must(t, err)
	default:
		t.Fatalf("this is no command of etcdctl: %s", line)
	}
	return words[3]
}

func denied(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrPermission) {
		t.Errorf("%s: %v, wants permission denied", what, err)
	}
}

// What the credential of a federation may do: everything in it, nothing outside.
func TestACLFederation(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	shop := granted(t, s, root, "--set", "federation=shop")
	bank := granted(t, s, root, "--set", "federation=bank")
	neighbour := granted(t, s, root, "--set", "federation=shop2")
	ctx, a := t.Context(), "/listener/v1/shop/values/A"

	f := follow(t, shop, "/listener/v1/shop/", a)
	f.has("")
	put(t, shop, a, "1")
	x, err := shop.Session(ctx, time.Minute, "")
	must(t, err)
	_, err = shop.Commit(ctx, []store.Cond{{Key: "/listener/v1/shop/nodes/n"}}, store.PutSession("/listener/v1/shop/nodes/n", []byte("up"), x))
	must(t, err)
	f.has(a + "=1 /listener/v1/shop/nodes/n=up")
	must(t, x.Close(ctx))
	f.has(a + "=1")
	_, _, err = shop.List(ctx, "/listener/v1/")
	denied(t, "list all federations", err)

	for name, other := range map[string]store.Store{"bank": bank, "shop2": neighbour} {
		_, err := other.Get(ctx, a)
		denied(t, name+" gets", err)
		_, _, err = other.List(ctx, "/listener/v1/shop/")
		denied(t, name+" lists", err)
		_, err = other.Commit(ctx, []store.Cond{{Key: a}}, store.Put("/listener/v1/"+name+"/values/A", nil))
		denied(t, name+" looks by a condition", err)
		_, err = other.Commit(ctx, nil, store.Put("/listener/v1/"+name+"/values/A", nil), store.Put(a, nil))
		denied(t, name+" writes", err)
		_, err = other.Commit(ctx, nil, store.Delete(a))
		denied(t, name+" deletes", err)
		follow(t, other, "/listener/v1/shop/").isLost("permission denied")
		follow(t, other, "/listener/v1/"+name+"/").has("")
	}
	f.has(a + "=1")
}

// What a node's own credential may do: read the federation, and write what is
// its own.
func TestACLPerNode(t *testing.T) {
	t.Parallel()
	s, root := locked(t, self(t))
	manifests := t.TempDir()
	must(t, os.WriteFile(filepath.Join(manifests, "api.json"), []byte(`{"id": "api", "provides": {"API_URL": "http://{HOST}"}}`), 0o600))
	node := func(name string) *etcd.Store {
		return granted(t, s, root, "--per-node", name, "--set", "federation=shop", "--set", "region=eu", "--set", "manifests="+manifests)
	}
	operator := granted(t, s, root, "--set", "federation=shop")
	web1, web2 := node("web1"), node("web2")
	ctx, shop := t.Context(), store.Space{Prefix: "/listener/v1", Federation: "shop"}
	own := shop.Provider("API_URL", "eu", "web1", "api")
	put(t, operator, shop.Value("", "A"), "1")

	f := follow(t, web2, shop.Key()+"/")
	x, err := web1.Session(ctx, time.Minute, "")
	must(t, err)
	_, err = web1.Commit(ctx, []store.Cond{{Key: shop.Key("nodes", "web1")}},
		store.PutSession(own, []byte("u"), x), store.PutSession(shop.Key("nodes", "web1"), []byte("n"), x), store.PutSession(shop.Key("locks", "l", "1"), nil, x))
	must(t, err)
	all := shop.Value("", "A") + "=1 " + own + "=u " + shop.Key("nodes", "web1") + "=n " + shop.Key("locks", "l", "1") + "="
	f.has(all)

	for what, key := range map[string]string{
		"for another node":            own,
		"its own key, another region": shop.Provider("API_URL", "us", "web2", "api"),
		"another key":                 shop.Provider("OTHER_URL", "eu", "web2", "api"),
		"for one with a longer name":  shop.Provider("API_URL", "eu", "web22", "api"),
		"the entry of another":        shop.Key("nodes", "web1"),
		"an entry of a longer name":   shop.Key("nodes", "web22"),
		"a value":                     shop.Value("", "A"),
		"another federation":          store.Space{Prefix: "/listener/v1", Federation: "bank"}.Provider("API_URL", "eu", "web2", "api"),
	} {
		_, err := web2.Commit(ctx, nil, store.Put(key, nil))
		denied(t, "publish "+what, err)
		_, err = web2.Commit(ctx, nil, store.Delete(key))
		denied(t, "delete "+what, err)
	}
	// Nor can it take over the session of another, whose name etcd tells
	// everybody, or end it.
	_, err = web2.Session(ctx, time.Minute, x.ID())
	denied(t, "take over a session of another", err)
	lease, err := strconv.ParseInt(x.ID(), 16, 64)
	must(t, err)
	raw := s.bare(t, func(c *clientv3.Config) { c.Username, c.Password = "user listener.shop.web2", "pw" })
	if _, err := raw.Revoke(ctx, clientv3.LeaseID(lease)); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("end a session of another: %v", err)
	}
	f.has(all)
	put(t, web2, shop.Provider("API_URL", "eu", "web2", "api"), "u")
	f.has(all + " " + shop.Provider("API_URL", "eu", "web2", "api") + "=u")
}
