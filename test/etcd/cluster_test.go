package etcd_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
)

// newCluster starts three members as processes.
func newCluster(t *testing.T) []*server {
	t.Helper()
	var members []*server
	var initial []string
	for i := range 3 {
		s := &server{dir: filepath.Join(t.TempDir(), "data"), client: freeAddress(t), peer: freeAddress(t), bin: self(t)}
		members = append(members, s)
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i, s.peer))
	}
	for i, s := range members {
		s.args = []string{
			"--name", fmt.Sprintf("m%d", i), "--initial-cluster", strings.Join(initial, ","),
			"--heartbeat-interval", "50", "--election-timeout", "500",
		}
		t.Cleanup(s.kill)
		s.launch(t)
	}
	for _, s := range members {
		s.serves(t)
	}
	return members
}

// leader returns the index of the member that leads.
func leader(t *testing.T, members []*server) int {
	t.Helper()
	found := -1
	until(t, "a leader", func() bool {
		for i, s := range members {
			if s.proc == nil {
				continue
			}
			c := s.bare(t)
			st, err := c.Status(t.Context(), s.url())
			c.Close()
			if err == nil && st.Leader == st.Header.MemberId {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

func TestCluster(t *testing.T) {
	t.Parallel()
	members := newCluster(t)
	first := leader(t, members)
	var o etcd.Options
	for _, m := range members {
		o.Endpoints = append(o.Endpoints, m.url())
	}
	c := open(t, o)
	put(t, c, "/t/a", "1")
	f := follow(t, c, "/t/")
	f.has("/t/a=1")

	members[first].kill()
	began := time.Now()
	eventually(t, func() error {
		_, err := c.Commit(t.Context(), nil, store.Put("/t/a", []byte("2")))
		return err
	})
	f.has("/t/a=2")
	within(t, "a value after the leader's death", time.Since(began), 3*time.Second)

	// Without a quorum nothing is known to be current.
	second := leader(t, members)
	members[second].signal(syscall.SIGSTOP)
	within(t, "Lost without a quorum", f.isLost("unavailable"), 8*time.Second)
	began = time.Now()
	members[first].launch(t)
	eventually(t, func() error {
		_, err := c.Commit(t.Context(), nil, store.Put("/t/a", []byte("3")))
		return err
	})
	f.has("/t/a=3")
	within(t, "a value after the quorum's return", time.Since(began), 5*time.Second)
	members[second].signal(syscall.SIGCONT)
}

// A follower hands a write to a leader that has just died: it is lost, and that
// is known long before the follower gives it up.
func TestLostWrite(t *testing.T) {
	t.Parallel()
	members := newCluster(t)
	for n := range 3 {
		dead := leader(t, members)
		follower := members[(dead+1)%len(members)]
		c := open(t, at(follower.url()))
		put(t, c, "/t/a", "1")
		members[dead].kill()
		began := time.Now()
		_, err := c.Commit(t.Context(), nil, store.Put("/t/a", []byte("2")))
		took := time.Since(began)
		within(t, "the answer to a write without a leader", took, 2*time.Second)
		if err != nil && !strings.Contains(err.Error(), "the leader changed") {
			t.Errorf("write %d, after %v: %v", n, took, err)
		}
		eventually(t, func() error {
			_, err := c.Commit(t.Context(), nil, store.Put("/t/a", []byte("3")))
			return err
		})
		must(t, c.Close())
		members[dead].start(t)
	}
}
