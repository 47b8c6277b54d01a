package storetest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, m *storetest.Memory, key string) uint64 {
	t.Helper()
	rev, err := m.Commit(t.Context(), nil, store.Put(key, nil))
	must(t, err)
	return rev
}

// bubble runs a test with a Memory that is closed at its end.
func bubble(t *testing.T, test func(*testing.T, *storetest.Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		defer m.Close()
		test(t, m)
	})
}

func TestMemoryRefuse(t *testing.T) {
	bubble(t, func(t *testing.T, m *storetest.Memory) {
		other := m.Dial()
		defer other.Close()
		w := m.Watch(t.Context(), "/")
		<-w
		m.Refuse(store.ErrPermission)
		if _, err := m.Commit(t.Context(), nil, store.Put("/a", nil)); !errors.Is(err, store.ErrPermission) {
			t.Errorf("commit: %v", err)
		}
		rev := put(t, other, "/b")
		if u := <-w; u.Rev != rev || u.KVs[0].Key != "/b" {
			t.Errorf("update %v", u)
		}
		m.Refuse(nil)
		put(t, m, "/a")
	})
}

func TestMemorySetRevision(t *testing.T) {
	bubble(t, func(t *testing.T, m *storetest.Memory) {
		put(t, m, "/a")
		w := m.Watch(t.Context(), "/")
		<-w
		for _, rev := range []uint64{1000, 5} {
			m.SetRevision(rev)
			synctest.Wait()
			if u := <-w; u.Kind != store.Reset || u.Rev != rev || u.KVs[0].Rev > rev || m.Revision() != rev {
				t.Errorf("set to %d: %v", rev, u)
			}
			if next := put(t, m, "/b"); next != rev+1 {
				t.Errorf("revision %d after %d", next, rev)
			}
			<-w
		}
	})
}

func TestMemoryExpireSessions(t *testing.T) {
	bubble(t, func(t *testing.T, m *storetest.Memory) {
		w := m.Watch(t.Context(), "/")
		<-w
		x, err := m.Session(t.Context(), time.Minute, "")
		must(t, err)
		y, err := m.Session(t.Context(), time.Hour, "")
		must(t, err)
		_, err = m.Commit(t.Context(), nil, store.PutSession("/x", nil, x), store.PutSession("/y", nil, y), store.Put("/z", nil))
		must(t, err)
		<-w
		m.ExpireSessions()
		if u := <-w; len(u.Gone) != 2 || !u.Gone[0].Expired || !u.Gone[1].Expired {
			t.Errorf("update %v", u)
		}
		<-x.Done()
		<-y.Done()
	})
}

// A session lives while any of its holders' links holds, and a ttl longer.
func TestMemoryTTL(t *testing.T) {
	const ttl = 30 * time.Second
	bubble(t, func(t *testing.T, m *storetest.Memory) {
		other := m.Dial()
		defer other.Close()
		x, err := m.Session(t.Context(), ttl, "")
		must(t, err)
		_, err = m.Commit(t.Context(), nil, store.PutSession("/x", nil, x))
		must(t, err)
		lives := func(want bool, when string) {
			t.Helper()
			synctest.Wait()
			if _, err := other.Get(t.Context(), "/x"); (err == nil) != want {
				t.Errorf("%s: %v", when, err)
			}
		}
		m.Cut()
		time.Sleep(ttl - time.Nanosecond)
		lives(true, "just before its ttl has passed")
		m.Heal()
		time.Sleep(10 * ttl)
		lives(true, "healed in time")
		m.Cut()
		time.Sleep(ttl - time.Nanosecond)
		m.Restart()
		time.Sleep(ttl - time.Nanosecond)
		lives(true, "a restart begins its ttl anew")
		time.Sleep(time.Nanosecond)
		lives(false, "its ttl has passed")
		<-x.Done()
	})
}

// A restored backup brings sessions back whose holders are long gone.
func TestMemorySetBackSession(t *testing.T) {
	bubble(t, func(t *testing.T, m *storetest.Memory) {
		x, err := m.Session(t.Context(), time.Minute, "")
		must(t, err)
		_, err = m.Commit(t.Context(), nil, store.PutSession("/x", nil, x))
		must(t, err)
		setBack := m.Snapshot()
		must(t, x.Close(t.Context()))
		for range 2 {
			setBack()
			_, err = m.Get(t.Context(), "/x")
			must(t, err)
			time.Sleep(time.Minute)
			synctest.Wait()
			if _, err := m.Get(t.Context(), "/x"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("after its ttl: %v", err)
			}
		}
	})
}
