package nats_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	gonats "github.com/nats-io/nats.go"
)

// permissions is what `listener acl nats` prints.
func permissions(t *testing.T, args ...string) string {
	t.Helper()
	exe, err := builtBinary()
	must(t, err)
	out, err := exec.Command(exe, append([]string{"acl", "nats"}, args...)...).Output()
	must(t, err)
	return string(out)
}

// as opens the bucket "listener" as a user.
func as(t *testing.T, s *server, u user) *nats.Store {
	t.Helper()
	return asNode(t, s, u, "")
}

// asNode does it on a node.
func asNode(t *testing.T, s *server, u user, node string) *nats.Store {
	t.Helper()
	o := options(s.url())
	o.Node = node
	o.NKeyFile = write(t, filepath.Join(t.TempDir(), "seed"), u.seed)
	return openStore(t, o)
}

func denied(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrPermission) {
		t.Errorf("%s: %v, wants permission denied", what, err)
	}
}

// made waits until the operator has made the bucket.
func made(t *testing.T, s *server, operator user) *nats.Store {
	t.Helper()
	a := as(t, s, operator)
	answers(t, a)
	return a
}

// Each federation has an account: what the printed permissions allow in it,
// and that nothing of it is seen in another, which has a bucket of that name.
func TestACLFederation(t *testing.T) {
	t.Parallel()
	shopAdmin, shopNode, bankAdmin, bankNode := newUser(t), newUser(t), newUser(t), newUser(t)
	account := func(federation string, admin, node user) string {
		return fmt.Sprintf("%s: { jetstream: enabled, users: [ { nkey: %s }\n { nkey: %s\n%s } ] }\n",
			federation, admin.public, node.public, permissions(t, "--set", "federation="+federation))
	}
	s := startServer(t, "accounts {\n"+account("shop", shopAdmin, shopNode)+account("bank", bankAdmin, bankNode)+"}")
	made(t, s, shopAdmin)
	made(t, s, bankAdmin)
	shop, bank := as(t, s, shopNode), as(t, s, bankNode)
	answers(t, shop, bank)
	ctx, a := t.Context(), "/listener/v1/shop/values/A"

	f, g := follow(t, shop, "/listener/v1/"), follow(t, bank, "/listener/v1/")
	put(t, shop, a, "1")
	f.has(a, "1")
	x, err := shop.Session(ctx, time.Minute, "")
	must(t, err)
	n := "/listener/v1/shop/nodes/n"
	rev := commit(t, shop, []store.Cond{{Key: n}}, store.PutSession(n, []byte("up"), x))
	commit(t, shop, []store.Cond{{Key: n, Rev: rev}}, store.Put("/listener/v1/shop/values/B", nil), store.Delete(a))
	f.lacks(a)
	must(t, x.Close(ctx))
	f.lacks(n)
	_, err = shop.Commit(ctx, nil, store.Put("/listener/v1/bank/values/A", nil))
	denied(t, "write for another federation", err)

	put(t, bank, "/listener/v1/bank/values/LAST", "1")
	g.has("/listener/v1/bank/values/LAST", "1")
	if len(g.state) != 1 {
		t.Errorf("the other federation sees %v", g.values())
	}
	if _, err := bank.Get(ctx, "/listener/v1/shop/values/B"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the other federation gets %v", err)
	}
}

// The permissions suffice where the server holds back until it hears from us.
func TestACLManyKeys(t *testing.T) {
	t.Parallel()
	admin, node := newUser(t), newUser(t)
	s := startServer(t, "authorization { users = [ { nkey: "+admin.public+" }\n { nkey: "+node.public+"\n"+permissions(t)+" } ] }")
	a := made(t, s, admin)
	const many = 1500
	var last string
	for i := 0; i < many; {
		var ops []store.Op
		for range 100 {
			last = fmt.Sprintf("/listener/v1/default/values/K%d", i)
			ops = append(ops, store.Put(last, make([]byte, 2000)))
			i++
		}
		commit(t, a, nil, ops...)
	}
	f := follow(t, as(t, s, node), "/listener/v1/default/")
	f.until("all keys", func() bool { return len(f.state) == many })
	if f.lost != nil {
		t.Errorf("lost: %v", f.lost)
	}
}

