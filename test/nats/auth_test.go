package nats_test

import (
	"testing"

	"github.com/nats-io/nkeys"
)

// user is an nkey.
type user struct {
	public string
	seed   []byte
}

func newUser(t testing.TB) user {
	t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	return user{public: public, seed: seed}
}
