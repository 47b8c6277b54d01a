package etcd_test

import (
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// An older backup is restored with etcd's own tool, as operators do it: with
// revisions that go back, or, as etcd's documentation has it, with higher ones
// and no history.
func TestRestored(t *testing.T) {
	for name, flags := range map[string][]string{
		"older":  nil,
		"bumped": {"--bump-revision", "1000", "--mark-compacted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newProcess(t)
			c := open(t, at(s.url()))
			put(t, c, "/t/a", "1")
			restore := s.backup(t)
			put(t, c, "/t/b", "2")
			put(t, c, "/t/a", "2")
			f := follow(t, c, "/t/")
			f.has("/t/a=2 /t/b=2")
			was := f.rev
			restore(t, flags...)
			f.has("/t/a=1")
			if f.others != 1 {
				t.Errorf("at revision %d, was %d: %d Resets say that it is another history", f.rev, was, f.others)
			}
			eventually(t, func() error {
				_, err := c.Commit(t.Context(), nil, store.Put("/t/a", []byte("3")))
				return err
			})
			within(t, "a value after a restore", f.has("/t/a=3"), time.Second)
		})
	}
}
