package local

import (
	"path/filepath"
	"testing"

	"github.com/listener-agent/listener/store"
)

func TestSmoke(t *testing.T) {
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.Watch(t.Context(), "/a/")
	t.Log(<-w)
	rev, err := s.Commit(t.Context(), nil, store.Put("/a/b", []byte("x")), store.Put("/b", nil))
	t.Log(rev, err)
	t.Log(<-w)
	t.Log(s.Get(t.Context(), "/a/b"))
	t.Log(s.List(t.Context(), "/"))
	x, err := s.Session(t.Context(), 1e9, "")
	t.Log(x.ID(), err)
	t.Log(s.Commit(t.Context(), nil, store.PutSession("/a/c", []byte("x"), x)))
	t.Log(<-w)
	x.Orphan()
	t.Log(<-w)
}
