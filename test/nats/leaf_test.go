package nats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// throughLeaf returns the hub with JetStream, and a server of its own for
// agents, as docs/stores.md has them: nodes have the printed permissions, and
// so has the link between the two.
func throughLeaf(t *testing.T, admin, link, node user) (hub, leaf *server) {
	t.Helper()
	port := freePort(t)
	allowed := permissions(t, "--domain", "hub", "--set", "federation=shop")
	hub = newServer(t)
	hub.jetstream = "domain: hub"
	hub.config = fmt.Sprintf(`
leafnodes { listen: "127.0.0.1:%d" }
accounts {
  shop: { jetstream: enabled, users: [
    { nkey: %s }
    { nkey: %s
      %s }
  ] }
}`, port, admin.public, link.public, allowed)
	hub.start(t)
	leaf = startServer(t, fmt.Sprintf(`
jetstream: disabled
leafnodes { remotes: [ { url: "nats://127.0.0.1:%d", nkey: %q, account: shop } ] }
accounts {
  shop: {
    mappings: {
      "$JS.API.>": "$JS.hub.API.>"
      "$KV.>": "$JS.hub.API.$KV.>"
    }
    users: [
      { nkey: %s
        %s }
    ]
  }
}`, port, link.seed, node.public, allowed))
	return hub, leaf
}

// Agents at a leaf node: JetStream is at the hub.
func TestLeafNode(t *testing.T) {
	t.Parallel()
	admin, link, node := newUser(t), newUser(t), newUser(t)
	hub, leaf := throughLeaf(t, admin, link, node)
	operator := made(t, hub, admin)
	a := as(t, leaf, node)
	answers(t, a)
	f := follow(t, a, "/listener/v1/shop/")
	put(t, operator, "/listener/v1/shop/values/A", "1")
	f.has("/listener/v1/shop/values/A", "1")
	x, err := a.Session(t.Context(), 2*time.Second, "")
	must(t, err)
	n := "/listener/v1/shop/nodes/n"
	commit(t, a, []store.Cond{{Key: n}}, store.PutSession(n, []byte("up"), x), store.Put("/listener/v1/shop/values/B", nil))
	f.has(n, "up")
	x.Orphan()
	f.lacks(n)
	_, err = a.Commit(t.Context(), nil, store.Put("/listener/v1/bank/values/A", nil))
	denied(t, "write for another federation", err)

	// More than the server sends before it hears from us.
	const many = 1200
	for i := 0; i < many; i += 100 {
		var ops []store.Op
		for j := range 100 {
			ops = append(ops, store.Put(fmt.Sprintf("/listener/v1/shop/values/K%d", i+j), make([]byte, 2000)))
		}
		commit(t, operator, nil, ops...)
	}
	all := follow(t, a, "/listener/v1/shop/values/")
	all.until("all keys", func() bool { return len(all.state) == many+2 })

	// The hub goes away behind the leaf node's back, and comes again.
	hub.kill()
	f.until("Lost", func() bool { return f.lost != nil })
	hub.start(t)
	began := time.Now()
	answers(t, operator)
	put(t, operator, "/listener/v1/shop/values/A", "2")
	f.has("/listener/v1/shop/values/A", "2")
	within(t, "the newest value", began, 5*time.Second)

	leaf.kill()
	leaf.start(t)
	put(t, operator, "/listener/v1/shop/values/A", "3")
	began = time.Now()
	f.has("/listener/v1/shop/values/A", "3")
	within(t, "the newest value, after a restart of the leaf node", began, 1500*time.Millisecond)
}