// What a node's own permissions allow, and what they cannot keep it from.
func TestACLPerNode(t *testing.T) {
	t.Parallel()
	manifests := t.TempDir()
	write(t, filepath.Join(manifests, "api.json"), []byte(`{"id": "api", "provides": {"API_URL": "http://{HOST}"}}`))
	admin, user1, user2 := newUser(t), newUser(t), newUser(t)
	node := func(name string, u user) string {
		return " { nkey: " + u.public + "\n" +
			permissions(t, "--per-node", name, "--set", "federation=shop", "--set", "region=eu", "--set", "manifests="+manifests) + " }\n"
	}
	s := startServer(t, "authorization { users = [ { nkey: "+admin.public+" }\n"+node("web1", user1)+node("web2", user2)+"] }")
	operator := made(t, s, admin)
	web1, web2 := asNode(t, s, user1, "web1"), asNode(t, s, user2, "web2")
	answers(t, web1, web2)
	ctx, shop, bank := t.Context(), store.Space{Prefix: "/listener/v1", Federation: "shop"}, store.Space{Prefix: "/listener/v1", Federation: "bank"}
	own := shop.Provider("API_URL", "eu", "web1", "api")
	put(t, operator, shop.Value("", "A"), "1")

	f := follow(t, web2, shop.Key()+"/")
	f.has(shop.Value("", "A"), "1")
	x, err := web1.Session(ctx, time.Minute, "")
	must(t, err)
	commit(t, web1, []store.Cond{{Key: shop.Key("nodes", "web1")}},
		store.PutSession(own, []byte("u"), x), store.PutSession(shop.Key("nodes", "web1"), []byte("n"), x), store.PutSession(shop.Key("locks", "l", "1"), nil, x))
	f.has(own, "u")
	for what, key := range map[string]string{
		"for another node":            own,
		"its own key, another region": shop.Provider("API_URL", "us", "web2", "api"),
		"another key":                 shop.Provider("OTHER_URL", "eu", "web2", "api"),
		"for one with a longer name":  shop.Provider("API_URL", "eu", "web22", "api"),
		"the entry of another":        shop.Key("nodes", "web1"),
		"a value":                     shop.Value("", "A"),
		"another federation":          bank.Provider("API_URL", "eu", "web2", "api"),
	} {
		_, err := web2.Commit(ctx, nil, store.Put(key, nil))
		denied(t, "publish "+what, err)
	}
	_, err = web2.Commit(ctx, nil, store.Delete(own))
	denied(t, "delete the provider of another", err)
	if kv := get(t, web2, own); string(kv.Value) != "u" {
		t.Errorf("the provider of another is now %q", kv.Value)
	}
	put(t, web2, shop.Provider("API_URL", "eu", "web2", "api"), "u")

	// The session of another can be neither ended nor taken over nor used.
	_, err = web2.Session(ctx, time.Minute, x.ID())
	denied(t, "resume the session of another", err)
	_, err = web2.Commit(ctx, nil, store.PutSession(shop.Key("nodes", "web2"), nil, x))
	denied(t, "bind to the session of another", err)
	bare := asClient(t, s, user2)
	answer, err := bare.Request("$KV.listener.=s."+x.ID(), nil, 200*time.Millisecond)
	if err == nil {
		t.Errorf("a client of another node's credential wrote to the session: %s", answer.Data)
	}
	same, err := asNode(t, s, user1, "web1").Session(ctx, time.Minute, x.ID())
	must(t, err)
	must(t, same.Close(ctx))
	f.lacks(own)
}

// asClient is a client that is no agent.
func asClient(t *testing.T, s *server, u user) *gonats.Conn {
	t.Helper()
	seed, err := gonats.NkeyOptionFromSeed(write(t, filepath.Join(t.TempDir(), "seed"), u.seed))
	must(t, err)
	nc, err := gonats.Connect(s.url(), seed, gonats.ErrorHandler(func(*gonats.Conn, *gonats.Subscription, error) {}))
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// What no permissions of NATS prevent, as docs/stores.md says. When this fails
// the page can promise more.
func TestACLLimits(t *testing.T) {
	t.Parallel()
	admin, node := newUser(t), newUser(t)
	s := startServer(t, "authorization { users = [ { nkey: "+admin.public+" }\n { nkey: "+node.public+"\n"+
		permissions(t, "--per-node", "web2", "--set", "federation=shop", "--set", "manifests="+t.TempDir())+" } ] }")
	operator := made(t, s, admin)
	put(t, operator, "/listener/v1/bank/values/A", "secret")

	// Federations in one bucket can read each other.
	web2 := asNode(t, s, node, "web2")
	answers(t, web2)
	if kv := get(t, web2, "/listener/v1/bank/values/A"); string(kv.Value) != "secret" {
		t.Errorf("%q", kv.Value)
	}

	// Who may read can have the server send the answer to any subject of the
	// account, so that it becomes the value of a key.
	nc := asClient(t, s, node)
	must(t, nc.PublishRequest("$JS.API.DIRECT.GET.KV_listener.$KV.listener.listener.v1.bank.values.A", "$KV.listener.listener.v1.bank.values.B", nil))
	eventually(t, "the answer is a value", func() error {
		_, err := operator.Get(t.Context(), "/listener/v1/bank/values/B")
		return err
	})

	// Who may write one key can empty the bucket by it: a bucket whose keys
	// can expire has to allow that. Agents notice.
	f := follow(t, operator, "/listener/v1/bank/")
	f.has("/listener/v1/bank/values/A", "secret")
	m := gonats.NewMsg("$KV.listener.listener.v1.shop.nodes.web2")
	m.Header.Set("Nats-Rollup", "all")
	_, err := nc.RequestMsg(m, 10*time.Second)
	must(t, err)
	f.until("nothing is there", func() bool { return f.resets > 1 && len(f.state) == 0 })
}
