package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

const writerVariable = "LOCAL_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver commits pairs of equal values, and prints each revision after
// it was acknowledged, until it is killed.
func writeForEver(path string) error {
	s, err := Open(Options{Path: path, Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	ctx := context.Background()
	x, err := s.Session(ctx, time.Second, "")
	for i := 0; err == nil; i++ {
		var rev uint64
		n := fmt.Append(nil, i)
		rev, err = s.Commit(ctx, nil, store.Put("/a", n), store.PutSession("/b", n, x))
		fmt.Println(rev)
	}
	return err
}

// A process killed in the middle of a commit leaves a whole store, with all
// that it acknowledged.
func TestKilled(t *testing.T) {
	o := Options{Path: options(t).Path, Timeout: 10 * time.Second}
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+o.Path)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var acknowledged uint64
		lines := bufio.NewScanner(out)
		for n := 0; n < 5+round && lines.Scan(); n++ {
			_, err := fmt.Sscan(lines.Text(), &acknowledged)
			must(t, err)
		}
		must(t, cmd.Process.Kill())
		for lines.Scan() { // what it printed before it died
			_, _ = fmt.Sscan(lines.Text(), &acknowledged)
		}
		_ = cmd.Wait() // killed

		s, err := Open(o)
		must(t, err)
		kvs, rev, err := s.List(t.Context(), "/")
		must(t, err)
		if rev < acknowledged || acknowledged == 0 || len(kvs) != 2 || string(kvs[0].Value) != string(kvs[1].Value) {
			t.Errorf("killed after revision %d: %v at %d", acknowledged, kvs, rev)
		}
		must(t, s.Close())
	}
	s := open(t, o)
	w := s.Watch(t.Context(), "/b")
	reset(t, w)
	if u := next(t, w); len(u.Gone) != 1 || !u.Gone[0].Expired {
		t.Errorf("the sessions of the dead: %v", u)
	}
	if _, err := s.Get(t.Context(), "/b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
}
